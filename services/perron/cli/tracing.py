"""`trace`: draws where the time of a call went, from the local trace files."""

import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import RenderableType

from perron.chassis.errors import SetupError
from perron.cli import output, traces, waterfall
from perron.cli.connection import folder
from perron.cli.output import AsJson

# Services write their spans this long after the work; asked at once, one waits for them.
FLUSH_SECONDS = 1.0
_PATIENCE_SECONDS = 6.0
_QUIET_READS = 3


def trace(
    trace_id: Annotated[
        str, typer.Argument(help="The trace, or its first digits; `last` is that of the last call.")
    ] = "last",
    as_json: AsJson = False,
) -> None:
    """Draw a trace as a waterfall, from the local trace files of `perron up`."""
    files = folder() / "traces"
    if not files.is_dir():
        raise SetupError(
            f"{files} is not there: `perron up` writes it; with an OTLP collector, ask the collector"
        )
    spans = settled(files, trace_id)
    if not spans:
        raise SetupError(f"no trace {trace_id} in {files}")
    if as_json:
        output.show_list([_fields(span) for span in spans], (), as_json=True, empty="")
    else:
        output.answers.print(drawn(files, spans))


def settled(files: Path, trace_id: str, *, patience: float = _PATIENCE_SECONDS) -> list[traces.Span]:
    """Every span of a trace once no more arrive, after at most `patience` seconds; `last` is looked up."""
    deadline = time.monotonic() + patience
    found: list[traces.Span] = []
    quiet = 0
    while True:
        wanted = traces.last(files) if trace_id == "last" else trace_id
        before, found = found, traces.read(files, wanted) if wanted else []
        # A whole trace is one tree; a caller's own span lies elsewhere, so the root's parent is no matter.
        whole = len(found) == len(before) and traces.connected(traces.trees(found))
        quiet = quiet + 1 if whole else 0
        if quiet >= _QUIET_READS or time.monotonic() > deadline:
            return found
        time.sleep(FLUSH_SECONDS / _QUIET_READS)


def drawn(files: Path, spans: list[traces.Span]) -> RenderableType:
    """The waterfall, with the sizes of the batches that the call shared."""
    shared = {link.trace_id for span in spans for link in span.links}
    batches = {
        batch: int(span.attributes["perron.batch.items"])
        for batch in shared
        for span in traces.read(files, batch)
        if "perron.batch.items" in span.attributes
    }
    return waterfall.draw(traces.trees(spans), batches, output.answers.width)


def _fields(span: traces.Span) -> dict[str, object]:
    return {
        "trace_id": span.trace_id,
        "span_id": span.span_id,
        "parent_id": span.parent_id,
        "service": span.service,
        "name": span.name,
        "start_ns": span.start_ns,
        "milliseconds": round(span.milliseconds, 3),
        "status": span.status,
        "links": [link.trace_id for link in span.links],
    }
