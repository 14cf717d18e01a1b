import asyncio
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from perron.chassis.clock import to_us
from perron.chassis.database import Database
from perron.chassis.errors import NotFound, PerronError, ResourceExhausted
from perron.chassis.events import Event
from perron.chassis.testing import BOTH, START, FakeClock, counting_ids, customer_call
from perron.quotas import rules
from perron.quotas.following import follow_identity
from perron.quotas.limits import Limits, Rule, RuleKind
from perron.quotas.model import Admitted, CounterKey, LimitScope, Metric, Settlement, Suspension, Target
from perron.quotas.reservations import Reservations
from perron.quotas.steady_time import SteadyTime
from perron.quotas.store import Store
from perron.quotas.usage import Usage
from perron.quotas.windows import Window
from tests.unit.quotas.platform import (
    ORGANIZATION,
    identifier,
    limit,
    limits,
    reserve_command,
    settle_command,
)

pytestmark = pytest.mark.parametrize("database", BOTH, indirect=True)

LIMITS = (
    limit(LimitScope.ORGANIZATION, Metric.REQUESTS, Window.MINUTE, 40),
    limit(LimitScope.WORKSPACE, Metric.TOKENS, Window.DAY, 100_000),
    limit(LimitScope.KEY, Metric.REQUESTS, Window.MINUTE, 30),
    limit(LimitScope.KEY, Metric.TOKENS, Window.MONTH, 10**15),
)


class Quotas:
    """The domain over a real store."""

    def __init__(self, database: Database, clock: FakeClock) -> None:
        self.database = database
        self.limits: Limits = limits(free=LIMITS)
        self.domain = Reservations(self.limits, SteadyTime(clock.now_us), counting_ids())

    async def reserve(self, *commands: Any) -> list[Admitted | PerronError]:
        return await self.database.write(lambda tx: self.domain.reserve(Store(tx), commands))

    async def settle(self, *commands: Any) -> list[Settlement | PerronError]:
        return await self.database.write(lambda tx: self.domain.settle(Store(tx), commands))

    async def suspensions(self) -> list[Suspension]:
        return await self.database.read(lambda tx: Store(tx).suspensions(ORGANIZATION, "", "", 10))

    async def used(self) -> dict[tuple[LimitScope, Metric], int]:
        target = Target(ORGANIZATION, identifier("ws", 1), identifier("key", 1))
        statuses = await self.database.read(lambda tx: Usage(self.limits).statuses(Store(tx), target, "free"))
        return {(each.limit.scope, each.limit.metric): each.used for each in statuses}


@pytest.fixture
def quotas(database: Database, clock: FakeClock) -> Quotas:
    return Quotas(database, clock)


async def test_what_is_reserved_is_read_back_by_the_next_transaction(quotas: Quotas) -> None:
    await quotas.reserve(*(reserve_command(number, tokens=10**9) for number in range(1, 4)))
    assert await quotas.used() == {
        (LimitScope.ORGANIZATION, Metric.REQUESTS): 0,
        (LimitScope.WORKSPACE, Metric.TOKENS): 0,
        (LimitScope.KEY, Metric.REQUESTS): 0,
        (LimitScope.KEY, Metric.TOKENS): 0,
    }
    await quotas.reserve(*(reserve_command(number, tokens=20_000) for number in range(1, 4)))
    assert await quotas.used() == {
        (LimitScope.ORGANIZATION, Metric.REQUESTS): 3,
        (LimitScope.WORKSPACE, Metric.TOKENS): 60_000,
        (LimitScope.KEY, Metric.REQUESTS): 3,
        (LimitScope.KEY, Metric.TOKENS): 60_000,
    }


async def test_a_reservation_keeps_every_field_until_its_settlement(quotas: Quotas, clock: FakeClock) -> None:
    await quotas.reserve(reserve_command(7, tokens=500, model="m" * 128, ttl_us=86_400_000_000))
    stored = await quotas.database.read(lambda tx: Store(tx).reservations([UUID(int=7).bytes]))
    (reservation,) = stored.values()
    assert reservation.workspace_id == identifier("ws", 1)
    assert reservation.model == "m" * 128
    assert (reservation.reserve_us, reservation.ttl_us) == (clock.now_us(), 86_400_000_000)

    clock.advance(timedelta(hours=20))
    assert await quotas.settle(settle_command(7, 100)) == [Settlement(100, refunded=400, debt=0)]
    assert (await quotas.used())[LimitScope.WORKSPACE, Metric.TOKENS] == 100
    assert await quotas.settle(settle_command(7, 100)) == [Settlement(100, refunded=400, debt=0)]


async def test_a_reservation_is_deleted_a_week_later_and_its_charges_stay_as_long_as_they_count(
    quotas: Quotas, clock: FakeClock
) -> None:
    await quotas.reserve(*(reserve_command(number, tokens=500) for number in range(1, 4)))
    clock.advance(timedelta(days=7))
    await quotas.reserve(reserve_command(4, tokens=500))
    assert await quotas.database.write(lambda tx: quotas.domain.sweep(Store(tx))) is False
    clock.advance(timedelta(microseconds=1))
    await quotas.database.write(lambda tx: quotas.domain.sweep(Store(tx)))
    left = await quotas.database.read(
        lambda tx: Store(tx).reservations([UUID(int=number).bytes for number in range(1, 5)])
    )
    assert list(left) == [UUID(int=4).bytes]
    assert (await quotas.used())[LimitScope.KEY, Metric.TOKENS] == 2000, "the month still counts them"
    (late,) = await quotas.settle(settle_command(1, 100))
    assert isinstance(late, NotFound)


async def test_the_same_reservation_id_is_charged_once_by_transactions_that_meet(quotas: Quotas) -> None:
    results = await asyncio.gather(*(quotas.reserve(reserve_command(7, repeatable=True)) for _ in range(12)))
    assert {type(each) for (each,) in results} == {Admitted}
    assert (await quotas.used())[LimitScope.KEY, Metric.REQUESTS] == 1


async def test_transactions_that_meet_admit_exactly_the_limit_and_never_deadlock(quotas: Quotas) -> None:
    # Batches that name their rows in different orders, new rows among them.
    batches = [
        [
            reserve_command(1000 * batch + item, key=1 + (item * (1 + batch % 3)) % 5, workspace=1 + item % 2)
            for item in range(10)
        ]
        for batch in range(12)
    ]
    answers = await asyncio.gather(*(quotas.reserve(*batch) for batch in batches))
    outcomes = [each for batch in answers for each in batch]
    assert sum(isinstance(each, Admitted) for each in outcomes) == 40
    assert sum(isinstance(each, ResourceExhausted) for each in outcomes) == 80


async def test_settlements_that_meet_correct_once(quotas: Quotas) -> None:
    await quotas.reserve(*(reserve_command(number, tokens=500) for number in range(1, 21)))
    forward = [settle_command(number, 100) for number in range(1, 21)]
    await asyncio.gather(
        *(quotas.settle(*order) for order in (forward, forward[::-1], forward, forward[::-1]))
    )
    assert (await quotas.used())[LimitScope.WORKSPACE, Metric.TOKENS] == 2000


async def test_a_suspension_is_stored_closed_and_listed_newest_first(
    quotas: Quotas, clock: FakeClock
) -> None:
    for _ in range(2):
        await quotas.reserve(*(reserve_command(int(clock.now_us()) + each) for each in range(31)))
        clock.advance(timedelta(minutes=2))
    found = await quotas.database.read(lambda tx: Store(tx).suspensions(ORGANIZATION, "", "", 10))
    assert [each.create_us for each in found] == [to_us(START) + 120_000_000, to_us(START)]
    assert found[0].limit.key == CounterKey("", Metric.REQUESTS, Window.MINUTE)
    assert found[0].target == Target(ORGANIZATION, identifier("ws", 1), identifier("key", 1))
    older = await quotas.database.read(lambda tx: Store(tx).suspensions(ORGANIZATION, "", found[0].id, 10))
    assert [each.id for each in older] == [found[1].id]


async def test_a_cap_binds_the_very_next_call_and_touches_no_counter(quotas: Quotas) -> None:
    await quotas.reserve(*(reserve_command(number) for number in range(1, 4)))
    target = Target(ORGANIZATION, identifier("ws", 1), identifier("key", 1))
    rule = Rule("", Metric.REQUESTS, Window.MINUTE, 3)
    call = customer_call(organization_id=ORGANIZATION)
    await quotas.database.write(lambda tx: rules.set_rule(Store(tx), call, RuleKind.CAP, target, rule))
    (refusal,) = await quotas.reserve(reserve_command(4))
    assert isinstance(refusal, ResourceExhausted)
    assert refusal.metadata["origin"] == "CAP"
    await quotas.database.write(lambda tx: rules.delete_rule(Store(tx), call, RuleKind.CAP, target, rule.key))
    (admitted,) = await quotas.reserve(reserve_command(4))
    assert isinstance(admitted, Admitted)


async def test_a_deleted_workspace_reserves_no_more(quotas: Quotas) -> None:
    await quotas.reserve(reserve_command(1))
    event = Event(1, "workspace.deleted", 0, ORGANIZATION, identifier("ws", 1))
    for _ in range(2):
        await quotas.database.write(lambda tx: follow_identity(tx, event))
    gone, neighbour = await quotas.reserve(reserve_command(2), reserve_command(3, workspace=2, key=2))
    assert isinstance(gone, NotFound)
    assert isinstance(neighbour, Admitted)


async def test_reserving_while_the_workspace_is_deleted_ends_either_way_without_a_deadlock(
    quotas: Quotas,
) -> None:
    event = Event(1, "workspace.deleted", 0, ORGANIZATION, identifier("ws", 1))
    await asyncio.gather(
        *(quotas.reserve(reserve_command(number)) for number in range(1, 9)),
        quotas.database.write(lambda tx: follow_identity(tx, event)),
        *(quotas.reserve(reserve_command(number)) for number in range(9, 17)),
    )
    (gone,) = await quotas.reserve(reserve_command(99))
    assert isinstance(gone, NotFound)


async def test_a_change_of_plan_closes_what_its_limits_suspended(quotas: Quotas, clock: FakeClock) -> None:
    await quotas.reserve(*(reserve_command(number) for number in range(1, 32)))
    (opened,) = await quotas.suspensions()
    assert opened.closed_us(clock.now_us()) == 0
    event = Event(1, "organization.plan_changed", 0, ORGANIZATION)
    for _ in range(2):
        await quotas.database.write(lambda tx: follow_identity(tx, event))
    (closed,) = await quotas.suspensions()
    assert closed.closed_us(clock.now_us()) == clock.now_us()

    (still,) = await quotas.reserve(reserve_command(40))
    assert isinstance(still, ResourceExhausted), "the record is no gate: the limit itself still binds here"
    newest, _ = await quotas.suspensions()
    assert newest.id != opened.id
    assert newest.closed_us(clock.now_us()) == 0


async def test_a_key_is_known_from_its_creation_on(quotas: Quotas) -> None:
    event = Event(1, "api_key.created", 0, ORGANIZATION, identifier("ws", 3), identifier("key", 3))
    for _ in range(2):
        await quotas.database.write(lambda tx: follow_identity(tx, event))
    known = await quotas.database.read(lambda tx: Store(tx).counters([identifier("key", 3)]))
    assert known[identifier("key", 3)].workspace_id == identifier("ws", 3)
