import os
import shutil
import stat
from pathlib import Path

import pytest

from perron.chassis import sealing
from perron.chassis.errors import SetupError
from perron.chassis.sealing import FileVault, KeyDroppedError, SealBrokenError

KEY = bytes(range(32))
ROOT = b"root key"


@pytest.mark.parametrize("content", [b"", b"x", b"a prompt" * 1000])
def test_what_is_sealed_opens(content: bytes) -> None:
    assert sealing.open_sealed(KEY, sealing.seal(KEY, content, b"row"), b"row") == content


def test_sealing_twice_shows_nothing_in_common() -> None:
    assert sealing.seal(KEY, b"content", b"row")[1:13] != sealing.seal(KEY, b"content", b"row")[1:13]


def test_another_row_or_key_does_not_open() -> None:
    sealed = sealing.seal(KEY, b"content", b"row")
    with pytest.raises(SealBrokenError):
        sealing.open_sealed(KEY, sealed, b"other row")
    with pytest.raises(SealBrokenError):
        sealing.open_sealed(bytes(32), sealed, b"row")


def test_no_changed_byte_opens() -> None:
    sealed = sealing.seal(KEY, b"content", b"row")
    for place in range(len(sealed)):
        changed = bytearray(sealed)
        changed[place] ^= 1
        with pytest.raises(SealBrokenError):
            sealing.open_sealed(KEY, bytes(changed), b"row")
    for length in range(len(sealed)):
        with pytest.raises(SealBrokenError):
            sealing.open_sealed(KEY, sealed[:length], b"row")


def test_a_data_key_comes_back_and_is_no_content() -> None:
    wrapped = sealing.wrap(KEY, b"d" * 32, b"row")
    assert sealing.unwrap(KEY, wrapped, b"row") == b"d" * 32
    with pytest.raises(SealBrokenError):
        sealing.open_sealed(KEY, wrapped, b"row")


def test_keys_of_two_purposes_differ() -> None:
    assert sealing.subkey(KEY, "a") != sealing.subkey(KEY, "b")
    assert sealing.subkey(KEY, "a") == sealing.subkey(KEY, "a")
    assert len(sealing.subkey(b"short", "a")) == sealing.KEY_BYTES


def test_a_vault_keeps_keys_over_restarts(tmp_path: Path) -> None:
    key = FileVault(tmp_path / "vault", ROOT).create("epoch_1")
    assert len(key) == sealing.KEY_BYTES
    reopened = FileVault(tmp_path / "vault", ROOT)
    assert reopened.get("epoch_1") == key
    assert reopened.create("epoch_1") == key, "made once"
    assert reopened.create("epoch_2") != key


def test_a_vault_shows_keys_to_its_owner_only_and_not_in_clear(tmp_path: Path) -> None:
    key = FileVault(tmp_path / "vault", ROOT).create("../epoch/1")
    for path in (tmp_path / "vault").rglob("*"):
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o700 if path.is_dir() else 0o600), path
        assert path.is_dir() or key not in path.read_bytes()
    assert not (tmp_path / "epoch").exists()
    with pytest.raises(SealBrokenError):
        FileVault(tmp_path / "vault", b"another root key").get("../epoch/1")


def test_a_dropped_key_is_gone(tmp_path: Path) -> None:
    vault = FileVault(tmp_path / "vault", ROOT)
    vault.create("epoch_1")
    kept = vault.create("epoch_2")
    vault.drop(["epoch_1", "never made"])
    for opened in (vault, FileVault(tmp_path / "vault", ROOT)):
        with pytest.raises(KeyDroppedError):
            opened.get("epoch_1")
        with pytest.raises(KeyDroppedError):
            opened.create("epoch_1")
        assert opened.get("epoch_2") == kept


def test_dropping_overwrites_before_it_removes(tmp_path: Path) -> None:
    vault = FileVault(tmp_path / "vault", ROOT)
    vault.create("epoch_1")
    (path,) = (path for path in (tmp_path / "vault").glob("*/*"))
    before = path.read_bytes()
    os.link(path, tmp_path / "same inode")
    vault.drop(["epoch_1"])
    after = (tmp_path / "same inode").read_bytes()
    assert len(after) == len(before)
    assert after != before


def test_a_dropped_key_stays_dropped_when_its_file_comes_back(tmp_path: Path) -> None:
    vault = FileVault(tmp_path / "vault", ROOT)
    vault.create("epoch_1")
    shutil.copytree(tmp_path / "vault", tmp_path / "yesterday")
    vault.drop(["epoch_1"])
    for copied in (tmp_path / "yesterday").glob("*/*"):
        shutil.copy(copied, tmp_path / "vault" / copied.parent.name / copied.name)
    reopened = FileVault(tmp_path / "vault", ROOT)
    with pytest.raises(KeyDroppedError):
        reopened.get("epoch_1")
    assert not list((tmp_path / "vault").glob("*/*")), "removed when the vault is opened"


def test_a_drop_that_was_interrupted_is_finished_at_the_next_start(tmp_path: Path) -> None:
    vault = FileVault(tmp_path / "vault", ROOT)
    vault.create("epoch_1")
    (path,) = (tmp_path / "vault").glob("*/*")
    with (tmp_path / "vault" / "dropped").open("a") as listed:
        listed.write(f"{path.name}\n{'f' * 10}")  # the process died here, in the middle of the next line
    reopened = FileVault(tmp_path / "vault", ROOT)
    assert not path.exists()
    reopened.create("epoch_2")
    reopened.drop(["epoch_2"])
    with pytest.raises(KeyDroppedError):
        FileVault(tmp_path / "vault", ROOT).get("epoch_2")


def test_a_vault_without_its_folder_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SetupError, match="vault"):
        FileVault(tmp_path / "file", ROOT)
