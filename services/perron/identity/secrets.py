"""Secrets of identity: how keys are made and found again without being kept.

A stored key is the HMAC-SHA256 of its text under a *pepper*, a secret that lies apart from the store.
Whoever has the store alone can neither use a key nor test a guess. Two peppers may be active: the first
digests new keys, both find old ones.
"""

import hmac
from collections.abc import Callable
from typing import Final

from perron.chassis.credentials import BASE62, RANDOM_LENGTH, with_checksum

Randomness = Callable[[int], bytes]
"""Returns that many random bytes; `secrets.token_bytes` in production."""

_UNBIASED_MAX: Final = 248  # 4 * 62: larger bytes are thrown away, so that no letter is likelier than another


class Pepper:
    """One pepper: its id, stored beside each key, and its secret of 32 bytes or more."""

    def __init__(self, pepper_id: str, secret: bytes) -> None:
        self.pepper_id = pepper_id
        self.secret = secret
        self._keyed = hmac.new(
            secret, digestmod="sha256"
        )  # copied for each key: half the cost of keying anew

    def __repr__(self) -> str:
        return f"Pepper({self.pepper_id!r})"

    def digest(self, credential: str) -> bytes:
        """Returns the 32 bytes under which a key is stored."""
        keyed = self._keyed.copy()
        keyed.update(credential.encode())
        return keyed.digest()


def make_credential(environment: str, randomness: Randomness) -> str:
    """Makes a key of 256 random bits: `prn_<environment>_<43 base62><6 base62 CRC32>`."""
    letters: list[str] = []
    while len(letters) < RANDOM_LENGTH:
        letters += [BASE62[byte % 62] for byte in randomness(RANDOM_LENGTH) if byte < _UNBIASED_MAX]
    return with_checksum(environment, "".join(letters[:RANDOM_LENGTH]))
