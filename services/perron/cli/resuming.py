"""Goes on with a stream that broke off: how long to wait, and when to give up.

Streams end as a matter of course: a service that is restarted, or that sends its callers to another replica,
ends them all. Giving up is therefore counted from the last time that a stream got anywhere.
"""

import time
from collections.abc import Callable
from typing import Final

from rich.markup import escape

from perron.cli import output
from perron.cli.connection import RefusedError, UnreachableError

PAUSES_SECONDS: Final = (0.2, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0)
_PASSING: Final = frozenset({"DEADLINE_PASSED", "OVERLOADED", "UPLOAD_OFFSET_WRONG"})
"""Reasons that speak of this stream alone; whatever is UNAVAILABLE passes too."""


class Patience:
    """What is left of it: a longer pause after each failure, all of it again after each success."""

    def __init__(self, pause: Callable[[float], None] = time.sleep) -> None:
        self._pause = pause
        self._failures = 0

    def renew(self) -> None:
        """Notes that the stream got on."""
        self._failures = 0

    def bear(self, broken: RefusedError | UnreachableError) -> None:
        """Waits before the next attempt; raises what broke where none would help, or too many did not."""
        if not _passes(broken) or self._failures == len(PAUSES_SECONDS):
            raise broken
        seconds = PAUSES_SECONDS[self._failures]
        if isinstance(broken, RefusedError) and broken.error.retry_after is not None:
            seconds = max(seconds, broken.error.retry_after.total_seconds())
        if self._failures:  # a single break is no news
            output.note(f"{escape(str(broken))}; trying again in {seconds:g} s")
        self._failures += 1
        self._pause(seconds)


def _passes(broken: RefusedError | UnreachableError) -> bool:
    if isinstance(broken, UnreachableError):
        return True
    return broken.error.code == "UNAVAILABLE" or broken.error.reason in _PASSING
