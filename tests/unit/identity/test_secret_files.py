import secrets
import stat
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from perron.chassis.clock import to_us
from perron.chassis.errors import SetupError
from perron.chassis.passports import LIFETIME_SECONDS
from perron.chassis.testing import FakeClock
from perron.identity import secret_files

SECRET = "ab" * 32


def signing(clock: FakeClock, path: Path) -> Any:
    return secret_files.signing_keys("SETTING", str(path), clock, secrets.token_bytes)


def test_a_missing_file_is_drawn_and_only_written_when_told(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "pepper"
    drawn = secret_files.peppers("SETTING", str(path), secrets.token_bytes)
    assert not path.exists()
    drawn.write()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    again = secret_files.peppers("SETTING", str(path), secrets.token_bytes)
    assert again.content[0].secret == drawn.content[0].secret
    assert not again.unwritten


def test_a_file_that_appeared_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    drawn = secret_files.peppers("SETTING", str(tmp_path / "pepper"), secrets.token_bytes)
    (tmp_path / "pepper").write_text("theirs")
    with pytest.raises(SetupError, match="cannot be written"):
        drawn.write()
    assert (tmp_path / "pepper").read_text() == "theirs"


def test_the_first_pepper_comes_first_and_two_may_be_active(tmp_path: Path) -> None:
    (tmp_path / "pepper").write_text(f"p2 {SECRET}\np1 {'cd' * 32}\n")
    read = secret_files.peppers("SETTING", str(tmp_path / "pepper"), secrets.token_bytes)
    assert [pepper.pepper_id for pepper in read.content] == ["p2", "p1"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "p1",
        f"p1 {SECRET[2:]}",
        "p1 zz",
        f"a {SECRET}\na {SECRET}",
        f"a {SECRET}\nb {SECRET}\nc {SECRET}",
        "ü",
    ],
)
def test_a_pepper_file_of_another_form_is_refused_without_its_content(tmp_path: Path, text: str) -> None:
    (tmp_path / "pepper").write_text(text)
    with pytest.raises(SetupError) as caught:
        secret_files.peppers("SETTING", str(tmp_path / "pepper"), secrets.token_bytes)
    assert SECRET[2:10] not in str(caught.value)


def test_a_folder_in_place_of_a_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="SETTING"):
        secret_files.peppers("SETTING", str(tmp_path), secrets.token_bytes)
    with pytest.raises(SetupError, match="no file is named"):
        secret_files.peppers("SETTING", "", secrets.token_bytes)


def test_a_sole_signing_key_signs_at_once_and_survives_a_restart(tmp_path: Path, clock: FakeClock) -> None:
    drawn = signing(clock, tmp_path / "signing")
    assert drawn.content[0].signs_from_us <= clock.now_us()
    drawn.write()
    clock.advance(timedelta(days=1))
    assert [key.kid for key in signing(clock, tmp_path / "signing").content] == [drawn.content[0].kid]


def test_a_new_signing_key_is_published_one_lifetime_before_it_signs(
    tmp_path: Path, clock: FakeClock
) -> None:
    (tmp_path / "signing").write_text(
        f"old {SECRET} 2024-01-01T00:00:00Z\nnew {'cd' * 32} 2024-06-01T00:00:00Z\n"
    )
    old, new = signing(clock, tmp_path / "signing").content
    assert (old.kid, new.kid) == ("old", "new")
    assert new.signs_from_us == to_us(clock.now()) + LIFETIME_SECONDS * 1_000_000


def test_a_new_signing_key_that_pretends_to_be_older_is_refused(tmp_path: Path, clock: FakeClock) -> None:
    (tmp_path / "signing").write_text(
        f"old {SECRET} 2024-06-01T00:00:00Z\nnew {'cd' * 32} 2024-01-01T00:00:00Z\n"
    )
    with pytest.raises(SetupError, match="a later time than the one in the line before"):
        signing(clock, tmp_path / "signing")


def test_a_file_in_which_no_key_signs_yet_is_refused(tmp_path: Path, clock: FakeClock) -> None:
    (tmp_path / "signing").write_text(f"k1 {SECRET} 2099-01-01T00:00:00Z\n")
    with pytest.raises(SetupError, match="no key signs yet"):
        signing(clock, tmp_path / "signing")


def test_a_bootstrap_file_with_a_mistyped_key_is_refused(tmp_path: Path) -> None:
    (tmp_path / "operator").write_text("prn_live_nonsense")
    with pytest.raises(SetupError, match="does not hold a key"):
        secret_files.bootstrap_credential("SETTING", str(tmp_path / "operator"), "live", secrets.token_bytes)


def test_a_bootstrap_key_is_the_same_at_the_second_try(tmp_path: Path) -> None:
    path = str(tmp_path / "operator")
    first = secret_files.bootstrap_credential("SETTING", path, "live", secrets.token_bytes)
    assert secret_files.bootstrap_credential("SETTING", path, "live", secrets.token_bytes) == first
