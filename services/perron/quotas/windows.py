"""Sliding windows: how much was used in the last second, minute, hour, day, and in the calendar month.

The promise. No window of the length W, wherever it starts, admits more than the amount. What was admitted
comes back never early and at most W/60 late: with t the instant at which an exact log of every charge would
admit a call, a counter admits it within [t, t + W/60], rounded up to a microsecond. Months follow the
calendar in UTC and come back at its turn.

How. Time is cut into sub-buckets of W/60, counted from 1970. A counter holds what was charged in each and
sums the running one and the 60 before it.

Why it holds. A charge at instant s lies in sub-bucket i = floor(60·s / W), which counts until sub-bucket i +
61 starts, at (i + 61)·W/60. Since i ≤ 60·s/W < i + 1, that lies after s + W, so each charge is counted for
longer than any window that contains it, and at most at s + W + W/60. Sixty sub-buckets in all would be one
too few: a charge made early in its sub-bucket would leave before W had passed, and a limit of 100 was seen to
admit 104.

What a newcomer gets wrong: a counter knows no amount. Changing a limit touches no counter, and whoever
charges one has compared its total before, at the same instant and under the same lock.
"""

import functools
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from typing import Final

import msgspec

SUB_BUCKETS: Final = 60

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


class Window(IntEnum):
    """The time over which a counter sums; the values are those of the contract and of stored counters."""

    SECOND = 1
    MINUTE = 2
    HOUR = 3
    DAY = 4
    MONTH = 5


# By the window's value; months have no one length.
_LENGTHS_US: Final = (0, 1_000_000, 60_000_000, 3_600_000_000, 86_400_000_000)
_MONTH: Final = Window.MONTH.value


def bucket_at(window: int, instant_us: int) -> int:
    """Returns the number of the sub-bucket that an instant lies in; of the month, for months."""
    if window == _MONTH:
        instant = _EPOCH + timedelta(microseconds=instant_us)
        return instant.year * 12 + instant.month - 1
    return instant_us * SUB_BUCKETS // _LENGTHS_US[window]


@functools.lru_cache(maxsize=4096)
def leaves_us(window: int, bucket: int) -> int:
    """Returns the first microsecond at which what was charged in a sub-bucket no longer counts."""
    if window == _MONTH:
        year, month = divmod(bucket + 1, 12)
        return (datetime(year, month + 1, 1, tzinfo=UTC) - _EPOCH) // _MICROSECOND
    return -(-(bucket + SUB_BUCKETS + 1) * _LENGTHS_US[window] // SUB_BUCKETS)


class Instant:
    """One instant and its sub-bucket in each window, worked out once for a whole batch."""

    __slots__ = ("buckets", "us")

    def __init__(self, instant_us: int) -> None:
        self.us = instant_us
        # By the window's value; nothing has the value 0.
        self.buckets = (0, *(bucket_at(window, instant_us) for window in Window))


class Counter(msgspec.Struct, array_like=True, gc=False):
    """What one scope used of one model and metric in one window.

    `amounts` are the sub-buckets from number `first` on, zeros included, the newest last; `total` is their
    sum. It is stored as it stands, so the order of the fields is the format. Every method but `move_to` needs
    a counter that was moved to the instant it is asked about.
    """

    model: str
    metric: int
    window: int
    first: int = 0
    total: int = 0
    amounts: list[int] = msgspec.field(default_factory=list)

    def move_to(self, now: Instant) -> None:
        """Drops what no longer counts."""
        oldest = now.buckets[self.window]
        if self.window != _MONTH:
            oldest -= SUB_BUCKETS
        gone = oldest - self.first
        if gone <= 0:
            return
        amounts = self.amounts
        if gone >= len(amounts):
            amounts.clear()
            self.total = 0
        else:
            self.total -= sum(amounts[:gone])
            del amounts[:gone]
            self.first = oldest

    def charge(self, bucket: int, amount: int) -> None:
        """Adds to the running sub-bucket, whose number is `bucket`."""
        amounts = self.amounts
        if not amounts:
            self.first = bucket
            amounts.append(amount)
        else:
            gap = bucket - self.first - len(amounts)
            if gap < 0:
                amounts[-1] += amount
            else:
                if gap:
                    amounts.extend([0] * gap)
                amounts.append(amount)
        self.total += amount

    def refund(self, bucket: int, amount: int) -> None:
        """Takes a charge back from the sub-bucket it was made in; what left the window is gone already."""
        place = bucket - self.first
        if 0 <= place < len(self.amounts):
            amount = min(amount, self.amounts[place])
            self.amounts[place] -= amount
            self.total -= amount

    def returns_us(self) -> int:
        """Returns the instant at which capacity next comes back; 0 while nothing is counted."""
        if not self.total:
            return 0
        amounts = self.amounts
        place = 0
        while not amounts[place]:
            place += 1
        return leaves_us(self.window, self.first + place)

    def admits_us(self, amount: int, cost: int) -> int:
        """Returns the instant at which a limit of `amount` admits `cost`, if nothing else is charged.

        The cost is at most the amount, and does not fit at this instant.
        """
        total = self.total
        for place, charged in enumerate(self.amounts):
            total -= charged
            if charged and total + cost <= amount:
                return leaves_us(self.window, self.first + place)
        raise AssertionError("the cost is above the amount")
