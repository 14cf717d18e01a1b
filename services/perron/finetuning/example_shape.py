"""The shape of an example as a table, by which a line that the fast decoder refuses is explained."""

from dataclasses import dataclass
from typing import Any, Final

from perron.finetuning.line_rules import FaultError, Rule
from perron.finetuning.strict_json import Node


@dataclass(frozen=True, slots=True)
class _Field:
    """What a key must hold, and the rule that is broken where it does not.

    `kind` is a type or several, a set of words, a list with the table of its objects, or such a table.
    """

    rule: Rule
    kind: Any
    required: bool = False


_Table = dict[str, _Field]
_TYPE: Final = frozenset({"function"})


def _tool_table(rule: Rule, function: _Table, **more: _Field) -> _Table:
    return more | {"function": _Field(rule, function, required=True), "type": _Field(rule, _TYPE)}


_CALL: Final = _tool_table(
    Rule.TOOL_CALL_INVALID,
    {
        "name": _Field(Rule.TOOL_CALL_INVALID, str, required=True),
        "arguments": _Field(Rule.TOOL_CALL_INVALID, str, required=True),
    },
    id=_Field(Rule.TOOL_CALL_INVALID, str, required=True),
)
_TOOL: Final = _tool_table(
    Rule.TOOLS_INVALID,
    {
        "name": _Field(Rule.TOOLS_INVALID, str, required=True),
        "description": _Field(Rule.TOOLS_INVALID, str),
        "parameters": _Field(Rule.TOOLS_INVALID, dict),
        "strict": _Field(Rule.TOOLS_INVALID, bool),
    },
)
_MESSAGE: Final[_Table] = {
    "role": _Field(Rule.ROLE_UNKNOWN, frozenset({"system", "user", "assistant", "tool"}), required=True),
    "content": _Field(Rule.CONTENT_MISSING, (str, type(None))),
    "weight": _Field(Rule.WEIGHT_INVALID, float),
    "tool_calls": _Field(Rule.TOOL_CALL_INVALID, [_CALL]),
    "tool_call_id": _Field(Rule.TOOL_CALL_UNPAIRED, str),
    "name": _Field(Rule.TOOL_CALL_INVALID, str),
}
_EXAMPLE: Final[_Table] = {
    "messages": _Field(Rule.MESSAGES_MISSING, [_MESSAGE], required=True),
    "tools": _Field(Rule.TOOLS_INVALID, [_TOOL]),
}


def check_shape(node: Node) -> None:
    """Raises FaultError for the first value, in the order of the line, that is not of an example's shape."""
    _check(node, _Field(Rule.NOT_AN_OBJECT, _EXAMPLE))


def _check(node: Node, field: _Field) -> None:
    match field.kind:
        case dict():
            _check_object(node, field)
        case [table]:
            _require(node, list, field.rule)
            for one in node.value:
                _check_object(one, _Field(field.rule, table))
        case frozenset():
            _require(node, str, field.rule)
            if node.value not in field.kind:
                raise FaultError(field.rule, node.place)
        case _:
            _require(node, field.kind, field.rule)


def _check_object(node: Node, field: _Field) -> None:
    _require(node, dict, field.rule)
    for key, place in node.keys.items():
        if key not in field.kind:
            raise FaultError(Rule.UNKNOWN_KEY, place)
        _check(node.value[key], field.kind[key])
    for key, wanted in field.kind.items():
        if wanted.required and key not in node.value:
            raise FaultError(wanted.rule, node.place)


def _require(node: Node, kind: Any, rule: Rule) -> None:
    if not isinstance(node.value, kind):
        raise FaultError(rule, node.place)
