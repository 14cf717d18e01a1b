"""What differs between two versions of an agent: texts line by line, all else as tables."""

import difflib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from perron.api.agents.v1 import configuration_pb2
from perron.cli import agent_files, output

_TEXTS: Final = ("instructions", "examples", "description", "parameters_schema", "schema")
"""What people write in paragraphs; a table has no room for it."""
_COLOURS: Final = {"+": "green", "-": "red", "@": "cyan"}
_ABSENT: Final = "-"


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that differs: where, what stood there, what stands there now; empty where nothing does."""

    field: str
    before: str
    after: str

    @property
    def is_text(self) -> bool:
        """Whether it is read line by line."""
        return self.field.rpartition(".")[2] in _TEXTS

    @property
    def group(self) -> str:
        """The table that it belongs to: arguments, tools and so on."""
        first, dot, _ = self.field.partition(".")
        return first.replace("_", " ") if dot else "configuration"


def changes(
    before: configuration_pb2.AgentConfiguration, after: configuration_pb2.AgentConfiguration
) -> list[Change]:
    """What differs between two configurations, in the contract's order; tools go by their names."""
    old, new = dict(_flat(before)), dict(_flat(after))
    order = [field.name for field in configuration_pb2.AgentConfiguration.DESCRIPTOR.fields]
    fields = sorted({**old, **new}, key=lambda name: order.index(name.partition(".")[0]))
    return [
        Change(name, old.get(name, ""), new.get(name, ""))
        for name in fields
        if old.get(name) != new.get(name)
    ]


def drawn(found: list[Change], before: str, after: str) -> RenderableType:
    """The changes for people; `before` and `after` name the two versions."""
    parts: list[RenderableType] = []
    short = [change for change in found if not change.is_text]
    for title, group in groupby(short, lambda change: change.group):
        parts.append(_table(title, list(group), before, after))
    parts += [_lines(change, before, after) for change in found if change.is_text]
    return Group(*parts)


def _flat(configuration: configuration_pb2.AgentConfiguration) -> Iterator[tuple[str, str]]:
    """A configuration as one text for each thing that can differ."""
    plain = output.readable(configuration)
    for name, value in plain.items():
        match name:
            case "examples":
                yield name, "\n".join(agent_files.written(example) for example in configuration.examples)
            case "tools":
                for tool in value:
                    yield from _tool(tool)
            case "guardrails":
                for number, rail in enumerate(value, 1):
                    yield f"guardrails.{number} {rail['name']}", output.text(rail)
            case _ if isinstance(value, Mapping):
                yield from ((f"{name}.{part}", output.text(one)) for part, one in value.items())
            case _:
                yield name, output.text(value)


def _tool(tool: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    ((kind, held),) = tool.items()
    match kind:
        case "function":
            name = f"tools.{held['name']}"
            yield name, kind
            for part, value in held.items():
                if part != "name":
                    yield f"{name}.{part}", _indented(value) if part in _TEXTS else output.text(value)
        case "connector":
            yield f"tools.connector:{held['connector']}", kind
        case _:
            yield f"tools.{kind}", output.text(held) or "yes"


def _indented(text: str) -> str:
    """JSON with a line for each thing that can differ, where it is JSON."""
    try:
        return json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        return text


def _table(title: str, found: list[Change], before: str, after: str) -> Table:
    table = Table(
        title=title, title_justify="left", title_style="bold", box=None, header_style="dim", pad_edge=False
    )
    for column in ("", before, after):
        table.add_column(column, overflow="fold")
    for change in found:
        name = change.field.partition(".")[2] or change.field
        table.add_row(Text(name), Text(change.before or _ABSENT), Text(change.after or _ABSENT))
    return table


def _lines(change: Change, before: str, after: str) -> Text:
    lines = difflib.unified_diff(
        change.before.splitlines(), change.after.splitlines(), before, after, lineterm=""
    )
    text = Text(f"\n{change.field}\n", style="bold")
    for line in lines:
        text.append(f"{line}\n", style=_COLOURS.get(line[:1], "not bold"))
    return text
