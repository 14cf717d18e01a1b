"""Hyperparameters as words of the command line: `learning_rate=5e-3`, `lora.rank=4`, `packing=yes`.

The names are those of the contract, found in its descriptor, so a new one can be set the day it is there.
What a value may be is told by the service, in one place for everybody; here only its type is read.
"""

import difflib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import typer
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from perron.api.finetuning.v1 import job_pb2
from perron.cli import options

OPTION: Final = "--set"
_WORDS: Final = {"yes": True, "true": True, "no": False, "false": False}
_READERS: Final[Mapping[int, tuple[str, Callable[[str], Any]]]] = {
    FieldDescriptor.CPPTYPE_INT32: ("a whole number", int),
    FieldDescriptor.CPPTYPE_INT64: ("a whole number", int),
    FieldDescriptor.CPPTYPE_DOUBLE: ("a number", float),
    FieldDescriptor.CPPTYPE_BOOL: ("yes or no", lambda word: _WORDS[word.lower()]),
    FieldDescriptor.CPPTYPE_STRING: ("text", str),
}


def read(assignments: Iterable[str]) -> job_pb2.Hyperparameters:
    """The hyperparameters that `name=value` words set; a usage error names what there is."""
    found = job_pb2.Hyperparameters()
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        if not equals:
            raise typer.BadParameter(f"{assignment!r} is not name=value", param_hint=OPTION)
        *around, last = name.strip().split(".")
        target: Message = found
        for part in around:
            target = getattr(target, _field(target, part, name, inner=True).name)
        _set(target, _field(target, last, name, inner=False), name, value.strip())
    return found


def names(descriptor: Descriptor = job_pb2.Hyperparameters.DESCRIPTOR, before: str = "") -> list[str]:
    """Every name that can be set."""
    found: list[str] = []
    for field in descriptor.fields:
        if field.message_type is not None:
            found += names(field.message_type, f"{before}{field.name}.")
        else:
            found.append(before + field.name)
    return found


def _field(target: Message, part: str, name: str, *, inner: bool) -> Any:  # one of two classes of descriptors
    field = target.DESCRIPTOR.fields_by_name.get(part)
    if field is None or (field.message_type is not None) != inner:
        known = names()
        meant = difflib.get_close_matches(name, known, n=1)
        told = f"did you mean {meant[0]}?" if meant else f"there are {', '.join(known)}"
        raise typer.BadParameter(f"there is no {name!r}; {told}", param_hint=OPTION)
    return field


def _set(target: Message, field: Any, name: str, value: str) -> None:
    if field.enum_type is not None:
        setattr(target, field.name, options.enum_value(field.enum_type, value, f"{OPTION} {name}"))
        return
    kind, reader = _READERS[field.cpp_type]
    try:
        if field.is_repeated:
            getattr(target, field.name).extend(reader(part.strip()) for part in value.split(","))
        else:
            setattr(target, field.name, reader(value))
    except (ValueError, KeyError):
        raise typer.BadParameter(f"{name} is {kind}, not {value!r}", param_hint=OPTION) from None
