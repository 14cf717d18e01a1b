"""Patterns: regular expressions of schemas, such as every engine runs in a time that somebody would wait for.

Gateways check values by engines that go back and try again (as in Python and JavaScript), for which a short
pattern can mean hours. What a newcomer gets wrong: that a pattern compiles says nothing about that. So what
can match in many ways is not repeated: no repetition within a repetition, no alternatives that may begin
alike. One repetition within another is fine where an atom beside it marks each round, as in "(-[a-z]+)*":
whatever that matches is matched by nothing else of the round, so a text has one way to be cut into rounds.
This refuses harmless patterns too. What is left may still take a power of the value's length, as three ".*"
in a row do.
"""

import re
from collections import Counter
from dataclasses import dataclass, field
from itertools import chain
from math import inf
from typing import Final

ATOMS_MAX: Final = 2000
_WAYS_MAX: Final = 16
_PROGRAM_BYTES_MAX: Final = 1 << 20

NO_PATTERN: Final = "a pattern is a regular expression without look-around, flags and references back"
TOO_LONG: Final = f"a pattern has at most {ATOMS_MAX} atoms when counts are written out"
REPEATS_CHOICE: Final = (
    "a pattern repeats no alternatives that may begin alike, "
    "and no repetition unless a character that nothing else in the group matches stands beside it"
)

_TOKEN: Final = re.compile(
    r"(?P<times>[*+?]|\{(?P<low>[0-9]+)(?:(?P<range>,)(?P<high>[0-9]*))?\})"
    r"|(?P<opens>\((?:\?:|\?<[A-Za-z]\w*>)?)"
    r"|(?P<closes>\))"
    r"|(?P<bar>\|)"
    r"|(?P<atom>\[(?:\\.|[^\]\\])*\]|\\.|.)",
    re.DOTALL | re.ASCII,
)

# Atoms that mean the same in every engine: a character, a shorthand, or a class of these and of ranges.
_KNOWN: Final = re.compile(
    r"[\w ,;:/@#%=!'\"&~<>-]|\\[dws]|\\[!-/:-@\[-`{-~]"
    r"|\[\^?-?(?:\\[dws]|\\[!-/:-@\[-`{-~]|[A-Za-z0-9]-[A-Za-z0-9]|[\w .,;:/@#%=+*!'\"])+-?\]",
    re.ASCII,
)
_PART: Final = re.compile(r"\\.|[A-Za-z0-9]-[A-Za-z0-9]|.", re.DOTALL)
# All of ASCII, and of what else shorthands and negated classes match, one of each sort.
_CHARACTERS: Final = frozenset(map(chr, range(128))) | {"é", "٣", "\u00a0", "∞"}
_SHORTHANDS: Final = {
    name: frozenset(one for one in _CHARACTERS if re.match(rf"\{name}", one)) for name in "dws"
}


def broken_rule(pattern: str) -> str | None:
    """Returns the rule that a pattern breaks; None for one that may be used."""
    groups = [_Group()]
    bare: list[str] = []  # without counts, which are judged here and would only be work for the engine
    for token in _TOKEN.finditer(pattern):
        match token.lastgroup:
            case "opens":
                groups.append(_Group())
            case "closes" if len(groups) == 1:
                return NO_PATTERN
            case "closes":
                inner = groups.pop()
                groups[-1].take("", inner.ways_in_all(), inner.size, is_marked=inner.is_marked())
            case "bar":
                groups[-1].begin_alternative()
            case "times":
                if rule := groups[-1].repeat(*_times(token)):
                    return rule
            case _:
                groups[-1].take(token[0], 1, 1)
        if not token["low"]:
            bare.append(token[0])
    if len(groups) != 1 or not _compiles("".join(bare)):
        return NO_PATTERN
    return TOO_LONG if groups[0].size > ATOMS_MAX else None


@dataclass(slots=True)
class _Group:
    """A group while it is read. `ways` is 1 where nothing in it leaves a choice but its alternatives.

    `begins` has the letter with which each alternative begins, "" where that may differ.
    """

    ways: float = 1
    size: int = 0  # in atoms, counts written out
    begins: list[str] = field(default_factory=lambda: [""])
    atoms: int = 0
    round: list[tuple[str, int, float]] = field(default_factory=list)  # atoms, and how often they are there
    repeatable: float = 0  # ways of the atom just read; 0 where there is none to repeat
    repeatable_size: int = 0
    repeatable_is_marked: bool = False
    may_be_lazy: bool = False

    def begin_alternative(self) -> None:
        self.begins.append("")
        self.atoms = self.repeatable = 0
        self.may_be_lazy = False

    def take(self, atom: str, ways: float, size: int, *, is_marked: bool = False) -> None:
        """Reads an atom: a character, a class, or a group that has ended."""
        self.atoms += 1
        self.round.append((atom, 1, 1))
        self.repeatable_is_marked = is_marked
        if self.atoms == 1 and atom.isalnum():
            self.begins[-1] = atom
        self.ways = max(self.ways, ways)
        self.size += size
        self.repeatable, self.repeatable_size = ways, size
        self.may_be_lazy = False

    def repeat(self, low: int, high: float) -> str | None:
        """Repeats the atom just read. Returns the rule that this breaks."""
        if not self.repeatable:
            if self.may_be_lazy and (low, high) == (0, 1):
                self.may_be_lazy = False
                return None
            return NO_PATTERN
        if low > high:
            return NO_PATTERN
        ways = self.repeatable
        if ways > 1:
            ways *= max(high, 1)
            if high > 1 and ways > _WAYS_MAX and not self.repeatable_is_marked:
                return REPEATS_CHOICE
        elif low != high:
            ways = high + 1 - low
        self.round[-1] = (self.round[-1][0], low, high)
        if low == 0 and self.atoms == 1:
            self.begins[-1] = ""
        self.ways = max(self.ways, ways)
        self.size += self.repeatable_size * (max(low if high == inf else int(high), 1) - 1)
        self.repeatable, self.may_be_lazy = 0, True
        return None

    def ways_in_all(self) -> float:
        """Returns in how many ways a repetition of the whole group could match."""
        apart = "" not in self.begins and len(set(self.begins)) == len(self.begins)
        return self.ways if apart or len(self.begins) == 1 else inf

    def is_marked(self) -> bool:
        """Says whether an atom, there once in every round, keeps rounds of the whole group apart.

        Its characters are matched by no other atom, and one other is repeated, so the rest has one length.
        """
        runs = sum(low != high for _, low, high in self.round)
        if len(self.begins) > 1 or runs != 1 or not all(_KNOWN.fullmatch(atom) for atom, _, _ in self.round):
            return False
        matched = [_characters(atom) for atom, _, _ in self.round]
        often = Counter(chain.from_iterable(matched))
        return any(
            low == high == 1 and all(often[one] == 1 for one in mine)
            for mine, (_, low, high) in zip(matched, self.round, strict=True)
        )


def _times(token: re.Match[str]) -> tuple[int, float]:
    """Returns how often a quantifier repeats, at least and at most."""
    if token["low"]:
        low = int(token["low"][:9])
        return low, (int(token["high"][:9]) if token["high"] else inf) if token["range"] else low
    return {"*": (0, inf), "+": (1, inf), "?": (0, 1.0)}[token["times"]]


def _characters(atom: str) -> frozenset[str]:
    """Returns which of the characters that make a difference a known atom matches."""
    is_class = atom.startswith("[")
    parts = _PART.findall(atom[1:-1].removeprefix("^") if is_class else atom)
    found: set[str] = set()
    for part in parts:
        if part[0] == "\\":
            found |= _SHORTHANDS.get(part[1], {part[1]})
        else:
            found.update(map(chr, range(ord(part[0]), ord(part[-1]) + 1)))
    return _CHARACTERS - found if atom.startswith("[^") else frozenset(found)


def _compiles(pattern: str) -> bool:
    import jsonschema_rs  # 7 MB and 30 ms, when the first pattern comes

    options = jsonschema_rs.RegexOptions(size_limit=_PROGRAM_BYTES_MAX)
    try:
        jsonschema_rs.Draft202012Validator({"pattern": pattern}, pattern_options=options)
    except ValueError:
        return False
    return True
