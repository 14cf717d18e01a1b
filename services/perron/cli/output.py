"""Where words go: the answer to stdout, as a table for people or as JSON for machines; all else to stderr.

A pipe therefore receives nothing but the answer, whatever was said beside it.
"""

import json
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any

import typer
from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from perron.chassis.errors import PerronError

OK = 0
REFUSED = 1
USAGE = 2

AsJson = Annotated[bool, typer.Option("--json", help="Print the answer as JSON.", rich_help_panel="Output")]

# A pipe has no width of its own; what is read there is better not folded.
_PIPE_COLUMNS = 160


def _console(*, stderr: bool) -> Console:
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() or "COLUMNS" in os.environ else _PIPE_COLUMNS
    return Console(stderr=stderr, highlight=False, soft_wrap=True, width=width)


answers = _console(stderr=False)
notes = _console(stderr=True)


def note(text: str) -> None:
    """Says something beside the answer; what came from outside is escaped first."""
    notes.print(text, style="dim")


def show(answer: Message | Mapping[str, Any], *, as_json: bool) -> None:
    """Prints one thing: its fields in their order, a line each, or as JSON."""
    if as_json:
        _print_json(plain(answer))
        return
    table = Table.grid(padding=(0, 2))
    for name, value in readable(answer).items():
        table.add_row(f"[dim]{name}[/dim]", escape(text(value)))
    answers.print(table)


def show_list(
    rows: Iterable[Message | Mapping[str, Any]], columns: Sequence[str], *, as_json: bool, empty: str
) -> None:
    """Prints many things: the named columns, or all as JSON; `empty` is said where there is none."""
    if as_json:
        _print_json([plain(row) for row in rows])
        return
    found = [readable(row) for row in rows]
    if not found:
        note(empty)
        return
    table = Table(box=None, header_style="dim", pad_edge=False)
    for column in columns:
        # An id that is folded cannot be copied.
        table.add_column(column, overflow="fold", no_wrap=column.endswith("_id"))
    for row in found:
        table.add_row(*(escape(text(row.get(column, ""))) for column in columns))
    answers.print(table)


def show_error(error: PerronError, *, as_json: bool, trace_id: str = "") -> None:
    """Prints a refusal: what and why, what binds, and when it can succeed."""
    if as_json:
        _print_json({"error": error_fields(error), "trace_id": trace_id})
        return
    notes.print(
        f"[red]{error.code}[/red] {escape(error.message)} [dim]({escape(error.reason or 'no reason')})[/dim]"
    )
    for violation in error.violations:
        notes.print(f"  {escape(violation.field)}: {escape(violation.description)}")
    for quota in error.quota:
        notes.print(f"  {escape(quota.subject)}: {escape(quota.description)}")
    for precondition in error.preconditions:
        notes.print(f"  {escape(precondition.subject)}: {escape(precondition.description)}")
    if error.retry_after is not None:
        notes.print(f"  can succeed in {error.retry_after.total_seconds():.1f} s")
    if trace_id:
        note(f"  perron trace {trace_id}")


def error_fields(error: PerronError) -> dict[str, Any]:
    """The refusal as JSON knows it; what does not apply is left out."""
    fields: dict[str, Any] = {"code": error.code, "reason": error.reason, "message": error.message}
    if error.metadata:
        fields["metadata"] = dict(error.metadata)
    if error.violations:
        fields["violations"] = {violation.field: violation.description for violation in error.violations}
    if error.quota:
        fields["limits"] = {quota.subject: quota.description for quota in error.quota}
    if error.retry_after is not None:
        fields["retry_after_seconds"] = error.retry_after.total_seconds()
    return fields


def plain(answer: Message | Mapping[str, Any]) -> dict[str, Any]:
    """The answer as dicts and lists with the field names of the contract."""
    if isinstance(answer, Message):
        fields: dict[str, Any] = MessageToDict(answer, preserving_proto_field_name=True)
        return fields
    return dict(answer)


def readable(answer: Message | Mapping[str, Any]) -> dict[str, Any]:
    """The answer for people: plain enum values, times to the second, nothing that is not set."""
    if not isinstance(answer, Message):
        return dict(answer)
    return {field.name: _readable(field, value) for field, value in answer.ListFields()}


def text(value: object) -> str:
    """One value in words: lists with commas, nested fields as `name value`, one per comma."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {text(part)}" for name, part in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(text(part) for part in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def enum_word(enum: EnumDescriptor, number: int) -> str:
    """An enum's value as people write it: without its prefix, in small letters."""
    value = enum.values_by_number.get(number)
    if value is None:
        return str(number)
    prefix = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", enum.name).upper() + "_"
    return str(value.name).removeprefix(prefix).lower().replace("_", "-")


def _readable(field: FieldDescriptor, value: Any) -> Any:  # what a field holds, only its descriptor knows
    if field.is_repeated:
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            return dict(value)
        return [_readable_one(field, one) for one in value]
    return _readable_one(field, value)


def _readable_one(field: FieldDescriptor, value: Any) -> Any:  # as above
    if field.enum_type is not None:
        return enum_word(field.enum_type, value)
    if isinstance(value, Timestamp):
        return value.ToDatetime().strftime("%Y-%m-%d %H:%M:%S UTC")
    if isinstance(value, Message):
        return readable(value)
    return value


def _print_json(value: object) -> None:
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")
