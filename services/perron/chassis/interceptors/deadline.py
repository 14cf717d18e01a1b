"""Every call has an end: the caller's deadline, or the default where the caller names none.

The instant stands in a context variable, from where batches and calls to peers take what is left of it. A
handler that is still running then is cancelled; a transaction that it started ends whole.
"""

from __future__ import annotations

import asyncio
import contextvars
from typing import TYPE_CHECKING, Any, Final

from perron.chassis.errors import DeadlineExceeded

if TYPE_CHECKING:
    from perron.chassis.method import Behaviour, Context, Method

DEFAULT_SECONDS: Final = 30.0

_instant: contextvars.ContextVar[float | None] = contextvars.ContextVar("perron_deadline", default=None)


def instant() -> float | None:
    """When the current call ends, by the event loop's clock; None outside of calls and in streams."""
    return _instant.get()


def set_instant(value: float | None) -> None:
    """Give the current context an end of its own, as a batch does for its runner."""
    _instant.set(value)


def remaining_seconds(default: float) -> float:
    """What is left of the current call, never less than zero; `default` where there is no end."""
    end = _instant.get()
    if end is None:
        return default
    return max(0.0, end - asyncio.get_running_loop().time())


def wrap(method: Method, behaviour: Behaviour) -> Behaviour:
    """Bound a unary answer by the deadline. Streams, either way, are bounded by how they move instead."""
    if method.response_streams or method.request_streams:
        return behaviour

    async def within(request: Any, context: Context) -> Any:
        left: Any = context.time_remaining()  # typed as a float; None where the caller names no deadline
        loop = asyncio.get_running_loop()
        if left is None:
            left = DEFAULT_SECONDS
            _instant.set(loop.time() + left)
            try:
                async with asyncio.timeout(left):
                    return await behaviour(request, context)
            except TimeoutError:
                raise _passed() from None
        if left <= 0:
            raise _passed()
        _instant.set(loop.time() + left)  # gRPC itself cancels the handler at the caller's deadline
        return await behaviour(request, context)

    return within


def _passed() -> DeadlineExceeded:
    return DeadlineExceeded("DEADLINE_PASSED", "the deadline passed before the work was done")
