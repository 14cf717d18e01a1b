"""Reservations: charge the limits of a call before it happens, and correct them when it has.

Each method takes a store that is bound to one open transaction and works in three steps: lock and read every
row that the batch touches, compute in memory, write what changed. Rows are locked organization, workspace,
key, by id within each, so no two batches wait for each other crosswise; time is read after the locks.
Refusals are values among the results.

What a newcomer gets wrong: the ttl gives nothing back. A reservation that nobody settled stays charged as
reserved, and its sub-buckets leave their windows like any other charge; so nothing has to run for a
reservation to expire.
"""

from collections.abc import Iterable, Sequence
from typing import Final

from perron.chassis.errors import PerronError
from perron.chassis.ids import IdSource
from perron.quotas import errors
from perron.quotas.charging import Charging
from perron.quotas.counters import Counters
from perron.quotas.limits import Limits, charged
from perron.quotas.model import (
    Admitted,
    LimitScope,
    Metric,
    Reservation,
    ReserveCommand,
    SettleCommand,
    Settlement,
    State,
)
from perron.quotas.steady_time import SteadyTime
from perron.quotas.store import CountersKey, Store
from perron.quotas.suspensions import Suspensions
from perron.quotas.windows import Counter, Instant, bucket_at

LATE_US: Final = 86_400_000_000
"""How long after its ttl a reservation can still be settled."""
KEPT_US: Final = 7 * 86_400_000_000
"""How long a reservation is kept, so that who settles too late is told so and not NOT_FOUND."""
_SWEPT_ROWS: Final = 500

_TOKENS: Final = Metric.TOKENS.value


class Reservations:
    """Admits calls, settles and releases them."""

    def __init__(self, limits: Limits, time: SteadyTime, new_id: IdSource) -> None:
        self._limits = limits
        self._time = time
        self._new_id = new_id

    def reserve(self, store: Store, commands: Sequence[ReserveCommand]) -> list[Admitted | PerronError]:
        """Admits or refuses each call by itself, in order; a refused one consumes nothing of any limit.

        Raises Unavailable with CLOCK_STEPPED.
        """
        buried = store.buried({command.organization_id for command in commands})
        counters = store.lock_counters(_named_by(commands))
        earlier = store.reservations([each.reservation_id for each in commands if each.repeatable])
        now = self._now(store, counters.values())
        batch = Charging(self._limits, now, counters, earlier, Suspensions(self._new_id))
        results: list[Admitted | PerronError] = []
        for command in commands:
            try:
                if buried:
                    _refuse_buried(command, buried)
                results.append(batch.reserve(command))
            except PerronError as error:
                results.append(error)
        store.save_counters(counters.values(), now.us)
        store.insert_reservations(batch.made.values())
        store.replace_reservations(batch.made_anew.values())
        store.save_suspensions(batch.suspensions)
        return results

    def settle(self, store: Store, commands: Sequence[SettleCommand]) -> list[Settlement | PerronError]:
        """Corrects each reservation to the tokens used, once; up to 24 hours after its ttl.

        Raises Unavailable with CLOCK_STEPPED.
        """
        found = store.lock_reservations([command.reservation_id for command in commands])
        touched = [
            reservation
            for command in commands
            if (reservation := found.get(command.reservation_id)) is not None
            and reservation.organization_id == command.organization_id
            and reservation.state == State.OPEN
            and reservation.tokens != command.tokens
        ]
        counters = store.lock_counters(_named_by(touched))
        now = self._now(store, counters.values())
        settled: dict[bytes, Reservation] = {}
        results: list[Settlement | PerronError] = []
        for command in commands:
            reservation = settled.get(command.reservation_id) or found.get(command.reservation_id)
            refusal = _settle_refusal(reservation, command, now)
            if refusal is not None:
                results.append(refusal)
                continue
            assert reservation is not None
            if reservation.state == State.OPEN:
                _correct(reservation, command.tokens, counters, now)
                reservation = reservation._replace(state=State.SETTLED.value, settled_tokens=command.tokens)
                settled[reservation.id] = reservation
            results.append(_settlement(reservation))
        store.save_counters(counters.values(), now.us)
        store.close_reservations(settled.values())
        return results

    def release(self, store: Store, organization_id: str, reservation_id: bytes) -> None:
        """Gives back all that a reservation was charged; again, it does nothing.

        Raises NotFound, FailedPrecondition with RESERVATION_CLOSED or RESERVATION_EXPIRED, Unavailable with
        CLOCK_STEPPED.
        """
        reservation = store.lock_reservations([reservation_id]).get(reservation_id)
        if reservation is None or reservation.organization_id != organization_id:
            raise errors.not_found()
        if reservation.state == State.SETTLED:
            raise errors.reservation_closed("settled")
        if reservation.state == State.RELEASED:
            return
        counters = store.lock_counters(_named_by([reservation]))
        now = self._now(store, counters.values())
        if now.us >= reservation.expire_us:
            raise errors.reservation_expired("The reservation's ttl is over, and its charge stays.")
        for holder, counter in _charged_counters(reservation, counters):
            cost = reservation.tokens if counter.metric == _TOKENS else reservation.requests
            counter.refund(bucket_at(counter.window, reservation.reserve_us), cost)
            holder.changed = True
        store.save_counters(counters.values(), now.us)
        store.close_reservations([reservation._replace(state=State.RELEASED.value)])

    def sweep(self, store: Store) -> bool:
        """Deletes some of the reservations past their time; says whether there may be more."""
        return store.delete_reservations(store.now_us() - KEPT_US, _SWEPT_ROWS) == _SWEPT_ROWS

    def _now(self, store: Store, counters: Iterable[Counters]) -> Instant:
        """Reads the time, after the locks, and moves the counters there."""
        latest_us = max((each.last_us for each in counters), default=0)
        now = Instant(self._time.instant_us(store.now_us(), latest_us))
        for each in counters:
            each.move_to(now)
        return now


def _named_by(items: Iterable[ReserveCommand | Reservation]) -> dict[str, CountersKey]:
    """Returns the rows that calls or reservations touch, by id."""
    named: dict[str, CountersKey] = {}
    for item in items:
        organization_id, workspace_id, key_id = item.organization_id, item.workspace_id, item.key_id
        named[organization_id] = CountersKey(LimitScope.ORGANIZATION, organization_id, organization_id, "")
        named[workspace_id] = CountersKey(LimitScope.WORKSPACE, workspace_id, organization_id, workspace_id)
        named[key_id] = CountersKey(LimitScope.KEY, key_id, organization_id, workspace_id)
    return named


def _refuse_buried(command: ReserveCommand, buried: frozenset[tuple[str, str]]) -> None:
    organization_id = command.organization_id
    if (organization_id, "") in buried or (organization_id, command.workspace_id) in buried:
        raise errors.not_found()


def _settle_refusal(
    reservation: Reservation | None, command: SettleCommand, now: Instant
) -> PerronError | None:
    if reservation is None or reservation.organization_id != command.organization_id:
        return errors.not_found()
    if reservation.state == State.RELEASED:
        return errors.reservation_closed("released")
    if reservation.state == State.OPEN and now.us > reservation.expire_us + LATE_US:
        return errors.reservation_expired(
            "The reservation's ttl was over more than 24 hours ago, and its charge stays."
        )
    return None


def _correct(reservation: Reservation, tokens: int, counters: dict[str, Counters], now: Instant) -> None:
    """Moves the difference: back to the sub-bucket it was charged to, or as debt to the present one."""
    excess = tokens - reservation.tokens
    if not excess:
        return
    for holder, counter in _charged_counters(reservation, counters):
        if counter.metric != _TOKENS:
            continue
        if excess > 0:
            counter.charge(now.buckets[counter.window], excess)
        else:
            counter.refund(bucket_at(counter.window, reservation.reserve_us), -excess)
        holder.changed = True


def _charged_counters(
    reservation: Reservation, counters: dict[str, Counters]
) -> Iterable[tuple[Counters, Counter]]:
    ids = {
        LimitScope.ORGANIZATION: reservation.organization_id,
        LimitScope.WORKSPACE: reservation.workspace_id,
        LimitScope.KEY: reservation.key_id,
    }
    for scope, key in charged(reservation.charged, reservation.model):
        holder = counters[ids[scope]]
        yield holder, holder.counter(key)


def _settlement(reservation: Reservation) -> Settlement:
    difference = reservation.settled_tokens - reservation.tokens
    return Settlement(reservation.settled_tokens, refunded=max(-difference, 0), debt=max(difference, 0))
