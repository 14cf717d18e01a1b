"""Look-alikes: which texts a reader may take for one another, by the confusables of Unicode (UTS #39).

What a newcomer gets wrong: there is no one key under which all look-alikes meet and nothing else. A capital
I looks like l, and in small letters it is i; a capital Greek Nu looks like N, and its small letter like v. A
key that follows both look and case would take "Mail" for "Mall" and "net" for "vet". So a text has up to
three readings, and two texts are look-alikes when they share one.

The readings of a text never change: Unicode keeps normalization and case of assigned characters as they are,
and the list of confusables is this package's own copy. Who replaces it computes stored readings again.
"""

import unicodedata
from functools import cache
from importlib import resources
from typing import Final

_CAPITAL_I: Final = str.maketrans(dict.fromkeys("I\u0196\u0399\u0406\u2c92", "i"))
"""Capitals that look like l, of letters that look like i, in Latin, Greek, Cyrillic and Coptic."""


def readings(text: str) -> frozenset[str]:
    """Returns the one to three ways to read a text: as it is written, with capital I for i, in small letters.

    Texts that differ in case or in compatibility forms (NFKC) share a reading, and so do texts with the same
    skeleton. Readings are for comparison, never for display.
    """
    text = unicodedata.normalize("NFKD", text)  # before the case: marks in another order fold differently
    return frozenset(map(_settled, {text, text.translate(_CAPITAL_I), text.casefold()}))


def _settled(text: str) -> str:
    """Takes skeleton and case until neither changes anything: the skeleton of 0 is O, and that of m is rn.

    The skeleton is that of UTS #39, section 4, but in NFKD, as some prototypes have compatibility forms.
    Being repeated, it is idempotent, as the standard's is not where a prototype has a prototype itself.
    """
    while (folded := _folded(text)) != text:
        text = folded
    return text


def _folded(text: str) -> str:
    return unicodedata.normalize("NFKD", text.translate(_prototypes()).casefold())


@cache
def _prototypes() -> dict[int, str]:
    """Reads the confusables: 82 kB, once, when the first name is compared."""
    lines = (resources.files(__package__) / "unicode" / "confusables.txt").read_text("utf-8").splitlines()
    pairs = (line.split(";") for line in lines if not line.startswith("#"))
    return {
        int(given, 16): "".join(chr(int(point, 16)) for point in prototype.split())
        for given, prototype in pairs
    }
