"""The outermost layer: a span for the call, and its trace id beside every answer, errors included."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

import grpc

from perron.chassis import telemetry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from perron.chassis.method import Behaviour, Context, Method

TRACE_KEY: Final = "perron-trace-id"
PARENT_KEY: Final = "traceparent"
_CODES: Final = {code.value[0]: code.name for code in grpc.StatusCode}


def wrap(method: Method, behaviour: Behaviour) -> Behaviour:
    """Trace and measure every call of `method`."""
    name = method.name

    async def traced(request: Any, context: Context) -> Any:
        start = time.perf_counter()
        with telemetry.server_scope(name, _parent(context)):
            context.set_trailing_metadata(((TRACE_KEY, telemetry.current_trace_id()),))
            try:
                return await behaviour(request, context)
            finally:
                telemetry.measure_call(name, _code(context), time.perf_counter() - start)

    async def traced_stream(request: Any, context: Context) -> AsyncIterator[Any]:
        start = time.perf_counter()
        with telemetry.server_scope(name, _parent(context)):
            context.set_trailing_metadata(((TRACE_KEY, telemetry.current_trace_id()),))
            try:
                async for response in behaviour(request, context):
                    yield response
            finally:
                telemetry.measure_call(name, _code(context), time.perf_counter() - start)

    return traced_stream if method.response_streams else traced


def _parent(context: Context) -> str:
    for key, value in context.invocation_metadata() or ():
        if key == PARENT_KEY:
            return str(value)
    return ""


def _code(context: Context) -> str:
    code: Any = context.code()  # typed as StatusCode; grpc.aio returns its number, or None before one is set
    return _CODES.get(code or 0, "UNKNOWN")
