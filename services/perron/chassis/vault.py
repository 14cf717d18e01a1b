"""The vault: keys in files of their own, apart from the database, wrapped under the root key of the service.

Dropping a key is how content is erased: at once, everywhere, whatever copies of the database there are. So
the vault never keeps a key in memory beyond the call that asked for it, and its folder never goes into the
same backup as the database.
"""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from perron.chassis.errors import SetupError
from perron.chassis.sealing import KEY_BYTES, SealBrokenError, new_key, prepared, unwrap, wrap

_OWNER_ONLY: Final = 0o600
_WRAPPED_BYTES_MAX: Final = 256


class Vault:
    """Keys by their ids: random, hexadecimal, drawn by the service for each new key, never by a caller.

    An id is a file name and is never used twice: after a crash in the middle of `create` its draft stays.
    """

    def __init__(self, folder: Path, root_key: bytes) -> None:
        self._folder = folder
        self._root_key = root_key
        self._opening = prepared(root_key)
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise SetupError(f"vault {folder}: {error.strerror}") from None

    def create(self, key_id: str) -> bytes:
        """Draws a new key and returns it once it is durable."""
        key = new_key()
        path = self._path(key_id)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        draft = path.with_suffix(".new")
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _OWNER_ONLY), "wb") as file:  # noqa: PTH123 (a mode from the start)
            file.write(wrap(self._root_key, key, key_id.encode()))
            file.flush()
            os.fsync(file.fileno())
        draft.rename(path)
        _sync(path.parent)
        _sync(self._folder)
        return key

    def read(self, key_id: str) -> bytes | None:
        """Returns a key; None where it was dropped.

        Raises SealBrokenError where it was wrapped under another root key.
        """
        try:
            descriptor = os.open(self._place(key_id), os.O_RDONLY)
        except FileNotFoundError:
            return None
        try:  # plainly: this is done for every tenant in a batch, and a Path costs more than the file
            wrapped = os.read(descriptor, _WRAPPED_BYTES_MAX)
        finally:
            os.close(descriptor)
        return unwrap(self._opening, wrapped, key_id.encode())

    def drop(self, key_ids: Iterable[str]) -> None:
        """Destroys keys for good; those that are gone already are passed over."""
        folders = set()
        for key_id in key_ids:
            path = self._path(key_id)
            path.unlink(missing_ok=True)
            if path.parent.is_dir():
                folders.add(path.parent)
        for folder in folders:
            _sync(folder)

    def check(self) -> None:
        """Tries the root key on one key of the vault. Raises SetupError where it does not fit."""
        some = next(self._folder.glob("??/*.key"), None)
        try:
            if some is not None:
                self.read(some.stem)
        except SealBrokenError:
            raise SetupError(f"vault {self._folder}: its keys are wrapped under another root key") from None

    def _path(self, key_id: str) -> Path:
        return Path(self._place(key_id))

    def _place(self, key_id: str) -> str:
        return f"{self._folder}/{key_id[-2:]}/{key_id}.key"


def read_root_key(path: str, setting: str) -> bytes:
    """Reads the root key: a file of 32 bytes, or of their 64 hexadecimal digits.

    Raises SetupError, which names the setting that holds the path.
    """
    if not path:
        raise SetupError(f"{setting}: no file is named")
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise SetupError(f"{setting}: {path}: {error.strerror}") from None
    if len(content) == KEY_BYTES:
        return content
    try:
        key = bytes.fromhex(content.decode("ascii"))
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise SetupError(f"{setting}: {path}: holds neither 32 bytes nor 64 hexadecimal digits")
    return key


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
