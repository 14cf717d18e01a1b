"""Pace: a stream of bytes that all but stands still is ended, since its place is somebody else's.

Only the time that a client lets us wait is counted, never our own. Whoever is ended loses nothing: an upload
goes on where it was.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Final, TypeVar

from perron.chassis.errors import DeadlineExceeded, PerronError

T = TypeVar("T")
WINDOW_SECONDS: Final = 60.0
WINDOW_BYTES_MIN: Final = 64 * 1024
_LET_OUT_SECONDS: Final = 1.0
_LET_OUT_BYTES_MAX: Final = 32 * 1024 * 1024


async def paced(
    messages: AsyncIterator[T], *, seconds: float = WINDOW_SECONDS, bytes_min: int = WINDOW_BYTES_MIN
) -> AsyncIterator[T]:
    """Yields messages with `chunk`s as they come.

    Raises DeadlineExceeded (DEADLINE_PASSED) where none comes within the window, or too little in all.
    """
    loop = asyncio.get_running_loop()
    waited, brought = 0.0, 0
    while True:
        began = loop.time()
        try:
            async with asyncio.timeout(seconds):
                message = await anext(messages)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise _stalled() from None
        waited += loop.time() - began
        brought += len(getattr(message, "chunk", b""))
        if waited > seconds:
            if brought < bytes_min:
                raise _stalled()
            waited, brought = 0.0, 0
        yield message


async def let_out(messages: AsyncIterator[T]) -> None:
    """Reads on for a moment and keeps nothing, before a client is refused that may still be sending.

    A client of grpc.aio whose message meets the end of its call is told INTERNAL and never learns why.
    """
    brought = 0
    with contextlib.suppress(TimeoutError, PerronError):
        async with asyncio.timeout(_LET_OUT_SECONDS):
            async for message in messages:
                brought += len(getattr(message, "chunk", b""))
                if brought > _LET_OUT_BYTES_MAX:
                    return


def _stalled() -> DeadlineExceeded:
    return DeadlineExceeded("DEADLINE_PASSED", "the stream all but stood still; go on where it was")
