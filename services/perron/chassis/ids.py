"""Identifiers: a prefix that names the kind, and a UUIDv7, which sorts by time.

An id looks like `org_01jd2v7yh8e6rbf3c9x5m0t4qa`: the TypeID form, 26 characters of Crockford's base32 in
lower case. Tables written once per request keep the 16 raw bytes; all others, and every message, keep the
text. An id is never part of a path and never says anything about what it names.
"""

from collections.abc import Callable
from typing import Final

import uuid_utils

from perron.chassis.errors import InvalidArgument

IdSource = Callable[[str], str]
"""Makes a new id of the kind that the prefix names; `new_id` in production, a counter in tests."""

_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"
_PAIRS: Final = tuple(high + low for high in _ALPHABET for low in _ALPHABET)
# int() reads 0-9a-v; everything outside Crockford's letters becomes "!", which it refuses ("_" and " " it
# would take).
_AS_BASE_32: Final = bytes(
    "0123456789abcdefghijklmnopqrstuv"[_ALPHABET.index(chr(code))].encode()[0]
    if chr(code) in _ALPHABET
    else ord("!")
    for code in range(256)
)
_SUFFIX_LENGTH: Final = 26


def new_id(prefix: str) -> str:
    """Makes an id that was never given out, later in order than those made before it in this process."""
    return from_bytes(prefix, new_bytes())


def new_bytes() -> bytes:
    """Makes the 16 bytes of a new id, for rows whose kind its column says."""
    return uuid_utils.uuid7().bytes


def from_bytes(prefix: str, raw: bytes) -> str:
    """Writes the text of the id whose 16 bytes are `raw`."""
    high = int.from_bytes(raw[:8], "big")
    low = int.from_bytes(raw[8:16], "big")
    pairs = _PAIRS
    # 128 bits in 13 pairs of ten, counted from the right: six of the low half, one over the seam, six of
    # the high half.
    suffix = (
        f"{pairs[high >> 56]}{pairs[high >> 46 & 1023]}{pairs[high >> 36 & 1023]}{pairs[high >> 26 & 1023]}"
        f"{pairs[high >> 16 & 1023]}{pairs[high >> 6 & 1023]}{pairs[(high & 63) << 4 | low >> 60]}"
        f"{pairs[low >> 50 & 1023]}{pairs[low >> 40 & 1023]}{pairs[low >> 30 & 1023]}"
        f"{pairs[low >> 20 & 1023]}{pairs[low >> 10 & 1023]}{pairs[low & 1023]}"
    )
    return f"{prefix}_{suffix}"


def to_bytes(identifier: str) -> bytes:
    """Reads the 16 bytes of an id; raises InvalidArgument for one that was never given out."""
    suffix = identifier[identifier.rfind("_") + 1 :]
    # 26 characters hold 130 bits: the first is at most "7".
    if len(suffix) != _SUFFIX_LENGTH or suffix[0] > "7":
        raise _malformed()
    try:
        return int(suffix.encode("ascii").translate(_AS_BASE_32), 32).to_bytes(16, "big")
    except ValueError:
        raise _malformed() from None


def _malformed() -> InvalidArgument:
    return InvalidArgument("FIELD_INVALID", "the id is not of the form that this platform gives out")
