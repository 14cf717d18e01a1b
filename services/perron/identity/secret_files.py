"""Files that hold the secrets of identity: peppers, signing keys, the first operator key.

Each is one secret a line, readable by its owner alone. A file that is missing is drawn in memory first and
written only when the store has been found to need it: a lost pepper must not be replaced silently, for
every key would be UNKNOWN from then on.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Final, Generic, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from perron.chassis.clock import Clock, to_us
from perron.chassis.credentials import is_well_formed
from perron.chassis.errors import SetupError
from perron.chassis.passports import LIFETIME_SECONDS, SigningKey
from perron.identity.secrets import Pepper, Randomness, make_credential

_PEPPERS_MAX: Final = 2
_SECRET_BYTES: Final = 32
_FILE_BYTES_MAX: Final = 65_536

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class SecretFile(Generic[T]):
    """What a file holds, or will hold: `unwritten` is the text of one that does not exist yet."""

    path: Path
    content: T
    unwritten: str

    def __repr__(self) -> str:
        return f"SecretFile({str(self.path)!r})"

    def write(self) -> None:
        """Writes the file if there is none. Raises SetupError where it cannot be, or is there by now."""
        if self.unwritten:
            _write(self.path, self.unwritten)


def peppers(setting: str, path: str, randomness: Randomness) -> SecretFile[tuple[Pepper, ...]]:
    """Reads the pepper file, or draws one pepper. Raises SetupError for a file of another form."""
    drawn = f"p1 {randomness(_SECRET_BYTES).hex()}\n"
    found = _read_or(setting, path, lambda: drawn)
    read = tuple(_pepper(setting, line) for line in found.content.splitlines() if line.strip())
    if not 1 <= len(read) <= _PEPPERS_MAX or len({pepper.pepper_id for pepper in read}) != len(read):
        raise SetupError(f"{setting}: one or two peppers with ids of their own are needed")
    return SecretFile(found.path, read, found.unwritten)


def signing_keys(
    setting: str, path: str, clock: Clock, randomness: Randomness
) -> SecretFile[tuple[SigningKey, ...]]:
    """Reads the keys that sign passports, or draws one. Raises SetupError for a file of another form.

    All but the eldest sign only when every service has had a passport's lifetime to learn of them.
    """
    now = clock.now()
    drawn = (
        f"k{now:%Y%m%d} {randomness(_SECRET_BYTES).hex()} {now.replace(microsecond=0):%Y-%m-%dT%H:%M:%SZ}\n"
    )
    found = _read_or(setting, path, lambda: drawn)
    read = [_signing_key(setting, line) for line in found.content.splitlines() if line.strip()]
    if not read or len({key.kid for key in read}) != len(read):
        raise SetupError(f"{setting}: at least one key is needed, each with a kid of its own")
    if any(later.signs_from_us <= former.signs_from_us for former, later in pairwise(read)):
        raise SetupError(f"{setting}: each key must sign from a later time than the one in the line before")
    if read[0].signs_from_us > to_us(now):
        raise SetupError(f"{setting}: no key signs yet; keep the former one until the next takes over")
    earliest_us = to_us(now) + LIFETIME_SECONDS * 1_000_000
    learnt = tuple(SigningKey(key.kid, key.private, max(key.signs_from_us, earliest_us)) for key in read[1:])
    return SecretFile(found.path, (read[0], *learnt), found.unwritten)


def bootstrap_credential(setting: str, path: str, environment: str, randomness: Randomness) -> str:
    """Reads the first operator key, or makes one and writes it. Raises SetupError if neither works."""
    made = make_credential(environment, randomness)
    found = _read_or(setting, path, lambda: made + "\n")
    credential = found.content.strip()
    if not is_well_formed(credential):
        raise SetupError(f"{setting}: {path} does not hold a key")
    found.write()
    return credential


def _read_or(setting: str, path: str, draw: Callable[[], str]) -> SecretFile[str]:
    if not path:
        raise SetupError(f"{setting}: no file is named")
    try:
        with Path(path).open("rb") as file:
            return SecretFile(Path(path), file.read(_FILE_BYTES_MAX).decode("ascii"), "")
    except FileNotFoundError:
        text = draw()
        return SecretFile(Path(path), text, text)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a file of secrets"
        raise SetupError(f"{setting}: {path}: {reason}") from None


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise SetupError(f"{path}: cannot be written: {error.strerror}") from None


def _pepper(setting: str, line: str) -> Pepper:
    parts = line.split()
    if len(parts) != 2:
        raise SetupError(f"{setting}: each line is `<id> <64 hex digits>`")
    return Pepper(parts[0], _secret(setting, parts[1]))


def _signing_key(setting: str, line: str) -> SigningKey:
    parts = line.split()
    if len(parts) != 3:
        raise SetupError(f"{setting}: each line is `<kid> <64 hex digits> <time>`")
    try:
        signs_from = datetime.fromisoformat(parts[2]).astimezone(UTC)
    except ValueError:
        raise SetupError(f"{setting}: a time is not of RFC 3339") from None
    private = Ed25519PrivateKey.from_private_bytes(_secret(setting, parts[1]))
    return SigningKey(parts[0], private, to_us(signs_from))


def _secret(setting: str, text: str) -> bytes:
    try:
        secret = bytes.fromhex(text)
    except ValueError:
        secret = b""
    if len(secret) != _SECRET_BYTES:
        raise SetupError(f"{setting}: a secret is 64 hex digits")
    return secret
