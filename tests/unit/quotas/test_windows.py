from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perron.chassis.clock import from_us, to_us
from perron.quotas.windows import Counter, Instant, Window, bucket_at, leaves_us

START_US = to_us(datetime(2025, 2, 6, 12, 0, 0, 123_456, tzinfo=UTC))
LENGTHS = {
    Window.SECOND: 1_000_000,
    Window.MINUTE: 60_000_000,
    Window.HOUR: 3_600_000_000,
    Window.DAY: 86_400_000_000,
}
SLIDING = sorted(LENGTHS)

windows = st.sampled_from(SLIDING)


@dataclass
class ExactLog:
    """The reference: every charge with its instant. A charge counts for exactly one length of the window."""

    length_us: int
    charges: list[tuple[int, int]] = field(default_factory=list)

    def used(self, now_us: int) -> int:
        return sum(amount for charged_us, amount in self.charges if charged_us > now_us - self.length_us)

    def admits_us(self, now_us: int, amount: int, cost: int) -> int:
        instants = [now_us, *(charged_us + self.length_us for charged_us, _ in self.charges)]
        return min(each for each in instants if each >= now_us and self.used(each) + cost <= amount)

    def most_in_any_window(self) -> int:
        """The fullest window of the length: wherever it starts, it can be shifted to start at a charge."""
        return max((self.used_from(start_us) for start_us, _ in self.charges), default=0)

    def used_from(self, start_us: int) -> int:
        return sum(amount for at_us, amount in self.charges if start_us <= at_us < start_us + self.length_us)


@st.composite
def calls(draw: st.DrawFn) -> tuple[Window, int, list[tuple[int, int]]]:
    """A window, an amount, and calls as (microseconds since the one before, cost)."""
    window = draw(windows)
    length = LENGTHS[window]
    amount = draw(st.integers(1, 100))
    gaps = st.one_of(st.integers(0, length // 30), st.integers(0, 2 * length), st.just(0))
    costs = st.integers(1, max(1, amount))
    return window, amount, draw(st.lists(st.tuples(gaps, costs), min_size=1, max_size=120))


def play(window: Window, amount: int, steps: Iterable[tuple[int, int]]) -> tuple[Counter, ExactLog, int]:
    """Admits what fits, and holds the counter to the promise at each step."""
    length = LENGTHS[window]
    late = -(-length // 60)
    counter, log, now_us = Counter("", 1, window), ExactLog(length), START_US
    for gap, cost in steps:
        now_us += gap
        now = Instant(now_us)
        counter.move_to(now)
        exact_us = log.admits_us(now_us, amount, cost)
        if counter.total + cost <= amount:
            assert exact_us == now_us, "capacity came back early"
            counter.charge(now.buckets[window], cost)
            log.charges.append((now_us, cost))
        else:
            admits_us = counter.admits_us(amount, cost)
            assert exact_us <= admits_us <= exact_us + late, "the reset time is early, or too late"
    return counter, log, now_us


@given(calls())
def test_no_window_wherever_it_starts_admits_more_than_the_amount(
    drawn: tuple[Window, int, list[tuple[int, int]]],
) -> None:
    window, amount, steps = drawn
    _, log, _ = play(window, amount, steps)
    assert log.most_in_any_window() <= amount


@given(calls(), st.data())
def test_a_retry_at_the_reset_time_succeeds_and_not_a_microsecond_before(
    drawn: tuple[Window, int, list[tuple[int, int]]], data: st.DataObject
) -> None:
    window, amount, steps = drawn
    counter, _, now_us = play(window, amount, steps)
    cost = data.draw(st.integers(1, amount))
    counter.move_to(Instant(now_us))
    if counter.total + cost <= amount:
        return
    admits_us = counter.admits_us(amount, cost)

    counter.move_to(Instant(admits_us - 1))
    assert counter.total + cost > amount
    counter.move_to(Instant(admits_us))
    assert counter.total + cost <= amount


@pytest.mark.parametrize("window", SLIDING)
def test_sixty_sub_buckets_would_admit_more_than_the_amount(window: Window) -> None:
    # The reason for the sixty-first: a charge early in its sub-bucket, dropped before a length has passed.
    length = LENGTHS[window]
    bucket = bucket_at(window, START_US)
    early_us = -(-bucket * length // 60)
    with_sixty_us = -(-(bucket + 60) * length // 60)
    assert with_sixty_us - early_us <= length < leaves_us(window, bucket) - early_us


@pytest.mark.parametrize("window", SLIDING)
def test_sustained_admission_is_at_least_sixty_sixty_firsts_of_the_limit(window: Window) -> None:
    amount, length = 120, LENGTHS[window]
    counter, admitted = Counter("", 1, window), 0
    for step in range(10 * 480):
        now = Instant(START_US + step * length // 480)
        counter.move_to(now)
        if counter.total < amount:
            counter.charge(now.buckets[window], 1)
            admitted += 1
    assert Fraction(admitted, 10) >= amount * Fraction(60, 61)


def test_months_follow_the_calendar_in_utc() -> None:
    counter = Counter("", 2, Window.MONTH)
    last = to_us(datetime(2024, 2, 29, 23, 59, 59, 999_999, tzinfo=UTC))
    counter.move_to(Instant(last))
    counter.charge(bucket_at(Window.MONTH, last), 7)
    assert from_us(counter.returns_us()) == datetime(2024, 3, 1, tzinfo=UTC)

    counter.move_to(Instant(last))
    assert counter.total == 7
    counter.move_to(Instant(last + 1))
    assert counter.total == 0


def test_december_is_followed_by_january() -> None:
    december = bucket_at(Window.MONTH, to_us(datetime(2025, 12, 5, tzinfo=UTC)))
    assert from_us(leaves_us(Window.MONTH, december)) == datetime(2026, 1, 1, tzinfo=UTC)


@given(calls(), st.data())
def test_a_refund_gives_back_what_its_sub_bucket_was_charged(
    drawn: tuple[Window, int, list[tuple[int, int]]], data: st.DataObject
) -> None:
    window, amount, steps = drawn
    counter, log, now_us = play(window, amount, steps)
    charged_us, cost = data.draw(st.sampled_from(log.charges or [(START_US, 0)]))
    back = data.draw(st.integers(0, cost))
    later_us = now_us + data.draw(st.integers(0, 2 * LENGTHS[window]))
    counter.move_to(Instant(later_us))
    before, live = counter.total, leaves_us(window, bucket_at(window, charged_us)) > later_us

    counter.refund(bucket_at(window, charged_us), back)

    assert counter.total == before - (back if live else 0)
    assert counter.total == sum(counter.amounts)


@given(st.lists(st.tuples(st.integers(0, 70_000_000), st.integers(0, 5)), max_size=80))
def test_the_total_is_always_the_sum_of_at_most_sixty_one_sub_buckets(steps: list[tuple[int, int]]) -> None:
    counter, now_us = Counter("", 1, Window.MINUTE), START_US
    for gap, cost in steps:
        now_us += gap
        now = Instant(now_us)
        counter.move_to(now)
        counter.charge(now.buckets[Window.MINUTE], cost)
        assert counter.total == sum(counter.amounts)
        assert len(counter.amounts) <= 61
