"""Draws a trace in the terminal: a line for each span, below its caller, its bar where its time lay."""

from collections.abc import Mapping, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from perron.cli.traces import Node, Span

_COLOURS = ("cyan", "magenta", "yellow", "green", "blue", "red")
_BAR_COLUMNS = 36


def draw(roots: Sequence[Node], batches: Mapping[str, int]) -> RenderableType:
    """The waterfall of a trace.

    `batches` says how many callers shared each batch that a span links to, by the trace of the batch.
    """
    lines = [line for root in roots for line in root.walk()]
    start = min(span.start_ns for _, span in lines)
    length = max(1, max(span.end_ns for _, span in lines) - start)
    services = list(dict.fromkeys(span.service for _, span in lines))
    colours = {service: _COLOURS[index % len(_COLOURS)] for index, service in enumerate(services)}
    table = Table.grid(padding=(0, 1))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, justify="right")
    for depth, span in lines:
        colour = colours[span.service]
        table.add_row(
            Text(span.service, style=colour),
            _name(depth, span, batches),
            _bar(span, start, length, colour),
            Text(f"{span.milliseconds:.2f} ms"),
        )
    whole = "one connected tree" if len(roots) == 1 else f"{len(roots)} separate pieces"
    head = Text(f"trace {lines[0][1].trace_id}: ", style="bold")
    head.append(f"{length / 1e6:.2f} ms, {len(lines)} spans in {len(services)} services, {whole}")
    return Group(head, table)


def _name(depth: int, span: Span, batches: Mapping[str, int]) -> Text:
    name = Text("  " * depth + span.name.removeprefix("/").rsplit(".", 1)[-1])
    shared = next((batches[link.trace_id] for link in span.links if link.trace_id in batches), 0)
    if shared:
        name.append(f"  in a batch of {shared}", style="dim")
    if span.status == "ERROR":
        name.append(f"  {span.attributes.get('error.type', 'error')}", style="red")
    return name


def _bar(span: Span, start: int, length: int, colour: str) -> Text:
    left = min(_BAR_COLUMNS - 1, (span.start_ns - start) * _BAR_COLUMNS // length)
    width = max(1, round((span.end_ns - span.start_ns) * _BAR_COLUMNS / length))
    width = min(width, _BAR_COLUMNS - left)
    return Text(" " * left + "━" * width + " " * (_BAR_COLUMNS - left - width), style=colour)
