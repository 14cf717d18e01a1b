"""The instant that a batch is judged by: the store's time, never backwards and never suddenly far forwards.

Backwards, the latest instant at which a row was charged holds: capacity then comes back late, never early.
Forwards, a step of more than an hour would empty every window at once, so it is refused until an operator has
looked; a restart accepts the clock as it is. What a newcomer gets wrong: a row that was not touched for days
is no step, so the store's clock is compared with the machine's steady one and not with the rows.
"""

from collections.abc import Callable
from typing import Final

from perron.chassis import telemetry
from perron.quotas import errors

_STEP_MAX_US: Final = 3_600_000_000

_log = telemetry.logger("steady_time")


class SteadyTime:
    """Watches the store's clock with `steady_us`, which counts microseconds and is never set."""

    def __init__(self, steady_us: Callable[[], int]) -> None:
        self._steady_us = steady_us
        self._ahead_us: int | None = None

    def instant_us(self, store_us: int, latest_us: int) -> int:
        """Returns the instant to judge by: the store's, read after its locks, or the rows' latest.

        Raises Unavailable with CLOCK_STEPPED.
        """
        ahead = store_us - self._steady_us()
        if self._ahead_us is None:
            self._ahead_us = ahead
        step = ahead - self._ahead_us
        if step > _STEP_MAX_US:
            _log.error("the store's clock stepped forward", seconds=step // 1_000_000)
            raise errors.clock_stepped()
        # After a step backwards the old difference stays, so that setting the clock right again is no step.
        self._ahead_us = max(self._ahead_us, ahead)
        return max(store_us, latest_us)
