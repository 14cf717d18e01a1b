from datetime import UTC, datetime, timedelta, timezone

from hypothesis import given
from hypothesis import strategies as st

from perron.chassis.clock import SystemClock, from_us, to_us
from perron.chassis.testing import FakeClock


@given(st.datetimes(min_value=datetime(1, 1, 2), max_value=datetime(9999, 12, 30)))  # noqa: DTZ001 (made aware below)
def test_microseconds_lose_nothing(naive: datetime) -> None:
    instant = naive.replace(tzinfo=UTC)
    assert from_us(to_us(instant)) == instant


def test_instants_of_other_zones_are_the_same_instants() -> None:
    east = datetime(2025, 2, 6, 14, tzinfo=timezone(timedelta(hours=2)))
    assert from_us(to_us(east)) == datetime(2025, 2, 6, 12, tzinfo=UTC)


def test_the_clock_of_the_machine_tells_the_time() -> None:
    clock = SystemClock()
    assert abs(clock.now() - datetime.now(UTC)) < timedelta(seconds=5)
    assert clock.now().tzinfo is UTC


def test_the_fake_clock_moves_only_by_hand() -> None:
    clock = FakeClock()
    before = clock.now()
    clock.advance(timedelta(minutes=-3))
    assert clock.now() - before == timedelta(minutes=-3)
