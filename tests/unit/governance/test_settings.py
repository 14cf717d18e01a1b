"""What cannot work stops the start with one line."""

from pathlib import Path

import pytest

from perron.chassis import credentials
from perron.chassis.errors import SetupError
from perron.chassis.vault import Vault
from perron.governance import app
from perron.governance.settings import Settings


def environment(folder: Path) -> dict[str, str]:
    (folder / "root").write_bytes(b"r" * 32)
    (folder / "key").write_text(credentials.with_checksum("test", "k" * 43))
    return {
        "PERRON_GOVERNANCE_DATABASE_URL": f"sqlite:///{folder / 'governance.db'}",
        "PERRON_GOVERNANCE_KEY_FILE": str(folder / "key"),
        "PERRON_GOVERNANCE_ROOT_KEY_FILE": str(folder / "root"),
        "PERRON_GOVERNANCE_VAULT_FOLDER": str(folder / "vault"),
    }


def test_the_lengths_that_an_operator_shortened_are_the_rules(tmp_path: Path) -> None:
    given = environment(tmp_path) | {"PERRON_GOVERNANCE_PAID_INFERENCE_DAYS": "7"}
    rulebook = app.rulebook(Settings.read(given))
    lengths = {
        deadline.days
        for rule in rulebook.terms[0].rules
        if rule.name == "paid-inference"
        for permission in rule.outcome.permissions
        for deadline in permission.deadlines
    }
    assert lengths == {0, 7}


@pytest.mark.parametrize(
    ("name", "value", "fault"),
    [
        ("FREE_INFERENCE_DAYS", "366", "may only shorten"),
        ("FREE_INFERENCE_DAYS", "0", "FREE_INFERENCE_DAYS"),
        ("TRAIN_ON_FINE_TUNING_DATA", "perhaps", "TRAIN_ON_FINE_TUNING_DATA"),
        ("RULES_FILE", "/nowhere.yaml", "nowhere"),
        ("ROOT_KEY_FILE", "/nowhere", "ROOT_KEY_FILE"),
        ("ROOT_KEY_FILE", "", "no file is named"),
        ("KEY_FILE", "/nowhere", "KEY_FILE"),
        ("VAULT_FOLDER", "/dev/null/vault", "vault"),
        ("VAULT", "x", "there is no such setting"),
    ],
)
def test_a_setting_at_fault_is_named(tmp_path: Path, name: str, value: str, fault: str) -> None:
    given = environment(tmp_path) | {f"PERRON_GOVERNANCE_{name}": value}
    with pytest.raises(SetupError, match=fault) as raised:
        app.build(Settings.read(given))
    assert "\n" not in str(raised.value)


def test_a_root_key_that_is_not_the_vaults_stops_the_start(tmp_path: Path) -> None:
    given = environment(tmp_path)
    Vault(tmp_path / "vault", b"s" * 32).create("00ff" * 8)
    with pytest.raises(SetupError, match="another root key"):
        app.build(Settings.read(given))
