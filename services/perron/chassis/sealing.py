"""Sealing: AES-256-GCM with associated data, and data keys wrapped by keys of a vault.

A sealed value is one version byte, a random nonce of 12 bytes, the ciphertext and its tag: 29 bytes more
than its content. The associated data is not stored: whoever opens a value must name the same row that it
was sealed for, so a value moved to another row does not open.

What a newcomer gets wrong: the key that wraps data keys lies elsewhere than what they seal. Dropping it is
how content is erased: rows may live on in backups and dead tuples, unreadable.
"""

import secrets
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

KEY_BYTES: Final = 32
_VERSION: Final = b"\x01"
_NONCE_BYTES: Final = 12


class SealBrokenError(Exception):
    """The value was not sealed with this key for this associated data, or was changed since."""


def seal(key: bytes, plaintext: bytes, aad: bytes) -> bytes:
    """Encrypts `plaintext` under a key of 32 bytes, bound to the associated data."""
    nonce = secrets.token_bytes(_NONCE_BYTES)
    return _VERSION + nonce + AESGCM(key).encrypt(nonce, plaintext, aad)


def prepared(key: bytes) -> AESGCM:
    """Sets a key up once for whoever opens much with it; who keeps this keeps the key."""
    return AESGCM(key)


def open_sealed(key: bytes | AESGCM, sealed: bytes, aad: bytes) -> bytes:
    """Decrypts what `seal` returned for the same key and associated data; else raises SealBrokenError."""
    if sealed[:1] != _VERSION:
        raise SealBrokenError("the sealed value has an unknown form")
    nonce, ciphertext = sealed[1 : 1 + _NONCE_BYTES], sealed[1 + _NONCE_BYTES :]
    try:
        cipher = AESGCM(key) if isinstance(key, bytes) else key
        return cipher.decrypt(nonce, ciphertext, aad)
    except (InvalidTag, ValueError):
        raise SealBrokenError("the sealed value does not open") from None


def new_key() -> bytes:
    """Draws a key of 32 bytes."""
    return AESGCM.generate_key(8 * KEY_BYTES)


def wrap(key: bytes, data_key: bytes, aad: bytes) -> bytes:
    """Seals a data key under the key of a vault."""
    return seal(key, data_key, b"data key\0" + aad)


def unwrap(key: bytes | AESGCM, wrapped: bytes, aad: bytes) -> bytes:
    """Opens a data key that `wrap` sealed; else raises SealBrokenError."""
    return open_sealed(key, wrapped, b"data key\0" + aad)


def subkey(key: bytes, purpose: str) -> bytes:
    """Derives a key of 32 bytes for one purpose, so that no secret serves two (HKDF-SHA256, RFC 5869)."""
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=purpose.encode()).derive(key)
