"""A real OTLP collector for tests: it takes what the services export over gRPC and keeps it to be asked.

with Collector() as collector:
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint}
    ...
    collector.spans_of(trace_id)
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import grpc
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2, logs_service_pb2_grpc
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2, metrics_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Iterable

_OPTIONS = (("grpc.max_receive_message_length", 64 * 1024 * 1024), ("grpc.so_reuseport", 0))


@dataclass(frozen=True, slots=True)
class CollectedSpan:
    """One span as it arrived, ids in hex."""

    service: str
    name: str
    trace_id: str
    span_id: str
    parent_id: str
    start_ns: int
    end_ns: int
    links: tuple[tuple[str, str], ...]
    failed: bool
    attributes: dict[str, str] = field(hash=False)


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Listens on a free port of loopback while the `with` block runs."""

    def __init__(self) -> None:
        self.spans: list[CollectedSpan] = []
        self.metric_names: set[str] = set()
        self.raw: list[bytes] = []
        """Every message as it came over the wire, for searches of what must not be in it."""
        self.endpoint = ""

    def __enter__(self) -> Self:
        self._server = grpc.server(ThreadPoolExecutor(2), options=_OPTIONS)
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(self, self._server)
        metrics_service_pb2_grpc.add_MetricsServiceServicer_to_server(_Metrics(self), self._server)
        logs_service_pb2_grpc.add_LogsServiceServicer_to_server(_Logs(self), self._server)
        self.endpoint = f"http://127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop(0.5).wait()

    def Export(self, request: Any, context: Any) -> Any:
        """Takes spans."""
        for resource in request.resource_spans:
            service = _attributes(resource.resource.attributes).get("service.name", "")
            for scope in resource.scope_spans:
                self.spans.extend(_span(service, span) for span in scope.spans)
        self.raw.append(request.SerializeToString())
        return trace_service_pb2.ExportTraceServiceResponse()

    def spans_of(self, trace_id: str) -> list[CollectedSpan]:
        """The spans of one trace, by start."""
        return sorted(
            (span for span in self.spans if span.trace_id == trace_id), key=lambda span: span.start_ns
        )


class _Metrics(metrics_service_pb2_grpc.MetricsServiceServicer):
    def __init__(self, collector: Collector) -> None:
        self._collector = collector

    def Export(self, request: Any, context: Any) -> Any:
        for resource in request.resource_metrics:
            for scope in resource.scope_metrics:
                self._collector.metric_names.update(metric.name for metric in scope.metrics)
        self._collector.raw.append(request.SerializeToString())
        return metrics_service_pb2.ExportMetricsServiceResponse()


class _Logs(logs_service_pb2_grpc.LogsServiceServicer):
    def __init__(self, collector: Collector) -> None:
        self._collector = collector

    def Export(self, request: Any, context: Any) -> Any:
        self._collector.raw.append(request.SerializeToString())
        return logs_service_pb2.ExportLogsServiceResponse()


def roots(spans: Iterable[CollectedSpan]) -> list[CollectedSpan]:
    """The spans whose parent is not among them: a connected tree has one."""
    known = list(spans)
    ids = {span.span_id for span in known}
    return [span for span in known if span.parent_id not in ids]


def _span(service: str, span: Any) -> CollectedSpan:
    return CollectedSpan(
        service=service,
        name=span.name,
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        start_ns=span.start_time_unix_nano,
        end_ns=span.end_time_unix_nano,
        links=tuple((link.trace_id.hex(), link.span_id.hex()) for link in span.links),
        failed=span.status.code == span.status.STATUS_CODE_ERROR,
        attributes=_attributes(span.attributes),
    )


def _attributes(pairs: Any) -> dict[str, str]:
    return {pair.key: pair.value.string_value or str(pair.value.int_value) for pair in pairs}
