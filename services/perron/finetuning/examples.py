"""Examples: one line of a training file, a conversation with the tools that it may call.

    {"messages": [{"role": "system", "content": "…"}, {"role": "user", "content": "…"},
                  {"role": "assistant", "content": "…", "weight": 1}], "tools": […]}

A fast decoder reads a line; only where something is wrong with it is the line read again, slowly, to tell
where. What a newcomer gets wrong: a fault is told by rule and place alone, for the line is content.
"""

import re
from collections.abc import Mapping
from typing import Any, Final, Literal, NamedTuple

import msgspec
from msgspec import UNSET, Struct, UnsetType

from perron.finetuning.example_shape import check_shape
from perron.finetuning.line_rules import FaultError, Rule
from perron.finetuning.strict_json import has_duplicate_keys, parse

ROLES: Final = ("system", "user", "assistant", "tool")
MESSAGES_MAX: Final = 4096
WEIGHT_MAX: Final = 1.0

_KEY: Final = re.compile(rb'"[ \t\r]*:')
_NEXT: Final[Mapping[str, frozenset[str]]] = {
    "": frozenset({"system", "user"}),
    "system": frozenset({"user"}),
    "user": frozenset({"assistant"}),
    "assistant": frozenset({"user", "tool"}),
    "tool": frozenset({"tool", "assistant"}),
}
"""Which roles may follow a role; the empty one stands for the beginning."""


class _Call(Struct, forbid_unknown_fields=True, gc=False):
    name: str
    arguments: str


class _ToolCall(Struct, forbid_unknown_fields=True, gc=False):
    id: str
    function: _Call
    type: Literal["function"] | UnsetType = UNSET


class _Message(Struct, forbid_unknown_fields=True, gc=False):
    role: Literal["system", "user", "assistant", "tool"]
    content: str | UnsetType | None = UNSET
    weight: float | UnsetType = UNSET
    tool_calls: list[_ToolCall] | UnsetType = UNSET
    tool_call_id: str | UnsetType = UNSET
    name: str | UnsetType = UNSET


class _Function(Struct, forbid_unknown_fields=True, gc=False):
    name: str
    description: str | UnsetType = UNSET
    parameters: dict[str, Any] | UnsetType = UNSET
    strict: bool | UnsetType = UNSET


class _Tool(Struct, forbid_unknown_fields=True, gc=False):
    function: _Function
    type: Literal["function"] | UnsetType = UNSET


class _Example(Struct, forbid_unknown_fields=True, gc=False):
    messages: list[_Message]
    tools: list[_Tool] | UnsetType = UNSET


_decode: Final = msgspec.json.Decoder(_Example).decode
_decode_arguments: Final = msgspec.json.Decoder(dict[str, Any]).decode
_NONE: Final[set[str]] = set()  # never added to
_DECODE_ERRORS: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


class Weighed(NamedTuple):
    """What one example counts.

    Its messages, the UTF-8 bytes of what they say, those of them that are trained on, and its messages by
    role in the order of ROLES.
    """

    turns: int
    text_bytes: int
    trained_bytes: int
    roles: tuple[int, ...]


class _BrokenError(Exception):
    """The meaning of an example breaks a rule, at the value that the path leads to."""

    def __init__(self, rule: Rule, *path: str | int) -> None:
        super().__init__(rule)
        self.rule = rule
        self.path = path


def weigh(line: bytes) -> Weighed | None:
    """Returns what an example counts; None where something is wrong with it, which `explain` then tells."""
    try:
        example = _decode(line)
        judge = _Judge(example)
    except (*_DECODE_ERRORS, _BrokenError):
        return None
    # A colon follows every key, so there are at least as many matches as keys. The same number proves that
    # the decoder has dropped none, as it does with a key that comes twice.
    if len(_KEY.findall(line)) != judge.keys and has_duplicate_keys(line):
        return None
    return Weighed(len(example.messages), judge.text_bytes, judge.trained_bytes, tuple(judge.roles.values()))


def explain(line: bytes) -> FaultError:
    """Returns the first fault of a line that `weigh` refuses; its place counts bytes."""
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        return FaultError(Rule.NOT_UTF8, error.start)
    fault = _explain(text, line)
    return FaultError(fault.rule, len(text[: fault.place].encode()))


def _explain(text: str, line: bytes) -> FaultError:
    try:
        node = parse(text)
        check_shape(node)
    except FaultError as fault:
        return fault
    try:
        _Judge(_decode(line))
    except _BrokenError as broken:
        return FaultError(broken.rule, node.at(broken.path).place)
    except _DECODE_ERRORS:
        pass
    return FaultError(Rule.NOT_JSON, 0)


class _Judge:
    """Reads a conversation turn by turn. Raises _BrokenError for the first rule that it breaks."""

    __slots__ = ("_before", "_calls", "_tools", "_waiting", "keys", "roles", "text_bytes", "trained_bytes")

    def __init__(self, example: _Example) -> None:
        self.keys = 1
        self.text_bytes = 0
        self.trained_bytes = 0
        self.roles = dict.fromkeys(ROLES, 0)
        self._before = ""
        self._calls: set[str] = _NONE
        self._waiting: set[str] = _NONE
        self._tools: frozenset[str] = frozenset()
        if example.tools is not UNSET:
            self._tools = _declared(example.tools)
            self.keys += 1 + sum(map(_keys_of_tool, example.tools))
        messages = example.messages
        last = len(messages) - 1
        if not 0 <= last < MESSAGES_MAX:
            raise _BrokenError(Rule.MESSAGES_MISSING, "messages")
        for index, message in enumerate(messages):
            self._read(index, message)
        if self._waiting:
            raise _BrokenError(Rule.TOOL_CALL_UNPAIRED, "messages", last, "tool_calls")
        if self._before != "assistant":
            raise _BrokenError(Rule.ROLE_MISPLACED, "messages", last, "role")
        if not self.trained_bytes:
            raise _BrokenError(Rule.NOTHING_TO_TRAIN, "messages")

    def _read(self, index: int, message: _Message) -> None:
        role, content = message.role, message.content
        if role not in _NEXT[self._before]:
            rule = Rule.TOOL_CALL_UNPAIRED if role == "tool" else Rule.ROLE_MISPLACED
            raise _BrokenError(rule, "messages", index, "role")
        if self._waiting and role != "tool":
            raise _BrokenError(Rule.TOOL_CALL_UNPAIRED, "messages", index, "role")
        self.keys += 1 if content is UNSET else 2
        size = 0
        if content:
            size = len(content) if content.isascii() else len(content.encode())
        if message.tool_calls is not UNSET:
            size += self._read_calls(message.tool_calls, role, index)
        elif not size and role != "tool":
            raise _BrokenError(Rule.CONTENT_MISSING, "messages", index, "content")
        if role == "tool" or message.tool_call_id is not UNSET or message.name is not UNSET:
            self._read_result(message, index)
        if message.weight is not UNSET:
            self._read_weight(message.weight, role, index)
        self._before = role
        self.roles[role] += 1
        self.text_bytes += size
        if role == "assistant" and message.weight != 0:
            self.trained_bytes += size

    def _read_weight(self, weight: float, role: str, index: int) -> None:
        if role != "assistant" or not 0 <= weight <= WEIGHT_MAX:
            raise _BrokenError(Rule.WEIGHT_INVALID, "messages", index, "weight")
        self.keys += 1

    def _read_calls(self, calls: list[_ToolCall], role: str, index: int) -> int:
        """Takes up the calls of a turn, each with an id of its own; returns the bytes of their text."""
        if role != "assistant" or not calls:
            raise _BrokenError(Rule.TOOL_CALL_INVALID, "messages", index, "tool_calls")
        self.keys += 1
        self._calls = self._calls or set()
        self._waiting = set()
        size = 0
        for number, call in enumerate(calls):
            name, arguments = call.function.name, call.function.arguments
            place = ("messages", index, "tool_calls", number)
            if not call.id or call.id in self._calls:
                raise _BrokenError(Rule.TOOL_CALL_INVALID, *place, "id")
            if name not in self._tools:
                raise _BrokenError(Rule.TOOL_CALL_INVALID, *place, "function", "name")
            if not _is_object(arguments):
                raise _BrokenError(Rule.TOOL_CALL_INVALID, *place, "function", "arguments")
            self._calls.add(call.id)
            self._waiting.add(call.id)
            self.keys += 4 if call.type is UNSET else 5
            size += len(name.encode()) + len(arguments.encode())
        return size

    def _read_result(self, message: _Message, index: int) -> None:
        """Pairs the result of a call with it."""
        place = ("messages", index)
        call = message.tool_call_id
        if message.role != "tool":
            field = "name" if call is UNSET else "tool_call_id"
            raise _BrokenError(Rule.TOOL_CALL_UNPAIRED, *place, field)
        if not isinstance(message.content, str):
            raise _BrokenError(Rule.CONTENT_MISSING, *place, "content")
        if not isinstance(call, str) or call not in self._waiting:
            raise _BrokenError(Rule.TOOL_CALL_UNPAIRED, *place, "tool_call_id")
        self._waiting.discard(call)
        self.keys += 1 if message.name is UNSET else 2


def _declared(tools: list[_Tool]) -> frozenset[str]:
    """Returns the names of the tools that an example declares."""
    names: set[str] = set()
    for index, tool in enumerate(tools):
        name = tool.function.name
        if not name or name in names:
            raise _BrokenError(Rule.TOOLS_INVALID, "tools", index, "function", "name")
        names.add(name)
    return frozenset(names)


def _keys_of_tool(tool: _Tool) -> int:
    """Counts the keys of a declaration, those of its parameters included."""
    function = tool.function
    told = (tool.type, function.description, function.parameters, function.strict)
    return 2 + sum(one is not UNSET for one in told) + _keys_within(function.parameters)


def _keys_within(value: object) -> int:
    if isinstance(value, dict):
        return len(value) + sum(map(_keys_within, value.values()))
    return sum(map(_keys_within, value)) if isinstance(value, list) else 0


def _is_object(arguments: str) -> bool:
    """Tells whether the arguments of a call are a JSON object, as whoever is called will read them."""
    try:
        _decode_arguments(arguments)
    except _DECODE_ERRORS:
        return False
    return True
