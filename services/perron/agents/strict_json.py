"""Strict JSON: one text, one meaning, as in I-JSON (RFC 7493), and no deeper than a reader can follow.

What a newcomer gets wrong: `json.loads` takes NaN, keys that come twice and halves of surrogate pairs, and
another reader takes them for something else.
"""

import json
import re
from collections.abc import Iterator
from typing import Any, Final, NoReturn

from perron.agents.texts import first_refused

Pointer = tuple[str, ...]
"""Where in a document: keys and indices from the top on."""

DEPTH_MAX: Final = 32
_FLOAT_BITS_MAX: Final = 1023
_STRING: Final = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
_BRACKET: Final = re.compile(r"[][{}]")


class RuleBrokenError(Exception):
    """The text breaks a rule: which, and where as far as that is known."""

    def __init__(self, rule: str, pointer: Pointer = ()) -> None:
        super().__init__(rule)
        self.rule = rule
        self.pointer = pointer


def parse(text: str) -> Any:
    """Parses a text. Raises RuleBrokenError."""
    depth = 0
    for bracket in _BRACKET.findall(_STRING.sub("", text)):
        depth += 1 if bracket in "[{" else -1
        if depth > DEPTH_MAX:
            raise RuleBrokenError(f"the nesting is at most {DEPTH_MAX} deep")
    try:
        parsed = json.loads(text, object_pairs_hook=_Object, parse_constant=_refuse_constant)
    except ValueError:
        raise RuleBrokenError("the text is one JSON value and nothing else") from None
    for pointer, value in _values(parsed, ()):
        if rule := _broken_rule(value):
            raise RuleBrokenError(rule, pointer)
    return parsed


class _Object(dict[str, Any]):
    """An object that remembers whether a key came twice."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self.has_twins = len(self) != len(pairs)


def _values(value: Any, pointer: Pointer) -> Iterator[tuple[Pointer, Any]]:
    """Yields every value with its place, from the outside in."""
    yield pointer, value
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inner:
        yield from _values(one, (*pointer, str(key)))


def _broken_rule(value: Any) -> str | None:
    match value:
        case _Object() if value.has_twins:
            return "the keys of an object are distinct"
        case _Object() if any(first_refused(key) is not None for key in value):
            return "keys have no controls, directions of writing and undrawn characters"
        case str() if first_refused(value) is not None:
            return "strings have no controls, directions of writing and undrawn characters"
        case float() if value in {float("inf"), float("-inf")}:
            return "numbers are within the range of a double"
        case int() if value.bit_length() > _FLOAT_BITS_MAX:
            return "numbers are within the range of a double"
    return None


def _refuse_constant(_: str) -> NoReturn:
    raise ValueError
