"""Pace: a stream of bytes that all but stands still is ended, since its place is somebody else's.

Only the time that a client lets us wait is counted, never our own. Whoever is ended loses nothing: an upload
goes on where it was.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Final, TypeVar

from perron.chassis.errors import DeadlineExceeded

T = TypeVar("T")
WINDOW_SECONDS: Final = 60.0
WINDOW_BYTES_MIN: Final = 64 * 1024


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


def _stalled() -> DeadlineExceeded:
    return DeadlineExceeded("DEADLINE_PASSED", "the stream all but stood still; go on where it was")
