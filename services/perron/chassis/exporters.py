"""Where telemetry goes: OTLP where an endpoint is set, else a capped file of spans; logs also to stderr.

One JSON object a line, so that whatever stands in a value cannot begin a line of its own.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
import time
from typing import TYPE_CHECKING, Any, Final, TextIO

import structlog
from opentelemetry import metrics, trace
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import AlwaysOffExemplarFilter, MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode

from perron.chassis import telemetry
from perron.chassis.trace_file import TraceFile

if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping

    from opentelemetry._logs import Logger
    from opentelemetry.sdk.trace.export import SpanExporter

ENDPOINT_VARIABLE: Final = "OTEL_EXPORTER_OTLP_ENDPOINT"
_SPANS_WAITING_MAX: Final = 65536
_SPANS_PER_EXPORT: Final = 2048
_METRICS_INTERVAL_MS: Final = 10_000
_SEVERITIES: Final = {
    "debug": SeverityNumber.DEBUG,
    "info": SeverityNumber.INFO,
    "warning": SeverityNumber.WARN,
    "error": SeverityNumber.ERROR,
}


def start(service: str, *, ratio: float, trace_file: str = "", level: str = "INFO") -> Callable[[], None]:
    """Begin exporting as `service`; `ratio` of the traces that begin here are sampled, from 0 to 1.

    Without an OTLP endpoint in the environment, spans go to `trace_file` (none: nowhere). Returns the
    function that flushes and ends everything; it blocks for some seconds where the collector is gone.
    """
    endpoint = os.environ.get(ENDPOINT_VARIABLE, "")
    resource = Resource.create({"service.name": f"perron-{service}", "service.instance.id": str(os.getpid())})
    ends: list[Callable[[], Any]] = []
    logs: Logger | None = None
    if endpoint:
        log_provider = LoggerProvider(resource, shutdown_on_exit=False)
        log_provider.add_log_record_processor(BatchLogRecordProcessor(OTLPLogExporter()))
        logs = log_provider.get_logger("perron")
        reader = PeriodicExportingMetricReader(
            OTLPMetricExporter(), export_interval_millis=_METRICS_INTERVAL_MS
        )
        meter_provider = MeterProvider(
            [reader], resource=resource, exemplar_filter=AlwaysOffExemplarFilter(), shutdown_on_exit=False
        )
        metrics.set_meter_provider(meter_provider)
        ends += [meter_provider.shutdown, log_provider.shutdown]
    if endpoint or trace_file:
        exporter: SpanExporter = OTLPSpanExporter() if endpoint else TraceFile(trace_file, service)
        tracer_provider = TracerProvider(
            sampler=ALWAYS_ON,  # telemetry starts spans in sampled traces only
            resource=resource,
            shutdown_on_exit=False,
        )
        processor = BatchSpanProcessor(
            exporter, max_queue_size=_SPANS_WAITING_MAX, max_export_batch_size=_SPANS_PER_EXPORT
        )
        tracer_provider.add_span_processor(processor)
        trace.set_tracer_provider(tracer_provider)
        ends.insert(0, tracer_provider.shutdown)
        telemetry.configure(ratio=ratio, measure=bool(endpoint), record=_item_recorder(processor, resource))
    _start_logs(service, level, logs)

    def end() -> None:
        telemetry.configure(ratio=0, measure=False)
        for stop in ends:
            stop()

    return end


def _item_recorder(processor: BatchSpanProcessor, resource: Resource) -> telemetry.ItemRecorder:
    """Hands finished spans to the exporter as they are, without the life of a span that is still open."""
    scope = InstrumentationScope("perron")
    fine = Status()

    def record(name: str, parent: SpanContext, batch: SpanContext, start_ns: int, reason: str) -> None:
        processor.on_end(
            ReadableSpan(
                name,
                SpanContext(
                    parent.trace_id, telemetry.span_id(), is_remote=False, trace_flags=parent.trace_flags
                ),
                parent,
                resource,
                attributes={"error.type": reason} if reason else None,
                links=(Link(batch),),
                kind=SpanKind.SERVER,
                status=Status(StatusCode.ERROR) if reason else fine,
                start_time=start_ns,
                end_time=telemetry.now_ns(),
                instrumentation_scope=scope,
            )
        )

    return record


def _start_logs(service: str, level: str, logs: Logger | None) -> None:
    def complete(_logger: object, _method: str, entry: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        trace_id = telemetry.current_trace_id()
        if trace_id:
            entry["trace_id"] = trace_id
        entry["service"] = service
        return entry

    def export(_logger: object, _method: str, entry: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        if logs is not None:
            logs.emit(
                LogRecord(
                    timestamp=time.time_ns(),
                    severity_number=_SEVERITIES.get(entry["level"]),
                    severity_text=entry["level"],
                    body=entry["event"],
                    attributes={
                        key: str(value) for key, value in entry.items() if key not in {"event", "level"}
                    },
                )
            )
        return entry

    structlog.configure(
        processors=[
            complete,
            structlog.processors.add_log_level,
            export,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level]),
        logger_factory=structlog.WriteLoggerFactory(_Lines()),
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(handlers=[_OfLibraries()], level=logging.WARNING, force=True)


class _Lines(io.TextIOBase, TextIO):
    """Standard error while it takes anything.

    Where the disk that it goes to is full, lines are lost: an error here would end whatever said something.
    """

    def write(self, text: str) -> int:
        """Write a line, or not."""
        with contextlib.suppress(OSError):
            sys.stderr.write(text)
        return len(text)

    def flush(self) -> None:
        """Hand on what was written, or not."""
        with contextlib.suppress(OSError):
            sys.stderr.flush()


class _OfLibraries(logging.Handler):
    """Turns the lines of libraries into events that say who speaks and where, not what.

    What asyncio says of a lost task quotes the text of its exception, over several lines.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """Write one event; the arguments and the exception's text stay out of it."""
        error = record.exc_info[1] if record.exc_info else None
        telemetry.logger("library").warning(
            "library",
            logger=record.name,
            severity=record.levelname,
            where=f"{record.module}:{record.lineno}",
            template=str(record.msg).split("\n", 1)[0][:100],
            type=type(error).__qualname__ if error is not None else "",
        )
