"""Names: display names of agents, aliases, and the marks that an operator reserves.

A name is the user's duty (clause 2-name); what the platform adds is that it can be read, that it is not taken
for another one of the workspace, and that it does not pose as a mark of the operator's. The refusals say the
rule and never repeat the name.

How a store keeps it: every reading of a name is a row, unique within the workspace, so two names that share
one cannot both be there. An alias has one reading. A mark is kept by its keys; a name is refused when one of
its own keys is among them.
"""

import re
import unicodedata
from collections.abc import Iterator
from itertools import accumulate
from typing import Final

from perron.agents.look_alikes import readings
from perron.chassis.errors import InvalidArgument

DISPLAY_NAME_LENGTH_MAX: Final = 64
_COMBINING_MARKS_IN_A_ROW_MAX: Final = 4

_UNSEEN: Final = re.compile(
    r"[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\ufffc\U000e0100-\U000e01ef]"
)
"""Default-ignorable characters that `str.isprintable` lets pass, and two signs that stand for nothing."""

_ALIAS: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


def display_name(text: str, field: str = "display_name") -> str:
    """Returns a display name in the form in which it is kept: NFKC, trimmed, single spaces inside.

    Runs of spaces become one, as whatever shows names shows them; to refuse them would refuse what NFKC makes
    of two wide spaces. Refused are names that are empty or longer than 64 characters, and characters that are
    not seen or change what is seen: controls, directions of writing, joiners (with them, emoji made of
    several), variation selectors, unassigned and private ones, and combining marks that stand first, come
    twice in a row or more than four in a row (UTS #39, section 5.4).

    Raises InvalidArgument, which names the rule.
    """
    name = re.sub(" +", " ", unicodedata.normalize("NFKC", text)).strip(" ")
    if not name:
        raise _refusal(field, "a name has at least one character that is not a space")
    if len(name) > DISPLAY_NAME_LENGTH_MAX:
        raise _refusal(field, f"a name has at most {DISPLAY_NAME_LENGTH_MAX} characters, counted in NFKC")
    if not name.isprintable() or _UNSEEN.search(name):
        raise _refusal(field, "a name has printable characters only")
    if not name.isascii() and _marks_pile_up(name):
        raise _refusal(
            field, "a name has no combining mark first, twice in a row, or more than four in a row"
        )
    return name


def alias(text: str, field: str = "alias") -> str:
    """Returns an alias as it came. Raises InvalidArgument for what is not of its form."""
    if not _ALIAS.fullmatch(text):
        raise _refusal(field, 'an alias has 1 to 64 of a-z, 0-9, ".", "_" and "-", a letter or digit first')
    return text


def alias_reading(text: str) -> str:
    """Returns the one reading of an alias: "m" reads as "rn", "1" as "l", "0" as "o"."""
    (reading,) = readings(text)
    return reading


def listed_as(name: str) -> str:
    """Returns by what a display name is sorted. A reading would not do: it puts "Mail" under r."""
    return unicodedata.normalize("NFKC", name).casefold()


def mark_keys(mark: str, field: str = "names") -> frozenset[str]:
    """Returns the keys of a mark that the operator reserves: its readings, words written together.

    Raises InvalidArgument for what is not a name, or has neither letter nor digit.
    """
    keys = frozenset("".join(_words(reading)) for reading in readings(display_name(mark, field)))
    if "" in keys:
        raise _refusal(field, "a reserved name has a letter or a digit")
    return keys


def keys_within(name: str) -> frozenset[str]:
    """Returns the keys of all marks that a name or alias could hold: it is reserved where one is a mark's.

    A mark is found as whole words, however they are cut, cased and spelt with look-alikes: "Acme" in "ACME ",
    in "acme-support", in "A.C.M.E. desk", and where its A is Cyrillic; "Acme Labs" also in "AcmeLabs". Within
    a word it is not found: "Acmeology" may be somebody else's, and an operator who thinks otherwise names it.
    """
    return frozenset(key for reading in readings(name) for key in _runs(_words(reading)))


def _runs(words: list[str]) -> Iterator[str]:
    """Yields each run of neighbouring words, written together."""
    for first in range(len(words)):
        yield from accumulate(words[first:])


def _words(reading: str) -> list[str]:
    """Returns the runs of letters, digits and the marks on them."""
    return "".join(
        character if character.isalnum() or unicodedata.category(character)[0] == "M" else " "
        for character in reading
    ).split()


def _marks_pile_up(name: str) -> bool:
    row = ""
    for character in unicodedata.normalize("NFD", name):
        if unicodedata.category(character) not in {"Mn", "Me"}:
            row = ""
        elif character in row or len(row) == _COMBINING_MARKS_IN_A_ROW_MAX:
            return True
        else:
            row += character
    return unicodedata.category(name[0])[0] == "M"


def _refusal(field: str, rule: str) -> InvalidArgument:
    return InvalidArgument("FIELD_INVALID", rule, field=field)
