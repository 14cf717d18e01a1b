"""A process takes as much work at a time as it can hold; the rest is told, at once, to come back.

gRPC's own bounds answer at random with CANCELLED or UNAVAILABLE and without a time to retry.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from perron.chassis.errors import ResourceExhausted

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from perron.chassis.method import Behaviour, Context, Method

CALLS_MAX: Final = 8192
STREAMS_MAX: Final = 1024
STREAM_IDLE_SECONDS: Final = 60.0
_RETRY_AFTER: Final = timedelta(seconds=1)


class Load:
    """Counts what is in flight in one process."""

    def __init__(self, *, calls_max: int = CALLS_MAX, streams_max: int = STREAMS_MAX) -> None:
        self._calls_max = calls_max
        self._streams_max = streams_max
        self._calls = 0
        self._streams = 0

    def wrap(self, method: Method, behaviour: Behaviour) -> Behaviour:
        """Refuse a call beyond the bound; end a stream in which nothing moves for a minute."""

        async def bounded(request: Any, context: Context) -> Any:
            if self._calls >= self._calls_max:
                raise _overloaded()
            self._calls += 1
            try:
                return await behaviour(request, context)
            finally:
                self._calls -= 1

        async def bounded_stream(request: Any, context: Context) -> AsyncIterator[Any]:
            if self._streams >= self._streams_max:
                raise _overloaded()
            self._streams += 1
            loop = asyncio.get_running_loop()
            task = asyncio.current_task()
            end = task.cancel if task is not None else lambda: False
            idle = loop.call_later(STREAM_IDLE_SECONDS, end)
            try:
                async for response in behaviour(request, context):
                    idle.cancel()
                    idle = loop.call_later(STREAM_IDLE_SECONDS, end)  # runs on while a client does not read
                    yield response
            finally:
                idle.cancel()
                self._streams -= 1

        return bounded_stream if method.response_streams else bounded


def _overloaded() -> ResourceExhausted:
    return ResourceExhausted("OVERLOADED", "this process is full; come back later", retry_after=_RETRY_AFTER)
