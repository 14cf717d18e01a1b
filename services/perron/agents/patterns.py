"""Patterns: regular expressions of schemas, such as every engine runs in a time that somebody would wait for.

Gateways check values by engines that go back and try again (as in Python and JavaScript), for which a short
pattern can mean hours. What a newcomer gets wrong: that a pattern compiles says nothing about that. So what
can match in many ways is not repeated: no repetition within a repetition, no alternatives that may begin
alike. This refuses harmless patterns too. What is left may still take a power of the value's length, as three
".*" in a row do.
"""

import re
from dataclasses import dataclass, field
from math import inf
from typing import Final

ATOMS_MAX: Final = 2000
_WAYS_MAX: Final = 16
_PROGRAM_BYTES_MAX: Final = 1 << 20

NO_PATTERN: Final = "a pattern is a regular expression without look-around, flags and references back"
TOO_LONG: Final = f"a pattern has at most {ATOMS_MAX} atoms when counts are written out"
REPEATS_CHOICE: Final = "a pattern repeats no repetition, and no alternatives that may begin alike"

_TOKEN: Final = re.compile(
    r"(?P<times>[*+?]|\{(?P<low>[0-9]+)(?:(?P<range>,)(?P<high>[0-9]*))?\})"
    r"|(?P<opens>\((?:\?:|\?<[A-Za-z]\w*>)?)"
    r"|(?P<closes>\))"
    r"|(?P<bar>\|)"
    r"|(?P<atom>\[(?:\\.|[^\]\\])*\]|\\.|.)",
    re.DOTALL | re.ASCII,
)


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
                groups[-1].take("", inner.ways_in_all(), inner.size)
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
    repeatable: float = 0  # ways of the atom just read; 0 where there is none to repeat
    repeatable_size: int = 0
    may_be_lazy: bool = False

    def begin_alternative(self) -> None:
        self.begins.append("")
        self.atoms = self.repeatable = 0
        self.may_be_lazy = False

    def take(self, atom: str, ways: float, size: int) -> None:
        """Reads an atom: a character, a class, or a group that has ended."""
        self.atoms += 1
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
            if high > 1 and ways > _WAYS_MAX:
                return REPEATS_CHOICE
        elif low != high:
            ways = high + 1 - low
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


def _times(token: re.Match[str]) -> tuple[int, float]:
    """Returns how often a quantifier repeats, at least and at most."""
    if token["low"]:
        low = int(token["low"][:9])
        return low, (int(token["high"][:9]) if token["high"] else inf) if token["range"] else low
    return {"*": (0, inf), "+": (1, inf), "?": (0, 1.0)}[token["times"]]


def _compiles(pattern: str) -> bool:
    import jsonschema_rs  # 7 MB and 30 ms, when the first pattern comes

    options = jsonschema_rs.RegexOptions(size_limit=_PROGRAM_BYTES_MAX)
    try:
        jsonschema_rs.Draft202012Validator({"pattern": pattern}, pattern_options=options)
    except ValueError:
        return False
    return True
