"""Sealing: AES-256-GCM with associated data, and data keys wrapped by keys of a vault.

A sealed value is one version byte, a random nonce of 12 bytes, the ciphertext and its tag: 29 bytes more
than its content. The associated data is not stored: whoever opens a value must name the same row that it
was sealed for, so a value moved to another row does not open.

The keys of a vault are kept apart from what they seal. Dropping one is how content is erased: rows may live
on in backups and dead tuples, unreadable. A key that was dropped must stay dropped when yesterday's copy of
the vault is put back, so the vault keeps a list of what it dropped, written before the key goes and applied
whenever it is opened.
"""

import contextlib
import hashlib
import os
import secrets
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Final, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from perron.chassis.errors import SetupError

KEY_BYTES: Final = 32
_VERSION: Final = b"\x01"
_NONCE_BYTES: Final = 12
_SEALED_KEY_BYTES: Final = KEY_BYTES + 29
_DROP_LIST: Final = "dropped"


class SealBrokenError(Exception):
    """The value was not sealed with this key for this associated data, or was changed since."""


def seal(key: bytes, plaintext: bytes, aad: bytes) -> bytes:
    """Encrypts `plaintext` under a key of 32 bytes, bound to the associated data."""
    nonce = secrets.token_bytes(_NONCE_BYTES)
    return _VERSION + nonce + AESGCM(key).encrypt(nonce, plaintext, aad)


def open_sealed(key: bytes, sealed: bytes, aad: bytes) -> bytes:
    """Decrypts what `seal` returned for the same key and associated data; else raises SealBrokenError."""
    if sealed[:1] != _VERSION:
        raise SealBrokenError("the sealed value has an unknown form")
    nonce, ciphertext = sealed[1 : 1 + _NONCE_BYTES], sealed[1 + _NONCE_BYTES :]
    try:
        return AESGCM(key).decrypt(nonce, ciphertext, aad)
    except (InvalidTag, ValueError):
        raise SealBrokenError("the sealed value does not open") from None


def new_key() -> bytes:
    """Draws a key of 32 bytes."""
    return AESGCM.generate_key(8 * KEY_BYTES)


def wrap(key: bytes, data_key: bytes, aad: bytes) -> bytes:
    """Seals a data key under the key of a vault."""
    return seal(key, data_key, b"data key\0" + aad)


def unwrap(key: bytes, wrapped: bytes, aad: bytes) -> bytes:
    """Opens a data key that `wrap` sealed; else raises SealBrokenError."""
    return open_sealed(key, wrapped, b"data key\0" + aad)


def subkey(key: bytes, purpose: str) -> bytes:
    """Derives a key of 32 bytes for one purpose, so that no secret serves two (HKDF-SHA256, RFC 5869)."""
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=purpose.encode()).derive(key)


class KeyDroppedError(Exception):
    """The vault has no such key: it was dropped, or never made."""


class Vault(Protocol):
    """Keeps keys of 32 bytes by an id that is never used twice."""

    def create(self, key_id: str) -> bytes:
        """Makes the key, durably, and returns it; the one that is there already, if there is.

        Raises KeyDroppedError where a key of this id was dropped.
        """

    def get(self, key_id: str) -> bytes:
        """Returns the key; raises KeyDroppedError where there is none."""

    def drop(self, key_ids: Iterable[str]) -> None:
        """Drops keys for good, durably; those that are not there any more too."""


class FileVault:
    """A vault in a folder: one file per key, for its owner only, sealed under a root key kept elsewhere."""

    def __init__(self, folder: Path, root_key: bytes) -> None:
        """Opens the vault, makes its folder where there is none, and drops what its drop list names.

        Raises SetupError where the folder cannot be made or read.
        """
        self._folder = folder
        self._root_key = subkey(root_key, "vault")
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._list = os.open(folder / _DROP_LIST, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
            with (folder / _DROP_LIST).open("rb") as listed:
                self._dropped = {line.strip().decode() for line in listed if line.endswith(b"\n")}
            for name in self._dropped:
                self._destroy(name)
            _sync(folder)
        except OSError as error:
            raise SetupError(f"key vault {folder}: {error.strerror}") from None

    def create(self, key_id: str) -> bytes:
        """Makes the key, durably, and returns it; the one that is there already, if there is."""
        name = _name(key_id)
        if name in self._dropped:
            raise KeyDroppedError(key_id)
        key = new_key()
        path = self._path(name)
        if not path.parent.is_dir():
            path.parent.mkdir(mode=0o700, exist_ok=True)
            _sync(self._folder)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix="new-")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(seal(self._root_key, key, key_id.encode()))
                file.flush()
                os.fsync(handle)
            os.link(
                temporary, path
            )  # unlike a rename it never replaces the key that another thread made first
        except FileExistsError:
            return self.get(key_id)
        finally:
            Path(temporary).unlink()
        _sync(path.parent)
        return key

    def get(self, key_id: str) -> bytes:
        """Returns the key; raises KeyDroppedError where there is none."""
        name = _name(key_id)
        try:
            sealed = self._path(name).read_bytes()
        except FileNotFoundError:
            raise KeyDroppedError(key_id) from None
        if name in self._dropped:
            raise KeyDroppedError(key_id)
        return open_sealed(self._root_key, sealed, key_id.encode())

    def drop(self, key_ids: Iterable[str]) -> None:
        """Drops keys for good, durably; those that are not there any more too."""
        names = [name for name in map(_name, key_ids) if name not in self._dropped]
        if not names:
            return
        # First the list: from here on the keys are gone, whatever happens to their files.
        os.write(self._list, "".join(f"{name}\n" for name in names).encode())
        os.fsync(self._list)
        self._dropped.update(names)
        for name in names:
            self._destroy(name)
        for folder in {self._path(name).parent for name in names}:
            if folder.is_dir():
                _sync(folder)

    def _destroy(self, name: str) -> None:
        """Overwrites and removes a key's file; on file systems that write in place nothing is left of it."""
        path = self._path(name)
        with contextlib.suppress(FileNotFoundError):
            with path.open("r+b") as file:
                file.write(os.urandom(_SEALED_KEY_BYTES))
                file.flush()
                os.fsync(file.fileno())
            path.unlink()

    def _path(self, name: str) -> Path:
        return self._folder / name[:2] / name


def _name(key_id: str) -> str:
    # A digest: an id is never part of a path.
    return hashlib.sha256(key_id.encode()).hexdigest()


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
