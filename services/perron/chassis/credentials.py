"""The form of API keys: `prn_<environment>_<43 random base62><6 base62 CRC32>`.

The checksum lets any service refuse a typo without asking anybody (1 in 4 billion passes). It proves nothing:
whether a well-formed key exists, only identity knows.
"""

import re
import zlib
from typing import Final

BASE62: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
RANDOM_LENGTH: Final = 43  # 43 base62 characters carry 256 bits
_PAIRS: Final = tuple(high + low for high in BASE62 for low in BASE62)
_PAIR: Final = len(_PAIRS)

# [0-9A-Za-z] rather than \w: look-alikes must not pass; fullmatch refuses a final newline too.
_FORM: Final = re.compile(r"(prn_[a-z0-9]{1,16}_[0-9A-Za-z]{43})([0-9A-Za-z]{6})")


def is_well_formed(credential: str) -> bool:
    """Says whether the text has the form of an API key and its checksum fits."""
    match = _FORM.fullmatch(credential)
    return match is not None and checksum(match[1]) == match[2]


def with_checksum(environment: str, secret: str) -> str:
    """Returns the full key for 43 random base62 characters in an environment, for instance "live"."""
    body = f"prn_{environment}_{secret}"
    return body + checksum(body)


def checksum(body: str) -> str:
    """Returns the CRC32 of everything that stands before it, as six base62 digits, most significant first."""
    value = zlib.crc32(body.encode("ascii"))  # 62^6 > 2^32
    # Two digits at a time: every call of the suite passes here.
    return _PAIRS[value // _PAIR // _PAIR] + _PAIRS[value // _PAIR % _PAIR] + _PAIRS[value % _PAIR]
