from datetime import timedelta

import pytest

from perron.chassis import status
from perron.chassis.clock import from_us
from perron.chassis.errors import (
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    Unavailable,
)
from perron.chassis.testing import FakeClock
from perron.quotas.model import Admitted, LimitScope, Metric, Settlement
from perron.quotas.reservations import LATE_US
from perron.quotas.store import CountersKey
from perron.quotas.windows import Window
from tests.unit.quotas.platform import (
    MINUTE_US,
    ORGANIZATION,
    TTL_US,
    Service,
    cap,
    identifier,
    limit,
    limits,
    reserve_command,
    settle_command,
)

KEY_10_PER_MINUTE = limit(LimitScope.KEY, Metric.REQUESTS, Window.MINUTE, 10)
KEY_100_TOKENS = limit(LimitScope.KEY, Metric.TOKENS, Window.MINUTE, 100)


@pytest.fixture
def requests_service() -> Service:
    return Service(limits(free=[KEY_10_PER_MINUTE]))


@pytest.fixture
def tokens_service() -> Service:
    return Service(limits(free=[KEY_100_TOKENS]))


def test_exactly_the_limit_is_admitted_and_the_refusal_says_when_to_come_back(
    requests_service: Service,
) -> None:
    service = requests_service
    assert all(isinstance(service.reserve(), Admitted) for _ in range(10))

    refusal = service.reserve()

    assert isinstance(refusal, ResourceExhausted)
    assert refusal.reason == "LIMIT_REACHED"
    assert refusal.metadata["scope"] == "KEY"
    assert refusal.metadata["remaining"] == "0"
    assert refusal.retry_after is not None
    service.clock.advance(refusal.retry_after - timedelta(microseconds=1))
    assert isinstance(service.reserve(), ResourceExhausted)
    service.advance(1)
    assert isinstance(service.reserve(), Admitted)


def test_the_limit_that_binds_longest_says_when_to_come_back() -> None:
    service = Service(
        limits(
            free=[
                limit(LimitScope.KEY, Metric.REQUESTS, Window.SECOND, 1),
                limit(LimitScope.WORKSPACE, Metric.REQUESTS, Window.HOUR, 1),
            ]
        )
    )
    service.reserve()
    refusal = service.reserve()
    assert refusal.metadata["window"] == "HOUR"
    assert len(refusal.quota) == 2
    service.clock.advance(refusal.retry_after)
    assert isinstance(service.reserve(), Admitted)


def test_a_refused_call_consumes_nothing_of_any_limit() -> None:
    service = Service(limits(free=[KEY_10_PER_MINUTE, KEY_100_TOKENS]))
    service.reserve(tokens=60)
    for _ in range(20):
        assert isinstance(service.reserve(tokens=60), ResourceExhausted)
    assert service.used() == {Metric.REQUESTS: 1, Metric.TOKENS: 60}


def test_checking_consumes_nothing_and_makes_no_reservation(requests_service: Service) -> None:
    service = requests_service
    for _ in range(50):
        checked = service.reserve(check_only=True)
        assert checked.reservation_id == b""
    assert service.store.kept == {}
    assert service.used() == {Metric.REQUESTS: 0}


def test_a_cost_above_the_amount_is_told_apart_from_a_limit_that_is_reached(tokens_service: Service) -> None:
    refusal = tokens_service.reserve(tokens=101)
    assert refusal.reason == "EXCEEDS_LIMIT"
    assert refusal.retry_after is None
    assert tokens_service.store.suspended == {}


def test_calls_of_one_batch_are_charged_one_after_the_other(requests_service: Service) -> None:
    service = requests_service
    results = service.domain.reserve(service.store, [reserve_command(number) for number in range(1, 16)])
    assert [isinstance(each, Admitted) for each in results] == [True] * 10 + [False] * 5


def test_one_unknown_tier_in_a_batch_refuses_only_its_own_call(requests_service: Service) -> None:
    service = requests_service
    commands = [reserve_command(1), reserve_command(2, tier="gone", key=2), reserve_command(3)]
    first, second, third = service.domain.reserve(service.store, commands)
    assert isinstance(second, FailedPrecondition)
    assert second.reason == "TIER_UNKNOWN"
    assert isinstance(first, Admitted)
    assert isinstance(third, Admitted)


def test_a_limit_of_one_model_bounds_that_model_alone() -> None:
    service = Service(limits(free=[limit(LimitScope.KEY, Metric.REQUESTS, Window.MINUTE, 1, "large-1")]))
    assert isinstance(service.reserve(model="large-1"), Admitted)
    assert isinstance(service.reserve(model="large-1"), ResourceExhausted)
    assert isinstance(service.reserve(model="small-1"), Admitted)


def test_an_upgrade_admits_the_very_next_call() -> None:
    service = Service(
        limits(
            free=[KEY_10_PER_MINUTE],
            paid=[limit(LimitScope.KEY, Metric.REQUESTS, Window.MINUTE, 11)],
        )
    )
    for _ in range(10):
        service.reserve()
    assert isinstance(service.reserve(), ResourceExhausted)
    assert isinstance(service.reserve(tier="paid"), Admitted)
    assert isinstance(service.reserve(tier="paid"), ResourceExhausted)


def test_an_upgrade_does_not_lift_a_cap_of_the_customers_own_and_the_refusal_says_so() -> None:
    service = Service(
        limits(free=[KEY_10_PER_MINUTE], paid=[limit(LimitScope.KEY, Metric.REQUESTS, Window.MINUTE, 1000)])
    )
    row = CountersKey(LimitScope.KEY, identifier("key", 1), ORGANIZATION, identifier("ws", 1))
    service.store.set_rules(row, cap(Metric.REQUESTS, Window.MINUTE, 3))
    for _ in range(3):
        service.reserve()
    refusal = service.reserve(tier="paid")
    assert refusal.metadata["origin"] == "CAP"
    assert "cap of 3 requests per minute" in refusal.message


def test_a_deleted_workspace_is_refused_and_its_neighbour_is_not(requests_service: Service) -> None:
    service = requests_service
    service.store.graves = frozenset({(ORGANIZATION, identifier("ws", 1))})
    assert isinstance(service.reserve(), NotFound)
    assert isinstance(service.reserve(workspace=2, key=2), Admitted)


def test_a_repeated_reserve_charges_once_and_answers_the_same(requests_service: Service) -> None:
    service = requests_service
    first = service.reserve(7, repeatable=True)
    service.advance(MINUTE_US // 2)
    again = service.reserve(7, repeatable=True)
    assert (again.reservation_id, again.expire_us) == (first.reservation_id, first.expire_us)
    assert service.used() == {Metric.REQUESTS: 1}
    other = service.reserve(7, repeatable=True, tokens=5)
    assert isinstance(other, InvalidArgument)
    assert other.reason == "REQUEST_ID_REUSED"


def test_a_repetition_within_one_batch_charges_once(requests_service: Service) -> None:
    service = requests_service
    results = service.domain.reserve(service.store, [reserve_command(7, repeatable=True)] * 5)
    assert len({each.reservation_id for each in results if isinstance(each, Admitted)}) == 1
    assert service.used() == {Metric.REQUESTS: 1}


def test_a_released_reservation_is_charged_again_when_its_reserve_is_repeated(
    requests_service: Service,
) -> None:
    # Else a gateway whose first attempt was compensated would admit the second one for free.
    service = requests_service
    service.reserve(7, repeatable=True)
    service.release(7)
    assert service.used() == {Metric.REQUESTS: 0}
    assert isinstance(service.reserve(7, repeatable=True), Admitted)
    assert service.used() == {Metric.REQUESTS: 1}


def test_settling_less_gives_the_rest_back(tokens_service: Service) -> None:
    service = tokens_service
    service.reserve(7, tokens=80)
    assert service.settle(7, 30) == Settlement(30, refunded=50, debt=0)
    assert service.used() == {Metric.TOKENS: 30}


def test_settling_more_is_debt_that_admits_nothing_until_it_is_worked_off(tokens_service: Service) -> None:
    service = tokens_service
    service.reserve(7, tokens=80)
    assert service.settle(7, 150) == Settlement(150, refunded=0, debt=70)
    refusal = service.reserve(tokens=0)
    assert isinstance(refusal, ResourceExhausted)
    service.clock.advance(refusal.retry_after or timedelta())
    assert isinstance(service.reserve(tokens=0), Admitted)


def test_settling_twice_is_settling_once(tokens_service: Service) -> None:
    service = tokens_service
    service.reserve(7, tokens=80)
    first = service.settle(7, 30)
    assert service.settle(7, 30) == first
    assert service.settle(7, 99) == first
    both = service.domain.settle(service.store, [settle_command(7, 5), settle_command(7, 6)])
    assert both == [first, first]
    assert service.used() == {Metric.TOKENS: 30}


def test_another_organizations_reservation_looks_like_one_that_does_not_exist(
    tokens_service: Service,
) -> None:
    service = tokens_service
    service.reserve(7, tokens=80)
    foreign, absent = service.settle(7, 0, organization=2), service.settle(8, 0)
    assert isinstance(foreign, NotFound)
    assert foreign.message == absent.message
    with pytest.raises(NotFound):
        service.release(7, identifier("org", 2))
    assert service.used() == {Metric.TOKENS: 80}


def test_a_reservation_ends_one_way_only(tokens_service: Service) -> None:
    service = tokens_service
    service.reserve(7, tokens=10)
    service.settle(7, 10)
    with pytest.raises(FailedPrecondition) as caught:
        service.release(7)
    assert caught.value.reason == "RESERVATION_CLOSED"
    service.reserve(8, tokens=10)
    service.release(8)
    service.release(8)
    assert service.settle(8, 10).reason == "RESERVATION_CLOSED"
    assert service.used() == {Metric.TOKENS: 10}


def test_what_nobody_settled_stays_charged_past_its_ttl() -> None:
    service = Service(limits(free=[limit(LimitScope.KEY, Metric.TOKENS, Window.HOUR, 100)]))
    service.reserve(7, tokens=80)
    service.advance(TTL_US)
    assert service.used() == {Metric.TOKENS: 80}
    with pytest.raises(FailedPrecondition) as caught:
        service.release(7)
    assert caught.value.reason == "RESERVATION_EXPIRED"


def test_a_late_settlement_corrects_for_a_day_and_then_no_more() -> None:
    service = Service(limits(free=[limit(LimitScope.KEY, Metric.TOKENS, Window.MONTH, 100)]))
    service.reserve(7, tokens=80)
    service.reserve(8, tokens=10)
    service.advance(TTL_US + LATE_US)
    assert service.settle(7, 30).refunded == 50
    assert service.used() == {Metric.TOKENS: 40}
    service.advance(1)
    assert service.settle(8, 0).reason == "RESERVATION_EXPIRED"
    assert service.settle(7, 30).tokens == 30
    assert service.used() == {Metric.TOKENS: 40}


def test_a_refund_never_touches_a_limit_that_was_set_after_the_reservation() -> None:
    service = Service(limits(free=[KEY_100_TOKENS]))
    row = CountersKey(LimitScope.KEY, identifier("key", 1), ORGANIZATION, identifier("ws", 1))
    service.reserve(7, tokens=80)
    service.store.set_rules(row, cap(Metric.TOKENS, Window.HOUR, 500))
    service.reserve(8, tokens=15)
    service.settle(7, 0)
    statuses = {each.limit.window: each.used for each in service.reserve(check_only=True).statuses}
    assert statuses == {Window.MINUTE: 15, Window.HOUR: 15}


def test_a_clock_that_goes_back_never_frees_capacity_early(requests_service: Service) -> None:
    service = requests_service
    for _ in range(10):
        service.reserve()
    service.advance(-30 * MINUTE_US)
    assert isinstance(service.reserve(), ResourceExhausted)
    service.advance(30 * MINUTE_US + MINUTE_US // 2)
    assert isinstance(service.reserve(), ResourceExhausted)
    service.advance(MINUTE_US)
    assert isinstance(service.reserve(), Admitted)


def test_a_clock_that_leaps_more_than_an_hour_is_refused_until_it_is_right_again() -> None:
    service = Service(limits(free=[KEY_10_PER_MINUTE]))
    machine = FakeClock()
    service.domain._time._steady_us = machine.now_us
    service.reserve()
    service.advance(61 * MINUTE_US)
    with pytest.raises(Unavailable) as caught:
        service.reserve()
    assert caught.value.reason == "CLOCK_STEPPED"
    service.advance(-61 * MINUTE_US)
    assert isinstance(service.reserve(), Admitted)


def test_a_suspension_is_opened_at_the_first_refusal_and_closed_when_a_call_as_costly_is_admitted() -> None:
    service = Service(
        limits(free=[KEY_100_TOKENS], paid=[limit(LimitScope.KEY, Metric.TOKENS, Window.MINUTE, 200)])
    )
    service.reserve(tokens=90)
    for _ in range(5):
        service.reserve(tokens=50)
    (suspension,) = service.store.suspended.values()
    assert suspension.target.key_id == identifier("key", 1)
    assert suspension.closed_us(service.clock.now_us()) == 0
    assert from_us(suspension.reset_us) > service.clock.now()

    service.reserve(tokens=5)  # a cheaper call says nothing about the one that was refused
    assert service.store.closed == {}
    service.reserve(tokens=50, tier="paid")
    assert service.store.closed == {suspension.id: service.clock.now_us()}


def test_a_suspension_ends_by_itself_when_its_time_passes(requests_service: Service) -> None:
    service = requests_service
    for _ in range(11):
        service.reserve()
    (suspension,) = service.store.suspended.values()
    assert suspension.closed_us(suspension.reset_us - 1) == 0
    assert suspension.closed_us(suspension.reset_us) == suspension.reset_us


def test_a_refusal_keeps_all_its_details_on_the_wire_even_with_the_longest_names() -> None:
    model = "m" * 128
    scopes = (LimitScope.ORGANIZATION, LimitScope.WORKSPACE, LimitScope.KEY)
    service = Service(
        limits(free=[limit(scope, Metric.REQUESTS, Window.MINUTE, 10**15, model) for scope in scopes])
    )
    service.reserve(model=model, requests=10**15)
    sent = status.from_status(status.to_status(service.reserve(model=model)))
    assert sent.metadata["amount"] == str(10**15)
    assert sent.metadata["reset_time"].endswith("Z")
    assert sent.retry_after is not None
    assert sent.quota
