"""Spans in a local file, for machines without a collector: one JSON object a line, capped.

When the file reaches its cap it is renamed to `<name>.1`, replacing the one before; two files together are
the most that is kept. `perron trace` reads them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Final

from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opentelemetry.sdk.trace import ReadableSpan

BYTES_MAX: Final = 32 * 1024 * 1024


class TraceFile(SpanExporter):
    """Appends spans of `service` to the file at `path`."""

    def __init__(self, path: str, service: str, *, bytes_max: int = BYTES_MAX) -> None:
        self._path = Path(path)
        self._service = service
        self._bytes_max = bytes_max
        self._path.parent.mkdir(parents=True, exist_ok=True)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Append the spans; a file that cannot be written loses them and nothing else."""
        lines = "".join(json.dumps(self._entry(span), separators=(",", ":")) + "\n" for span in spans)
        try:
            if self._path.exists() and self._path.stat().st_size + len(lines) > self._bytes_max:
                self._path.replace(self._path.with_name(self._path.name + ".1"))
            with self._path.open("a") as file:
                file.write(lines)
        except OSError:
            return SpanExportResult.FAILURE
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        """Nothing is held open between exports."""

    def force_flush(self, timeout_millis: int = 0) -> bool:
        """Nothing waits between exports; True whatever `timeout_millis` says."""
        return timeout_millis >= 0

    def _entry(self, span: ReadableSpan) -> dict[str, object]:
        context = span.get_span_context()
        return {
            "trace_id": f"{context.trace_id:032x}" if context else "",
            "span_id": f"{context.span_id:016x}" if context else "",
            "parent_id": f"{span.parent.span_id:016x}" if span.parent else "",
            "service": self._service,
            "name": span.name,
            "kind": span.kind.name,
            "start_ns": span.start_time,
            "end_ns": span.end_time,
            "status": span.status.status_code.name,
            "attributes": dict(span.attributes or {}),
            "links": [
                {"trace_id": f"{link.context.trace_id:032x}", "span_id": f"{link.context.span_id:016x}"}
                for link in span.links
            ],
        }
