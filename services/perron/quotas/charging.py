"""Charging: the calls of one transaction against what its locked rows hold, each all or nothing, in order.

What a newcomer gets wrong: the order of two loops. Every limit is compared before any is charged, so a call
that the last of nine limits refuses has consumed nothing of the other eight.
"""

from typing import Final

from perron.chassis.errors import PerronError
from perron.quotas import errors
from perron.quotas.counters import Counters
from perron.quotas.errors import Refusal
from perron.quotas.limits import Limits
from perron.quotas.model import (
    Admitted,
    Limit,
    LimitStatus,
    Metric,
    Reservation,
    ReserveCommand,
    State,
)
from perron.quotas.suspensions import Suspensions
from perron.quotas.windows import Counter, Instant

_TOKENS: Final = Metric.TOKENS.value

_Charge = tuple[Counters, Limit, Counter, int]
"""One limit that binds a call: the row and the counter it counts in, and what the call costs there."""


class Charging:
    """The calls of one transaction: what the locked rows hold now, and what has been made of them."""

    def __init__(
        self,
        limits: Limits,
        now: Instant,
        counters: dict[str, Counters],
        earlier: dict[bytes, Reservation],
        suspensions: Suspensions,
    ) -> None:
        self._limits = limits
        self._now = now
        self._counters = counters
        self._earlier = earlier
        self.suspensions = suspensions
        self.made: dict[bytes, Reservation] = {}
        self.made_anew: dict[bytes, Reservation] = {}

    def reserve(self, command: ReserveCommand) -> Admitted:
        """Admits one call; raises its refusal."""
        charges, refusals = self._compare(command)
        earlier = self._earlier.get(command.reservation_id) if command.repeatable else None
        if earlier is not None and not command.check_only:
            _refuse_other_body(earlier, command)
            # What was released charged nothing in the end: to answer it again would admit a call for free.
            if earlier.state != State.RELEASED:
                return Admitted(earlier.id, earlier.expire_us, _statuses(charges))
        if refusals:
            raise self._refusal(refusals, record=not command.check_only)
        if command.check_only:
            return Admitted(b"", 0, _statuses(charges))
        bits, statuses = self._charge(charges, command.tier)
        reservation = Reservation(
            command.reservation_id,
            command.organization_id,
            command.workspace_id,
            command.key_id,
            command.model,
            command.requests,
            command.tokens,
            self._now.us,
            command.ttl_us,
            bits,
            State.OPEN.value,
            0,
        )
        (self.made if earlier is None else self.made_anew)[reservation.id] = reservation
        if command.repeatable:
            self._earlier[reservation.id] = reservation
        return Admitted(reservation.id, self._now.us + command.ttl_us, statuses)

    def _compare(self, command: ReserveCommand) -> tuple[list[_Charge], list[_Charge]]:
        """Returns every limit that binds the call, and those of them that refuse it."""
        charges: list[_Charge] = []
        refusals: list[_Charge] = []
        for scope_id in (command.organization_id, command.workspace_id, command.key_id):
            counters = self._counters[scope_id]
            for limit in self._limits.binding(command.tier, counters.scope, counters.rules, command.model):
                key = limit.key
                counter = counters.counter(key)
                cost = command.tokens if key.metric == _TOKENS else command.requests
                charge = (counters, limit, counter, cost)
                charges.append(charge)
                if counter.total + cost > limit.amount:
                    refusals.append(charge)
        return charges, refusals

    def _charge(self, charges: list[_Charge], tier: str) -> tuple[int, list[LimitStatus]]:
        """Charges every limit; returns the bits of the counters charged, and where each limit stands then."""
        buckets = self._now.buckets
        bits = 0
        statuses = []
        for counters, limit, counter, cost in charges:
            counter.charge(buckets[counter.window], cost)
            bits |= limit.charge_bit
            counters.changed = True
            counters.tier = tier
            if counters.suspended:
                self.suspensions.admitted(counters, limit, cost, self._now.us)
            statuses.append(LimitStatus(limit, counter.total, counter.returns_us()))
        return bits, statuses

    def _refusal(self, refused: list[_Charge], *, record: bool) -> PerronError:
        refusals = []
        for counters, limit, counter, cost in refused:
            never = cost > limit.amount
            refusal = Refusal(
                limit, counter.total, cost, 0 if never else counter.admits_us(limit.amount, cost)
            )
            refusals.append(refusal)
            if record and not never:
                self.suspensions.refused(counters, refusal, self._now.us)
        return errors.limits_refuse(refusals, self._now.us)


def _statuses(charges: list[_Charge]) -> list[LimitStatus]:
    return [LimitStatus(limit, counter.total, counter.returns_us()) for _, limit, counter, _ in charges]


def _refuse_other_body(earlier: Reservation, command: ReserveCommand) -> None:
    same = (
        earlier.workspace_id == command.workspace_id
        and earlier.key_id == command.key_id
        and earlier.model == command.model
        and earlier.requests == command.requests
        and earlier.tokens == command.tokens
        and earlier.ttl_us == command.ttl_us
    )
    if not same:
        raise errors.request_id_reused()
