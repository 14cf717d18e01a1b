"""Draws a trace in the terminal: a line for each span, below its caller, its bar where its time lay."""

from collections.abc import Mapping, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from perron.cli.traces import Node, Span, connected

_COLOURS = ("cyan", "magenta", "yellow", "green", "blue", "red")
_BAR_COLUMNS = 36
_BAR_COLUMNS_MIN = 10
_MILLISECONDS_COLUMNS = 12


def draw(roots: Sequence[Node], batches: Mapping[str, int], width: int) -> RenderableType:
    """The waterfall of a trace.

    `batches` says how many callers shared each batch that a span links to, by the trace of the batch; `width`
    is that of the terminal in columns.
    """
    lines = [line for root in roots for line in root.walk()]
    start = min(span.start_ns for _, span in lines)
    length = max(1, max(span.end_ns for _, span in lines) - start)
    services = list(dict.fromkeys(span.service for _, span in lines))
    colours = {service: _COLOURS[index % len(_COLOURS)] for index, service in enumerate(services)}
    names = [_name(depth, span, batches) for depth, span in lines]
    taken = max(map(len, services)) + max(name.cell_len for name in names) + _MILLISECONDS_COLUMNS
    columns = max(_BAR_COLUMNS_MIN, min(_BAR_COLUMNS, width - taken))
    table = Table.grid(padding=(0, 1))
    for justify in ("left", "left", "left", "right"):
        table.add_column(no_wrap=True, justify=justify)
    for (_, span), name in zip(lines, names, strict=True):
        colour = colours[span.service]
        bar = _bar((span.start_ns - start) / length, (span.end_ns - span.start_ns) / length, columns)
        table.add_row(
            Text(span.service, style=colour), name, Text(bar, style=colour), f"{span.milliseconds:.2f} ms"
        )
    whole = "one connected tree" if connected(roots) else f"{len(roots)} separate pieces"
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


def _bar(start: float, share: float, columns: int) -> str:
    left = min(columns - 1, int(start * columns))
    length = min(max(1, round(share * columns)), columns - left)
    return (" " * left + "━" * length).ljust(columns)
