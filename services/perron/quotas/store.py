"""The store of quotas: rows in, rows out, for one open transaction.

A batch costs one statement per table and direction, however many calls it holds. The hot statements are SQL
text, because building a statement of 64 rows costs SQLAlchemy more than the store needs to run it. SQLite has
one writer, whose transaction locks everything; on PostgreSQL rows are locked in one order, and a row that
does not exist yet is made before, in the same order, because there is nothing to lock in it.
"""

import functools
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import insert, select, update

from perron.chassis import tombstones
from perron.chassis.ids import from_bytes, to_bytes
from perron.chassis.mutations import Mutations
from perron.quotas import tables
from perron.quotas.counters import Counters
from perron.quotas.limits import make_limit
from perron.quotas.model import CounterKey, LimitScope, Origin, Reservation, Suspension, Target
from perron.quotas.suspensions import Suspensions

_SELECT_COUNTERS: Final = (
    "SELECT scope, id, organization_id, workspace_id, tier, last_time, packed, rules FROM counters WHERE id "
)
_AMONG: Final = "IN (SELECT value FROM json_each(?))"  # one text for any number, so SQLite prepares it once
_INSERT_COUNTERS: Final = (
    "INSERT INTO counters (scope, id, organization_id, workspace_id, tier, last_time, packed, rules) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT "
)
_MAKE_COUNTERS: Final = _INSERT_COUNTERS + "DO NOTHING"
_SAVE_COUNTERS: Final = _INSERT_COUNTERS + (
    "(id) DO UPDATE SET tier = excluded.tier, last_time = excluded.last_time, packed = excluded.packed, "
    "rules = excluded.rules"
)
_SELECT_RESERVATIONS: Final = (
    "SELECT id, organization_id, workspace_id, key_id, model, requests, tokens, reserve_time, ttl, charged, "
    "state, settled_tokens FROM reservations WHERE id "
)
_INSERT_RESERVATION: Final = (
    "INSERT INTO reservations (id, organization_id, workspace_id, key_id, model, requests, tokens, "
    "reserve_time, ttl, charged, state, settled_tokens) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_REPLACE_RESERVATION: Final = (
    "UPDATE reservations SET reserve_time = ?, charged = ?, state = ?, settled_tokens = ? WHERE id = ?"
)
_CLOSE_RESERVATION: Final = "UPDATE reservations SET state = ?, settled_tokens = ? WHERE id = ?"
_DELETE_RESERVATIONS: Final = (
    "DELETE FROM reservations WHERE id IN "
    "(SELECT id FROM reservations WHERE reserve_time < ? ORDER BY reserve_time LIMIT ?)"
)
_PROLONG_SUSPENSION: Final = "UPDATE suspensions SET reset_time = ? WHERE id = ?"
_CLOSE_SUSPENSION: Final = "UPDATE suspensions SET close_time = ? WHERE id = ?"
_SUSPENSIONS: Final = tables.suspensions


class CountersKey(NamedTuple):
    """A row of counters, in the order in which rows are locked."""

    scope: LimitScope
    id: str
    organization_id: str
    workspace_id: str


class Store(Mutations):
    """Quotas' rows within one open transaction."""

    def lock_counters(self, named: Mapping[str, CountersKey]) -> dict[str, Counters]:
        """Returns the counters of every row named, locked until the commit; empty where there is no row."""
        if not named:
            return {}
        if self.tx.dialect == "postgresql":
            self._make_missing(named)
        found = {row.id: row for row in self._counters(list(named), lock=True)}
        return {key.id: found.get(key.id) or Counters(*key) for key in named.values()}

    def lock_counters_of(self, targets: Iterable[Target]) -> dict[str, Counters]:
        """Returns the counters of those targets themselves, locked until the commit."""
        return self.lock_counters(
            {
                each.scope_id: CountersKey(each.scope, each.scope_id, each.organization_id, each.workspace_id)
                for each in targets
            }
        )

    def make_counters(self, keys: Iterable[CountersKey]) -> None:
        """Makes empty rows where there are none."""
        self._each(_MAKE_COUNTERS, [(*key, "", 0, b"", b"") for key in sorted(keys)])

    def counters(self, scope_ids: Sequence[str]) -> dict[str, Counters]:
        """Returns the counters of those rows that exist, without a lock."""
        return {row.id: row for row in self._counters(list(scope_ids), lock=False)}

    def save_counters(self, counters: Iterable[Counters], now_us: int) -> None:
        """Writes those that changed, as of an instant."""
        rows = [
            (c.scope.value, c.id, c.organization_id, c.workspace_id, c.tier, now_us, c.pack(), c.rules)
            for c in counters
            if c.changed
        ]
        self._each(_SAVE_COUNTERS, rows)

    def reservations(self, ids: Sequence[bytes]) -> dict[bytes, Reservation]:
        """Returns those of the reservations that exist."""
        return self._reservations(ids, lock=False)

    def lock_reservations(self, ids: Sequence[bytes]) -> dict[bytes, Reservation]:
        """Returns those of the reservations that exist, locked until the commit."""
        return self._reservations(ids, lock=True)

    def insert_reservations(self, reservations: Iterable[Reservation]) -> None:
        """Writes new reservations."""
        rows = [
            (r.id, _raw(r.organization_id), _raw(r.workspace_id), _raw(r.key_id), *r[4:])
            for r in reservations
        ]
        self._each(_INSERT_RESERVATION, rows)

    def replace_reservations(self, reservations: Iterable[Reservation]) -> None:
        """Writes over reservations that were released and are made anew."""
        rows = [(r.reserve_us, r.charged, r.state, r.settled_tokens, r.id) for r in reservations]
        self._each(_REPLACE_RESERVATION, rows)

    def close_reservations(self, reservations: Iterable[Reservation]) -> None:
        """Writes how reservations ended."""
        self._each(_CLOSE_RESERVATION, [(r.state, r.settled_tokens, r.id) for r in reservations])

    def delete_reservations(self, before_us: int, rows: int) -> int:
        """Deletes up to `rows` reservations made before an instant, oldest first; returns how many."""
        sql = _in_dialect(_DELETE_RESERVATIONS, self.tx.dialect)
        return self.tx.driver_execute(sql, (before_us, rows)).rowcount

    def save_suspensions(self, suspensions: Suspensions) -> None:
        """Writes what a transaction opened, prolonged and closed."""
        if suspensions.opened:
            self.tx.execute(insert(_SUSPENSIONS), [_suspension_row(each) for each in suspensions.opened])
        self._each(_PROLONG_SUSPENSION, suspensions.prolonged)
        self.close_suspensions(suspensions.closed)

    def close_suspensions(self, closed: Sequence[tuple[int, str]]) -> None:
        """Writes when suspensions were closed: pairs of instant and id."""
        self._each(_CLOSE_SUSPENSION, closed)

    def open_suspensions(self, organization_id: str, origin: Origin) -> list[Suspension]:
        """Returns the suspensions of an organization that nothing but time would close."""
        query = select(_SUSPENSIONS).where(
            _SUSPENSIONS.c.organization_id == organization_id,
            _SUSPENSIONS.c.origin == origin.value,
            _SUSPENSIONS.c.close_time == 0,
            _SUSPENSIONS.c.reset_time > self.now_us(),
        )
        return [_suspension(row) for row in self.tx.execute(query)]

    def suspensions(
        self, organization_id: str, workspace_id: str, before: str, count: int
    ) -> list[Suspension]:
        """Returns suspensions of an organization, or one workspace of it, newest first, after id `before`."""
        query = select(_SUSPENSIONS).where(_SUSPENSIONS.c.organization_id == organization_id)
        if workspace_id:
            query = query.where(_SUSPENSIONS.c.workspace_id == workspace_id)
        if before:
            query = query.where(_SUSPENSIONS.c.id < before)
        return [
            _suspension(row) for row in self.tx.execute(query.order_by(_SUSPENSIONS.c.id.desc()).limit(count))
        ]

    def suspension(self, organization_id: str, suspension_id: str) -> Suspension | None:
        """Returns one suspension of an organization."""
        query = select(_SUSPENSIONS).where(
            _SUSPENSIONS.c.organization_id == organization_id, _SUSPENSIONS.c.id == suspension_id
        )
        row = self.tx.execute(query).first()
        return _suspension(row) if row is not None else None

    def buried(self, organization_ids: Collection[str]) -> frozenset[tuple[str, str]]:
        """Returns the (organization, workspace) pairs of these organizations that were deleted for good."""
        return tombstones.buried(self.tx, organization_ids)

    def bury(self, organization_id: str, workspace_id: str) -> None:
        """Deletes a workspace for good: its tombstone first, then its counters and rules and its keys'."""
        tombstones.bury(self.tx, organization_id=organization_id, workspace_id=workspace_id)
        if workspace_id:
            self.tx.execute(
                update(tables.counters)
                .where(tables.counters.c.workspace_id == workspace_id)
                .values(packed=b"", rules=b"")
            )

    def now_us(self) -> int:
        """Returns the store's time, read now."""
        return self.tx.now_us()

    def _counters(self, ids: list[str], *, lock: bool) -> list[Counters]:
        if self.tx.dialect == "postgresql":
            order = " ORDER BY scope, id FOR UPDATE" if lock else ""
            rows = self._fetch(_SELECT_COUNTERS + "= ANY(%s)" + order, (ids,))
        else:
            rows = self._fetch(_SELECT_COUNTERS + _AMONG, (json.dumps(ids),))
        return [Counters(_SCOPES[scope], *rest) for scope, *rest in rows]

    def _make_missing(self, named: Mapping[str, CountersKey]) -> None:
        """Makes empty rows for those that do not exist, before any is locked."""
        known = self._fetch("SELECT id FROM counters WHERE id = ANY(%s)", (list(named),))
        self.make_counters(named[scope_id] for scope_id in named.keys() - {row[0] for row in known})

    def _reservations(self, ids: Sequence[bytes], *, lock: bool) -> dict[bytes, Reservation]:
        if not ids:
            return {}
        if self.tx.dialect == "postgresql":
            order = " ORDER BY id FOR UPDATE" if lock else ""
            rows = self._fetch(_SELECT_RESERVATIONS + "= ANY(%s)" + order, (list(ids),))
        else:
            places = ", ".join("?" * len(ids))
            rows = self._fetch(f"{_SELECT_RESERVATIONS}IN ({places})", tuple(ids))
        return {
            reservation_id: Reservation(
                reservation_id, _text("org", organization), _text("ws", workspace), _text("key", key), *rest
            )
            for reservation_id, organization, workspace, key, *rest in rows
        }

    def _fetch(self, sql: str, parameters: tuple[Any, ...]) -> list[Any]:
        return list(self.tx.driver_execute(sql, parameters).fetchall())

    def _each(self, sql: str, rows: Sequence[tuple[Any, ...]]) -> None:
        if rows:
            self.tx.driver_execute(_in_dialect(sql, self.tx.dialect), list(rows))


_SCOPES: Final = {scope.value: scope for scope in LimitScope}


@functools.cache
def _in_dialect(sql: str, dialect: str) -> str:
    return sql.replace("?", "%s") if dialect == "postgresql" else sql


@functools.lru_cache(maxsize=50_000)
def _raw(identifier: str) -> bytes:
    return to_bytes(identifier)


@functools.lru_cache(maxsize=50_000)
def _text(prefix: str, raw: bytes) -> str:
    return from_bytes(prefix, bytes(raw))


def _suspension_row(suspension: Suspension) -> dict[str, Any]:
    limit = suspension.limit
    return {
        "id": suspension.id,
        "organization_id": suspension.target.organization_id,
        "workspace_id": suspension.target.workspace_id,
        "key_id": suspension.target.key_id,
        "model": limit.key.model,
        "metric": int(limit.key.metric),
        "window": int(limit.key.window),
        "amount": limit.amount,
        "origin": limit.origin.value,
        "create_time": suspension.create_us,
        "reset_time": suspension.reset_us,
        "close_time": suspension.close_us,
    }


def _suspension(row: Any) -> Suspension:
    target = Target(row.organization_id, row.workspace_id, row.key_id)
    limit = make_limit(
        target.scope, CounterKey(row.model, row.metric, row.window), row.amount, Origin(row.origin)
    )
    return Suspension(row.id, target, limit, row.create_time, row.reset_time, row.close_time)
