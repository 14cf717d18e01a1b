"""Traces, metrics and logs of one call, as the code writes them; `exporters` sends them somewhere.

A caller's trace follows its item through every batch. Where several callers share a batch, the work
(transactions, calls to peers) belongs to the batch's own trace, and each sampled caller gets one span in
its own trace, linked to the batch. What a newcomer gets wrong: an exception's text may quote content, so
neither spans nor logs ever record it; a defect is logged with its type and its stack, and the caller gets
the reference.
"""

from __future__ import annotations

import contextvars
import random
import time
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import structlog
from grpc.aio import AbortError
from opentelemetry import context as otel_context
from opentelemetry import metrics, trace
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)

from perron.chassis.errors import Internal, PerronError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from opentelemetry.util.types import AttributeValue

ItemRecorder = Callable[[str, SpanContext, SpanContext, int, str], None]
"""Records one span: its name, its parent, the batch to link, its start in ns, why it was refused or ""."""

_SAMPLED: Final = TraceFlags(TraceFlags.SAMPLED)
_UNSAMPLED: Final = TraceFlags(TraceFlags.DEFAULT)
_PARENT_LENGTH: Final = 55
_RATIO_SCALE: Final = 1 << 32

_tracer = trace.get_tracer("perron")
_meter = metrics.get_meter("perron")
_call_duration = _meter.create_histogram(
    "rpc.server.call.duration", "s", "Time from request to answer, by method and code."
)
_batch_items = _meter.create_histogram("perron.batch.items", "{item}", "Items that shared one batch.")
_batch_wait = _meter.create_histogram(
    "perron.batch.wait", "s", "Time that a batch's first item waited for it."
)
_state = {"ratio": 0, "measure": False}
_span: contextvars.ContextVar[Span] = contextvars.ContextVar("perron_span", default=trace.INVALID_SPAN)


class Scope:
    """A span that is current while the `with` block runs and ends with it."""

    __slots__ = ("_tokens", "span")

    def __init__(self, span: Span) -> None:
        self.span = span

    def __enter__(self) -> Span:
        self._tokens = (_span.set(self.span), otel_context.attach(set_span_in_context(self.span)))
        return self.span

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        span_token, context_token = self._tokens
        try:
            _span.reset(span_token)
        except ValueError:  # a stream that its client left is closed in another context: nothing to restore
            pass
        else:
            otel_context.detach(context_token)
        if self.span.is_recording():
            if error is not None and not isinstance(error, AbortError):  # an abort was marked with its reason
                _mark(self.span, error)
            self.span.end()


class _NoScope:
    """The scope of work that nobody sampled."""

    __slots__ = ()

    def __enter__(self) -> Span:
        return trace.INVALID_SPAN

    def __exit__(self, *_: object) -> None:
        return None


_NO_SCOPE: Final = _NoScope()


def configure(*, ratio: float, measure: bool, record: ItemRecorder | None = None) -> None:
    """Sample `ratio` of the traces that begin here, from 0 to 1, and record metrics if `measure`.

    `record` takes what an item spent in a batch, at a third of the cost of a span that is begun and ended.
    """
    _state["ratio"] = int(ratio * _RATIO_SCALE)
    _state["measure"] = measure
    _recorders["item"] = record or _record_item


def logger(name: str) -> Any:
    """A structured logger: `logger("store").info("opened", dialect="sqlite")` is one line of JSON."""
    return structlog.get_logger(name)


def defect(error: BaseException, where: str) -> Internal:
    """Log a defect by type and stack, never by its text, and return what the caller may know: a reference."""
    reference = f"{random.getrandbits(48):012x}"
    frames = [
        f"{frame.filename.rsplit('/', 1)[-1]}:{frame.lineno} {frame.name}"
        for frame in traceback.extract_tb(error.__traceback__)
    ]
    logger("defect").error(
        "defect", reference=reference, where=where, type=type(error).__qualname__, frames=frames[-12:]
    )
    return Internal("INTERNAL", f"internal error; reference {reference}", metadata={"reference": reference})


# Spans.


def server_scope(method: str, trace_parent: str) -> Scope:
    """The span of one call that arrives, in the caller's trace or, where it brings none, in a new one."""
    parent = parse(trace_parent)
    if parent is None:
        sampled = random.getrandbits(32) < _state["ratio"]
        if not sampled:
            return Scope(
                NonRecordingSpan(SpanContext(_trace_id(), span_id(), is_remote=False, trace_flags=_UNSAMPLED))
            )
        return Scope(_tracer.start_span(method, otel_context.Context(), SpanKind.SERVER, _rpc(method)))
    if not parent.trace_flags.sampled:
        return Scope(NonRecordingSpan(parent))
    return Scope(_tracer.start_span(method, _within(parent), SpanKind.SERVER, _rpc(method)))


def client_scope(method: str) -> Scope | _NoScope:
    """The span of one call to a peer, below the current span."""
    return _child(method, SpanKind.CLIENT, lambda: _rpc(method))


def database_span(operation: str, dialect: str) -> Scope | _NoScope:
    """The span of one transaction, below the current span."""
    return _child(
        f"{dialect} {operation}",
        SpanKind.CLIENT,
        lambda: {"db.system.name": dialect, "db.operation.name": operation},
    )


def batch_scope(name: str, trace_parents: Sequence[str]) -> Scope | _NoScope:
    """The span of one batch: its caller's child for a batch of one, else the root of its own trace."""
    if len(trace_parents) == 1:
        parent = parse(trace_parents[0])
        if parent is None or not parent.trace_flags.sampled:
            return _NO_SCOPE
        return Scope(_tracer.start_span(name, _within(parent), SpanKind.INTERNAL))
    if not any(map(is_sampled, trace_parents)):
        return _NO_SCOPE
    return Scope(
        _tracer.start_span(
            name, otel_context.Context(), SpanKind.INTERNAL, {"perron.batch.items": len(trace_parents)}
        )
    )


def record_item(name: str, trace_parent: str, batch: Span, start_ns: int, outcome: object) -> None:
    """Record one caller's part in a shared batch as a finished span in the caller's own trace."""
    parent = parse(trace_parent)
    if parent is None or not parent.trace_flags.sampled:
        return
    reason = outcome.reason if isinstance(outcome, PerronError) else ""
    _recorders["item"](name, parent, batch.get_span_context(), start_ns, reason)


def mark(error: PerronError) -> None:
    """Note a refusal on the current span, by its reason."""
    span = _span.get()
    if span.is_recording():
        _mark(span, error)


def current_trace_parent() -> str:
    """The W3C traceparent of the current span; empty where there is none."""
    context = _span.get().get_span_context()
    if not context.is_valid:
        return ""
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}"


def current_trace_id() -> str:
    """The current trace as 32 hex digits; empty where there is none."""
    context = _span.get().get_span_context()
    return f"{context.trace_id:032x}" if context.is_valid else ""


def is_sampled(trace_parent: str) -> bool:
    """Whether a traceparent asks for its trace to be recorded."""
    return len(trace_parent) == _PARENT_LENGTH and trace_parent[-1] in "13579bdf"


def parse(trace_parent: str) -> SpanContext | None:
    """The span that a W3C traceparent names; None where it is empty or malformed."""
    if len(trace_parent) != _PARENT_LENGTH:
        return None
    try:
        trace_id, span_id, flags = (
            int(trace_parent[3:35], 16),
            int(trace_parent[36:52], 16),
            int(trace_parent[53:55], 16),
        )
    except ValueError:
        return None
    context = SpanContext(
        trace_id, span_id, is_remote=True, trace_flags=_SAMPLED if flags & 1 else _UNSAMPLED
    )
    return context if context.is_valid else None


# Metrics.


def measure_call(method: str, code: str, seconds: float) -> None:
    """Count one finished call."""
    if _state["measure"]:
        _call_duration.record(seconds, {"rpc.method": method, "rpc.response.status_code": code})


def measure_batch(name: str, items: int, wait_seconds: float) -> None:
    """Count one batch: how many shared it, and how long the first of them had waited."""
    if _state["measure"]:
        attributes = {"perron.batch.name": name}
        _batch_items.record(items, attributes)
        _batch_wait.record(wait_seconds, attributes)


# Details.


def _child(
    name: str, kind: SpanKind, attributes: Callable[[], dict[str, AttributeValue]]
) -> Scope | _NoScope:
    current = _span.get()
    if not current.get_span_context().trace_flags.sampled:
        return _NO_SCOPE
    return Scope(_tracer.start_span(name, set_span_in_context(current), kind, attributes()))


def _record_item(name: str, parent: SpanContext, batch: SpanContext, start_ns: int, reason: str) -> None:
    span = _tracer.start_span(
        name, _within(parent), SpanKind.SERVER, links=[Link(batch)], start_time=start_ns
    )
    if reason:
        span.set_status(Status(StatusCode.ERROR))
        span.set_attribute("error.type", reason)
    span.end()


_recorders: dict[str, ItemRecorder] = {"item": _record_item}


def _within(parent: SpanContext) -> otel_context.Context:
    return set_span_in_context(NonRecordingSpan(parent), otel_context.Context())


def _mark(span: Span, error: BaseException) -> None:
    reason = error.reason if isinstance(error, PerronError) else type(error).__qualname__
    span.set_status(Status(StatusCode.ERROR))
    span.set_attribute("error.type", reason)


def _rpc(method: str) -> dict[str, AttributeValue]:
    return {"rpc.system.name": "grpc", "rpc.method": method}


def _trace_id() -> int:
    return random.getrandbits(128) or 1


def span_id() -> int:
    """Draw the id of a new span."""
    return random.getrandbits(64) or 1


def now_ns() -> int:
    """Wall time for spans, in nanoseconds since 1970."""
    return time.time_ns()
