"""JSON read strictly and with places: where a line is at fault, and by which rule.

It is slow, and read are only lines that a fast decoder has refused. What a newcomer gets wrong: `json.loads`
accepts NaN, duplicate keys and lone surrogates, and says nothing of where a value stood.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from perron.finetuning.line_rules import FaultError, Rule

DEPTH_MAX: Final = 64
"""How deep arrays and objects may nest."""

VALUES_MAX: Final = 100_000
"""How many values are told apart in one line, so that a line of commas stays small in memory."""

_scan_string: Final = json.decoder.scanstring  # type: ignore[attr-defined]  # it has no types
_SPACE: Final = re.compile(r"[ \t\r\n]*")
_NUMBER: Final = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_NOT_A_NUMBER: Final = re.compile(r"NaN|-?Infinity")
_CONSTANTS: Final = (("true", True), ("false", False), ("null", None))
_LONE: Final = re.compile(r"[\ud800-\udfff]")
_SURROGATE_ESCAPE: Final = re.compile(r"\\u[dD][89a-fA-F]")


@dataclass(frozen=True, slots=True)
class Node:
    """A value and its place. Objects hold nodes by key, and the places of their keys."""

    place: int
    value: Any
    keys: dict[str, int] = field(default_factory=dict)

    def at(self, path: Sequence[str | int]) -> "Node":
        """Returns the node that the path leads to, or the last one on the way that there is."""
        node = self
        for step in path:
            inside = isinstance(node.value, dict | list)
            if not inside or (step not in node.value if isinstance(step, str) else step >= len(node.value)):
                return node
            node = node.value[step]
        return node


def has_duplicate_keys(line: bytes) -> bool:
    """Tells whether an object within a line of valid JSON names a key twice, or may do so too deep to see."""

    def twice(pairs: list[tuple[str, Any]]) -> None:
        if len({key for key, _ in pairs}) != len(pairs):
            raise FaultError(Rule.DUPLICATE_KEY, 0)

    try:
        json.loads(line, object_pairs_hook=twice, parse_int=len, parse_float=len)
    except (FaultError, RecursionError):
        return True
    return False


def parse(text: str) -> Node:
    """Reads one value that is the whole text. Raises FaultError for the first thing that is wrong."""
    return _Reader(text).read()


class _Reader:
    def __init__(self, text: str) -> None:
        self._text = text
        self._values = 0

    def read(self) -> Node:
        node, end = self._value(self._skip(0), 0)
        end = self._skip(end)
        if end != len(self._text):
            raise FaultError(Rule.NOT_JSON, end)
        return node

    def _value(self, place: int, depth: int) -> tuple[Node, int]:
        self._values += 1
        if self._values > VALUES_MAX:
            raise FaultError(Rule.TOO_MANY_VALUES, place)
        match self._text[place : place + 1]:
            case "{":
                return self._object(place, self._deeper(place, depth))
            case "[":
                return self._array(place, self._deeper(place, depth))
            case '"':
                value, end = self._string(place)
                return Node(place, value), end
            case _:
                return self._scalar(place)

    def _scalar(self, place: int) -> tuple[Node, int]:
        for written, constant in _CONSTANTS:
            if self._text.startswith(written, place):
                return Node(place, constant), place + len(written)
        return self._number(place)

    def _object(self, place: int, depth: int) -> tuple[Node, int]:
        found: dict[str, Node] = {}
        keys: dict[str, int] = {}
        at = self._skip(place + 1)
        if self._text.startswith("}", at):
            return Node(place, found, keys), at + 1
        while True:
            key_place = at
            if not self._text.startswith('"', at):
                raise FaultError(Rule.NOT_JSON, at)
            key, at = self._string(at)
            if key in found:
                raise FaultError(Rule.DUPLICATE_KEY, key_place)
            keys[key] = key_place
            found[key], at = self._value(self._after(at, ":"), depth)
            at = self._skip(at)
            if self._text.startswith("}", at):
                return Node(place, found, keys), at + 1
            at = self._after(at, ",")

    def _array(self, place: int, depth: int) -> tuple[Node, int]:
        found: list[Node] = []
        at = self._skip(place + 1)
        if self._text.startswith("]", at):
            return Node(place, found), at + 1
        while True:
            node, at = self._value(at, depth)
            found.append(node)
            at = self._skip(at)
            if self._text.startswith("]", at):
                return Node(place, found), at + 1
            at = self._after(at, ",")

    def _string(self, place: int) -> tuple[str, int]:
        try:
            value, end = _scan_string(self._text, place + 1, True)
        except json.JSONDecodeError as error:
            rule = Rule.CONTROL_CHARACTER if "control character" in error.msg else Rule.NOT_JSON
            raise FaultError(rule, error.pos) from None
        if _LONE.search(value):
            escape = _SURROGATE_ESCAPE.search(self._text, place, end)
            raise FaultError(Rule.LONE_SURROGATE, escape.start() if escape else place)
        return value, end

    def _number(self, place: int) -> tuple[Node, int]:
        if _NOT_A_NUMBER.match(self._text, place):
            raise FaultError(Rule.NUMBER_NOT_FINITE, place)
        found = _NUMBER.match(self._text, place)
        if found is None:
            raise FaultError(Rule.NOT_JSON, place)
        value = float(found.group())
        if value in {float("inf"), float("-inf")}:
            raise FaultError(Rule.NUMBER_NOT_FINITE, place)
        return Node(place, value), found.end()

    def _deeper(self, place: int, depth: int) -> int:
        if depth == DEPTH_MAX:
            raise FaultError(Rule.NESTED_TOO_DEEP, place)
        return depth + 1

    def _after(self, at: int, mark: str) -> int:
        at = self._skip(at)
        if not self._text.startswith(mark, at):
            raise FaultError(Rule.NOT_JSON, at)
        return self._skip(at + 1)

    def _skip(self, at: int) -> int:
        found = _SPACE.match(self._text, at)
        return found.end() if found else at
