"""Agents as files: an AgentDocument in YAML or JSON, read with the line of every fault, written for people.

A document is read against the contract and never guessed at: a field that is not there, a number in quotes
or a text without them is a fault with its line, because what is silently left out of an agent is found out
by its users. Anchors are not read, so a small file is a small document.
"""

import difflib
import json
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from perron.api.agents.v1 import agent_pb2
from perron.chassis.errors import PerronError, SetupError
from perron.cli import output

FORMAT: Final = "perron.agent/v1"
BYTES_MAX: Final = 1024 * 1024
_SCHEMAS: Final = frozenset({"parameters_schema", "schema"})
"""Texts of the contract that hold JSON; in a file they may also be written out as what they mean."""
_INTEGERS: Final = frozenset(
    {
        FieldDescriptor.CPPTYPE_INT32,
        FieldDescriptor.CPPTYPE_INT64,
        FieldDescriptor.CPPTYPE_UINT32,
        FieldDescriptor.CPPTYPE_UINT64,
    }
)
_FLOATS: Final = frozenset({FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE})
_OTHER_BREAKS: Final = "\r\x85\u2028\u2029"
_NULL: Final = "tag:yaml.org,2002:null"
_TEXT: Final = "tag:yaml.org,2002:str"
_BOOL: Final = "tag:yaml.org,2002:bool"


@dataclass(frozen=True, slots=True)
class AgentFile:
    """A document with the file that it came from; `lines` says where each field of it stands."""

    path: Path
    document: agent_pb2.AgentDocument
    lines: Mapping[str, int]

    def faults(self, error: PerronError, below: str = "") -> list[str]:
        """What a service found wrong with the document, each with the line of its field.

        `below` is where the document stands in the request, for instance "agent."; the rest is left out.
        """
        return [
            _fault(self.path, self.lines, violation.field.removeprefix(below), violation.description)
            for violation in error.violations
            if violation.field.startswith(below)
        ]


def read(path: Path, *, has_model: bool = True) -> AgentFile:
    """Reads a document, `-` from standard input; SetupError names every fault with its line and field.

    Without `has_model` the model may be left out, as in what a job makes of its own.
    """
    root = _composed(path, _text(path))
    document = agent_pb2.AgentDocument()
    reader = _Reader()
    if root is not None:
        reader.message(root, document, "")
    document.format = document.format or FORMAT
    faults = [f"{path}:{line}: {told}" for line, told in reader.faults] or _formal(
        path, document, reader.lines
    )
    if not faults and has_model and not document.configuration.model:
        faults = [_fault(path, reader.lines, "configuration.model", "is missing")]
    if faults:
        raise SetupError("\n".join(faults))
    return AgentFile(path, document, reader.lines)


def written(message: Message) -> str:
    """A document, or a part of one, as YAML that `read` reads; texts of several lines stand as blocks."""
    return yaml.dump(
        _opened(output.readable(message)), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100
    )


def _text(path: Path) -> str:
    try:
        content = sys.stdin.buffer.read(BYTES_MAX + 1) if path == Path("-") else path.read_bytes()
    except OSError as broken:
        raise SetupError(f"{path} cannot be read ({type(broken).__name__})") from None
    if len(content) > BYTES_MAX:
        raise SetupError(f"{path} is larger than 1 MiB, which no agent is")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as broken:
        line = content[: broken.start].count(b"\n") + 1
        raise SetupError(f"{path}:{line}: is no UTF-8 text") from None


def _composed(path: Path, text: str) -> yaml.Node | None:
    if path.suffix == ".json":
        try:
            json.loads(text)
        except (ValueError, RecursionError) as broken:
            line = getattr(broken, "lineno", 1)
            raise SetupError(f"{path}:{line}: is no JSON: {getattr(broken, 'msg', 'too deep')}") from None
        text = text.replace("\t", " ")  # in JSON a tab stands between values only, where YAML takes none
    try:
        return yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as broken:
        line = broken.problem_mark.line + 1 if broken.problem_mark else 1
        raise SetupError(f"{path}:{line}: is no YAML: {broken.problem or broken.context}") from None
    except yaml.reader.ReaderError as broken:
        line = text[: broken.position].count("\n") + 1
        raise SetupError(f"{path}:{line}: has a character that no text should have") from None
    except RecursionError:
        raise SetupError(f"{path}: is nested too deep") from None


def _formal(path: Path, document: agent_pb2.AgentDocument, lines: Mapping[str, int]) -> list[str]:
    """Where the document breaks the rules of the contract's form."""
    from perron.chassis.interceptors import validation  # a quarter of a second that few commands need

    error = validation.check(document)
    violations = error.violations if error is not None else ()
    return [_fault(path, lines, violation.field, violation.description) for violation in violations]


def _fault(path: Path, lines: Mapping[str, int], name: str, told: str) -> str:
    """A fault at its field's line, else at that of the nearest field around it."""
    near = name.removeprefix("document.")
    while near and near not in lines:
        near = re.sub(r"(\.|^)[^.\[]*$|\[[^\[]*\]$", "", near)
    return f"{path}:{lines.get(near, 1)}: {name.removeprefix('document.')}: {told}"


@dataclass(slots=True)
class _Reader:
    """Fills messages from nodes, and puts down what does not fit."""

    lines: dict[str, int] = field(default_factory=dict)
    faults: list[tuple[int, str]] = field(default_factory=list)
    _seen: set[int] = field(default_factory=set)

    def message(self, node: yaml.Node, target: Message, path: str) -> None:
        """Fills a message from a mapping, field by field."""
        if self._is_null(node) and not target.DESCRIPTOR.fields:
            return
        for name, value in self._pairs(node, path):
            one = target.DESCRIPTOR.fields_by_name.get(name)
            where = f"{path}.{name}" if path else name
            if one is None:
                self._fault(value, where, f"there is no such field{_meant(name, target)}")
                continue
            oneof = one.containing_oneof
            if oneof is not None and target.WhichOneof(oneof.name) not in {None, name}:
                self._fault(value, where, f"excludes {target.WhichOneof(oneof.name)}, which is there too")
                continue
            if not self._is_null(value) or (one.message_type is not None and not one.message_type.fields):
                self._field(value, target, one, where)

    def _field(self, node: yaml.Node, target: Message, one: Any, path: str) -> None:
        held = getattr(target, one.name)
        if one.is_repeated and one.message_type is not None and one.message_type.GetOptions().map_entry:
            for name, value in self._pairs(node, path):
                held[name] = self._text(value, f"{path}[{name}]")
        elif one.is_repeated:
            for number, each in enumerate(self._items(node, path)):
                where = f"{path}[{number}]"
                self.lines[where] = each.start_mark.line + 1
                if one.message_type is not None:
                    self.message(each, held.add(), where)
                else:
                    held.append(self._scalar(each, one, where))
        elif one.message_type is not None:
            held.SetInParent()
            self.message(node, held, path)
        else:
            self._set(node, target, one, path)

    def _set(self, node: yaml.Node, target: Message, one: FieldDescriptor, path: str) -> None:
        try:
            setattr(target, one.name, self._scalar(node, one, path))
        except ValueError:
            self._fault(node, path, "is a number beyond all bounds")

    def _scalar(self, node: yaml.Node, one: FieldDescriptor, path: str) -> Any:
        """The value of a field that holds one; where it cannot be read, a fault and the field's default."""
        plain = isinstance(node, yaml.ScalarNode) and node.style is None
        value = node.value if isinstance(node, yaml.ScalarNode) else ""
        match one.cpp_type:
            case FieldDescriptor.CPPTYPE_STRING:
                return self._schema(node, path) if one.name in _SCHEMAS else self._text(node, path)
            case FieldDescriptor.CPPTYPE_BOOL if node.tag == _BOOL:
                return yaml.SafeLoader.bool_values[value.lower()]
            case FieldDescriptor.CPPTYPE_BOOL:
                self._fault(node, path, "is true or false")
            case FieldDescriptor.CPPTYPE_ENUM:
                return self._choice(node, one, path)
            case kind if kind in _INTEGERS:
                # JSON made from the contract writes whole numbers of 64 bits as text.
                wide = kind == FieldDescriptor.CPPTYPE_INT64
                if (plain or wide) and re.fullmatch(r"[-+]?[0-9]{1,20}", value):
                    return int(value)
                self._fault(node, path, "is a whole number, without quotes")
            case kind if kind in _FLOATS:
                if plain and re.fullmatch(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?", value):
                    return float(value)
                self._fault(node, path, "is a number, without quotes")
            case _:
                pass  # the contract of agents has no others
        return one.default_value

    def _text(self, node: yaml.Node, path: str) -> str:
        self.lines.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, yaml.ScalarNode) and node.tag == _TEXT:
            try:
                # JSON writes what lies beyond 16 bits in two halves.
                return str(node.value).encode("utf-16", "surrogatepass").decode("utf-16")
            except UnicodeDecodeError:
                self._fault(node, path, "has half a character")
                return ""
        said = "is text: put it in quotes" if isinstance(node, yaml.ScalarNode) else "is one text"
        self._fault(node, path, said)
        return ""

    def _schema(self, node: yaml.Node, path: str) -> str:
        if not isinstance(node, yaml.MappingNode):
            return self._text(node, path)
        try:
            return _canonical(yaml.SafeLoader("").construct_document(node))
        except (TypeError, yaml.YAMLError, RecursionError):
            self._fault(node, path, "holds something that JSON does not know")
            return ""

    def _choice(self, node: yaml.Node, one: Any, path: str) -> int:
        words = {
            output.enum_word(one.enum_type, value.number): value.number for value in one.enum_type.values[1:]
        }
        full = {value.name: value.number for value in one.enum_type.values}
        wanted = str(node.value) if isinstance(node, yaml.ScalarNode) else ""
        found = words.get(wanted.lower().replace("_", "-"), full.get(wanted))
        if found is None:
            self._fault(node, path, f"is one of {', '.join(words)}")
        return found or 0

    def _pairs(self, node: yaml.Node, path: str) -> list[tuple[str, yaml.Node]]:
        """The fields of a mapping, each once; a fault where it is none."""
        self.lines.setdefault(path, node.start_mark.line + 1)
        if not isinstance(node, yaml.MappingNode) or self._is_repeated(node):
            self._fault(node, path or "document", "holds fields, one `name: value` on a line")
            return []
        found: dict[str, yaml.Node] = {}
        for key, value in node.value:
            name = str(key.value) if isinstance(key, yaml.ScalarNode) else "?"
            where = f"{path}.{name}" if path else name
            self.lines[where] = key.start_mark.line + 1
            if name in found:
                self._fault(key, where, "stands there twice")
            found[name] = value
        return list(found.items())

    def _items(self, node: yaml.Node, path: str) -> list[yaml.Node]:
        if not isinstance(node, yaml.SequenceNode) or self._is_repeated(node):
            self._fault(node, path, "is a list, one `- …` for each")
            return []
        return list(node.value)

    def _is_repeated(self, node: yaml.Node) -> bool:
        """Whether a node was read before, as an anchor that is referred to again."""
        again = id(node) in self._seen
        self._seen.add(id(node))
        return again

    @staticmethod
    def _is_null(node: yaml.Node) -> bool:
        return isinstance(node, yaml.ScalarNode) and node.tag == _NULL

    def _fault(self, node: yaml.Node, path: str, told: str) -> None:
        self.faults.append((self.lines.get(path, node.start_mark.line + 1), f"{path}: {told}"))


def _meant(name: str, target: Message) -> str:
    close = difflib.get_close_matches(name, target.DESCRIPTOR.fields_by_name, n=1)
    known = ", ".join(target.DESCRIPTOR.fields_by_name)
    return f"; did you mean {close[0]}?" if close else f"; there are {known}"


def _canonical(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _opened(value: Any) -> Any:
    """The value with its schemas as what they mean, where writing them back gives the same text."""
    if isinstance(value, Mapping):
        return {name: _schema(part) if name in _SCHEMAS else _opened(part) for name, part in value.items()}
    return [_opened(part) for part in value] if isinstance(value, list) else value


def _schema(text: str) -> Any:
    try:
        meaning = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return meaning if isinstance(meaning, dict) and _canonical(meaning) == text else text


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as blocks, and never an anchor."""

    def ignore_aliases(self, _data: object) -> bool:
        return True


def _block(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    if any(character in text for character in _OTHER_BREAKS):
        return dumper.represent_scalar(_TEXT, text, style='"')  # the only style that keeps them
    return dumper.represent_scalar(_TEXT, text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _block)
