"""Time as the suite keeps it: aware datetimes in UTC in the domain, microseconds since 1970 in tables.

The clock of a process serves what a single process decides (the age of a passport). What several replicas
decide together takes the time of their database from `Transaction.now_us()`.
"""

import time
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


class Clock(Protocol):
    """Tells the time; given to whatever needs it, so that tests can move it."""

    def now(self) -> datetime:
        """Returns the present instant, aware, in UTC."""
        ...

    def now_us(self) -> int:
        """Returns the present instant in microseconds since 1970."""
        ...


class SystemClock:
    """The clock of this machine."""

    __slots__ = ()

    def now(self) -> datetime:
        """Returns the present instant, aware, in UTC."""
        return from_us(self.now_us())

    def now_us(self) -> int:
        """Returns the present instant in microseconds since 1970."""
        return time.time_ns() // 1000


def to_us(instant: datetime) -> int:
    """Turns an aware datetime into microseconds since 1970, exactly."""
    return (instant - _EPOCH) // _MICROSECOND


def from_us(microseconds: int) -> datetime:
    """Turns microseconds since 1970 into an aware datetime in UTC, exactly."""
    return _EPOCH + timedelta(microseconds=microseconds)
