"""What tests of quotas share: tiers, people, calls, and a store in memory."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

from perron.chassis.errors import ResourceExhausted
from perron.chassis.ids import from_bytes
from perron.chassis.testing import FakeClock, counting_ids
from perron.quotas.counters import Counters
from perron.quotas.limits import Limits, Rule, Rules, Tier, make_limit
from perron.quotas.model import (
    CounterKey,
    LimitScope,
    Metric,
    Origin,
    Reservation,
    ReserveCommand,
    SettleCommand,
    Suspension,
)
from perron.quotas.reservations import Reservations
from perron.quotas.steady_time import SteadyTime
from perron.quotas.store import CountersKey
from perron.quotas.suspensions import Suspensions
from perron.quotas.windows import Window

MINUTE_US = 60_000_000
TTL_US = 10 * MINUTE_US


def identifier(prefix: str, number: int) -> str:
    return from_bytes(prefix, UUID(int=number).bytes)


ORGANIZATION = identifier("org", 1)


def limit(scope: LimitScope, metric: Metric, window: Window, amount: int, model: str = "") -> object:
    return make_limit(scope, CounterKey(model, metric, window), amount, Origin.PLAN)


def limits(**tiers: Sequence[object]) -> Limits:
    return Limits([Tier(name, tuple(bounds)) for name, bounds in tiers.items()])  # type: ignore[arg-type]


def reserve_command(
    number: int,
    *,
    key: int = 1,
    workspace: int = 1,
    organization: int = 1,
    tier: str = "free",
    model: str = "small-1",
    requests: int = 1,
    tokens: int = 0,
    ttl_us: int = TTL_US,
    check_only: bool = False,
    repeatable: bool = False,
) -> ReserveCommand:
    return ReserveCommand(
        UUID(int=number).bytes,
        repeatable,
        identifier("org", organization),
        identifier("ws", workspace),
        identifier("key", key),
        tier,
        model,
        requests,
        tokens,
        ttl_us,
        check_only,
        "",
    )


def settle_command(number: int, tokens: int, organization: int = 1) -> SettleCommand:
    return SettleCommand(identifier("org", organization), UUID(int=number).bytes, tokens, "")


def reservations(limits: Limits, clock: FakeClock) -> Reservations:
    return Reservations(limits, SteadyTime(clock.now_us), counting_ids())


@dataclass
class MemoryStore:
    """The store's part in a transaction, in dictionaries; counters go through their packed form."""

    clock: FakeClock
    rows: dict[str, tuple[object, ...]] = field(default_factory=dict)
    kept: dict[bytes, Reservation] = field(default_factory=dict)
    suspended: dict[str, Suspension] = field(default_factory=dict)
    closed: dict[str, int] = field(default_factory=dict)
    graves: frozenset[tuple[str, str]] = frozenset()

    def now_us(self) -> int:
        return self.clock.now_us()

    def buried(self, organization_ids: Collection[str]) -> frozenset[tuple[str, str]]:
        return self.graves

    def lock_counters(self, named: Mapping[str, CountersKey]) -> dict[str, Counters]:
        return {name: Counters(*self.rows.get(name, key)) for name, key in named.items()}  # type: ignore[arg-type]

    def save_counters(self, counters: Iterable[Counters], now_us: int) -> None:
        for c in counters:
            if c.changed:
                row = (c.scope, c.id, c.organization_id, c.workspace_id, c.tier, now_us, c.pack(), c.rules)
                self.rows[c.id] = row

    def set_rules(self, key: CountersKey, rules: Rules) -> None:
        (counters,) = self.lock_counters({key.id: key}).values()
        counters.rules, counters.changed = rules.pack(), True
        self.save_counters([counters], counters.last_us)

    def reservations(self, ids: Sequence[bytes]) -> dict[bytes, Reservation]:
        return {each: self.kept[each] for each in ids if each in self.kept}

    lock_reservations = reservations

    def insert_reservations(self, made: Iterable[Reservation]) -> None:
        self.kept.update({each.id: each for each in made})

    replace_reservations = insert_reservations
    close_reservations = insert_reservations

    def save_suspensions(self, suspensions: Suspensions) -> None:
        self.suspended.update({each.id: each for each in suspensions.opened})
        self.closed.update({name: closed_us for closed_us, name in suspensions.closed})


def cap(metric: Metric, window: Window, amount: int) -> Rules:
    return Rules(caps=(Rule("", metric, window, amount),))


class Service:
    """Reservations over a store in memory."""

    def __init__(self, limits: Limits) -> None:
        self.clock = FakeClock()
        self.store: Any = MemoryStore(self.clock)
        self.domain: Reservations = reservations(limits, self.clock)
        self._number = 0

    def reserve(self, number: int = 0, **fields: Any) -> Any:
        self._number += 1
        (result,) = self.domain.reserve(
            self.store, [reserve_command(number or 1000 + self._number, **fields)]
        )
        return result

    def settle(self, number: int, tokens: int, **fields: Any) -> Any:
        (result,) = self.domain.settle(self.store, [settle_command(number, tokens, **fields)])
        return result

    def release(self, number: int, organization_id: str = ORGANIZATION) -> None:
        self.domain.release(self.store, organization_id, UUID(int=number).bytes)

    def advance(self, microseconds: int) -> None:
        self.clock.advance(timedelta(microseconds=microseconds))

    def used(self, **fields: Any) -> dict[Metric, int]:
        """What the key's counters hold now; asked without charging."""
        checked = self.reserve(check_only=True, **fields)
        if isinstance(checked, ResourceExhausted):
            amount, remaining = int(checked.metadata["amount"]), int(checked.metadata["remaining"])
            return {Metric[checked.metadata["metric"]]: amount - remaining}
        return {status.limit.metric: status.used for status in checked.statuses}
