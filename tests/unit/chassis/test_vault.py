from pathlib import Path

import pytest

from perron.chassis.errors import SetupError
from perron.chassis.vault import Vault, read_root_key

SETTING = "PERRON_SOME_ROOT_KEY_FILE"
KEY_ID = "00ff" * 8


def test_a_key_is_read_again_until_it_is_dropped(tmp_path: Path) -> None:
    vault = Vault(tmp_path, b"r" * 32)
    key = vault.create(KEY_ID)
    assert vault.read(KEY_ID) == key
    vault.drop([KEY_ID, "ff00" * 8])
    assert vault.read(KEY_ID) is None
    vault.drop([KEY_ID])


def test_no_key_lies_in_the_clear_or_open_to_others(tmp_path: Path) -> None:
    key = Vault(tmp_path, b"r" * 32).create(KEY_ID)
    (file,) = (path for path in tmp_path.rglob("*") if path.is_file())
    assert key not in file.read_bytes()
    assert file.stat().st_mode & 0o077 == 0


def test_a_key_moved_to_another_id_does_not_open(tmp_path: Path) -> None:
    vault = Vault(tmp_path, b"r" * 32)
    vault.create(KEY_ID)
    (file,) = tmp_path.glob("??/*.key")
    file.rename(file.with_name("11ff" * 8 + ".key"))
    with pytest.raises(Exception, match="does not open"):
        vault.read("11ff" * 8)


def test_another_root_key_stops_the_start(tmp_path: Path) -> None:
    Vault(tmp_path, b"r" * 32).check()
    Vault(tmp_path, b"r" * 32).create(KEY_ID)
    Vault(tmp_path, b"r" * 32).check()
    with pytest.raises(SetupError, match="another root key"):
        Vault(tmp_path, b"s" * 32).check()


def test_a_vault_that_cannot_be_made_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SetupError, match="vault"):
        Vault(tmp_path / "file" / "vault", b"r" * 32)


@pytest.mark.parametrize("content", [bytes(range(10, 42)), bytes(range(10, 42)).hex().encode() + b"\n"])
def test_the_root_key_is_32_bytes_or_their_digits(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "root").write_bytes(content)
    assert read_root_key(str(tmp_path / "root"), SETTING) == bytes(range(10, 42))


@pytest.mark.parametrize("content", [b"", b"short", b"z" * 64, b"r" * 33])
def test_anything_else_is_no_root_key(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "root").write_bytes(content)
    with pytest.raises(SetupError, match="neither 32 bytes") as raised:
        read_root_key(str(tmp_path / "root"), SETTING)
    assert "short" not in str(raised.value)


def test_a_missing_root_key_is_told_by_its_setting(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=f"^{SETTING}: "):
        read_root_key(str(tmp_path / "none"), SETTING)


def test_a_root_key_that_no_setting_names_is_told_by_that_setting() -> None:
    with pytest.raises(SetupError, match=f"^{SETTING}: no file is named$"):
        read_root_key("", SETTING)
