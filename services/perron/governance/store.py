"""Decisions, rulings and directives in one open transaction; the other stores are built on this one.

Hot statements are text: what SQLAlchemy makes of them would cost more than the database takes for them.
"""

import functools
import hashlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import Row, bindparam, select, text, tuple_

from perron.chassis import tombstones
from perron.chassis.ids import from_bytes, to_bytes
from perron.chassis.mutations import Mutations
from perron.governance.model import (
    Channel,
    DataKind,
    Decision,
    Directives,
    Outcome,
    Ruling,
    TermsClass,
    TrainingPreference,
)
from perron.governance.tables import decisions, rulings

Key = tuple[bytes, bytes]
"""An organization and a decision or record within it, as raw bytes."""

_INSERT_DECISION: Final = {
    "sqlite": "INSERT INTO decisions "
    "(organization, id, ruling, as_of_time, in_flight_until_time, data_subject) "
    "VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
    "postgresql": "INSERT INTO decisions "
    "(organization, id, ruling, as_of_time, in_flight_until_time, data_subject) "
    "VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING",
}
_INSERT_RULING: Final = text(
    "INSERT INTO rulings (digest, organization_id, workspace_id, plan, terms_class, subscription_id, "
    "terms_version, data_kind, channel, outcome) "
    "VALUES (:digest, :organization_id, :workspace_id, :plan, :terms_class, :subscription_id, "
    ":terms_version, :data_kind, :channel, :outcome) ON CONFLICT DO NOTHING"
)
_RULING_NUMBERS: Final = select(rulings.c.digest, rulings.c.number).where(
    rulings.c.digest.in_(bindparam("digests", expanding=True))
)
_DIRECTIVES: Final = {
    # The plus keeps SQLite from trying every workspace with every organization.
    "sqlite": "SELECT * FROM directives WHERE organization_id IN (SELECT value FROM json_each(?)) "
    "AND +workspace_id IN (SELECT value FROM json_each(?))",
    "postgresql": "SELECT * FROM directives WHERE organization_id = ANY(%s) AND workspace_id = ANY(%s)",
}
_DECISION_COLUMNS: Final = ", ".join(f"found.{column.name}" for column in decisions.c)
_PUT_DIRECTIVES: Final = text(
    "INSERT INTO directives "
    "(organization_id, workspace_id, zero_retention, training_preference, watermark_time, update_time) "
    "VALUES (:organization_id, :workspace_id, :zero_retention, :preference, :watermark, :now) "
    "ON CONFLICT (organization_id, workspace_id) DO UPDATE SET zero_retention = excluded.zero_retention, "
    "training_preference = excluded.training_preference, watermark_time = excluded.watermark_time, "
    "update_time = excluded.update_time"
)


class Store(Mutations):
    """The part of the store that a decision needs."""

    def now_us(self) -> int:
        """Returns the store's time, in microseconds since 1970."""
        return self.tx.now_us()

    def buried(self, organization_ids: Iterable[str]) -> frozenset[tuple[str, str]]:
        """Returns the buried (organization, workspace) pairs of these organizations; holds until the commit.

        Directives are changed under the same lock, held alone: one that was acknowledged is seen by
        everything that starts here afterwards, and waits for what started before.
        """
        return tombstones.buried(self.tx, set(organization_ids))

    def hold_alone(self, organization_id: str) -> None:
        """Waits for the organization's writers in flight and keeps new ones waiting until the commit."""
        tombstones.hold_alone(self.tx, organization_id)

    def directives(
        self, workspaces: Collection[tuple[str, str]]
    ) -> Mapping[tuple[str, str], tuple[Directives, ...]]:
        """Returns what is in force for each (organization, workspace): the organization's and its own."""
        found = self.exact_directives(
            {*workspaces, *((organization_id, "") for organization_id, _ in workspaces)}
        )
        if not found:
            return {}
        return {
            scope: tuple(found[one] for one in {(scope[0], ""), scope} if one in found)
            for scope in workspaces
        }

    def exact_directives(self, scopes: Collection[tuple[str, str]]) -> dict[tuple[str, str], Directives]:
        """Returns the directives stored for exactly these scopes, where there are any."""
        organizations = sorted({organization_id for organization_id, _ in scopes})
        workspaces = sorted({workspace_id for _, workspace_id in scopes})
        wanted: tuple[Any, Any] = (organizations, workspaces)
        if self.tx.dialect == "sqlite":
            wanted = (json.dumps(organizations), json.dumps(workspaces))
        rows = self.tx.driver_execute(_DIRECTIVES[self.tx.dialect], wanted)
        return {(row.organization_id, row.workspace_id): _directives(row) for row in rows}

    def put_directives(self, organization_id: str, workspace_id: str, wanted: Directives) -> None:
        """Stores what is in force for exactly this scope."""
        self.tx.execute(
            _PUT_DIRECTIVES,
            {
                "organization_id": organization_id,
                "workspace_id": workspace_id,
                "zero_retention": wanted.zero_retention,
                "preference": wanted.preference.value,
                "watermark": wanted.watermark_us,
                "now": self.now_us(),
            },
        )

    def intern_rulings(self, wanted: Sequence[Ruling]) -> list[int]:
        """Returns the number of each ruling, storing those that are new."""
        rows = [_ruling_row(ruling) for ruling in wanted]
        digests = [row["digest"] for row in rows]
        numbers = self._ruling_numbers(digests)
        missing = {row["digest"]: row for row in rows if row["digest"] not in numbers}
        if missing:
            # In one order everywhere, so that two replicas never wait for each other crosswise.
            self.tx.execute(_INSERT_RULING, [missing[digest] for digest in sorted(missing)])
            numbers |= self._ruling_numbers(list(missing))
        return [numbers[digest] for digest in digests]

    def rulings(self, numbers: Collection[int]) -> dict[int, Ruling]:
        """Returns rulings by their numbers."""
        rows = self.tx.execute(select(rulings).where(rulings.c.number.in_(numbers)))
        return {row.number: _ruling(row) for row in rows}

    def insert_decisions(self, made: Sequence[Decision]) -> int:
        """Stores decisions, passing over those whose ids exist; returns how many were new."""
        rows = [
            (
                _organization(one.ruling.organization_id),
                one.decision,
                one.ruling_number,
                one.as_of_us,
                one.in_flight_until_us,
                one.data_subject,
            )
            for one in made
        ]
        rows.sort()  # by key and so in one order everywhere, as above
        return self.tx.driver_execute(_INSERT_DECISION[self.tx.dialect], rows).rowcount

    def decisions(self, keys: Collection[Key]) -> dict[Key, Decision]:
        """Returns the decisions that exist among these."""
        if not keys:
            return {}
        rows = self.with_keys(_DECISION_COLUMNS, "decisions", keys)
        ruled = self.rulings({row.ruling for row in rows})
        return {(bytes(row.organization), bytes(row.id)): _decision(row, ruled) for row in rows}

    def decisions_of(
        self, organization_id: str, before: tuple[int, bytes] | None, rows_max: int
    ) -> list[Decision]:
        """Returns an organization's decisions, newest first, from before (as_of, id) on."""
        statement = select(decisions).where(decisions.c.organization == to_bytes(organization_id))
        if before is not None:
            statement = statement.where(tuple_(decisions.c.as_of_time, decisions.c.id) < tuple_(*before))
        rows = self.tx.execute(
            statement.order_by(decisions.c.as_of_time.desc(), decisions.c.id.desc()).limit(rows_max)
        ).all()
        ruled = self.rulings({row.ruling for row in rows})
        return [_decision(row, ruled) for row in rows]

    def with_keys(self, columns: str, table: str, keys: Collection[Key]) -> Sequence[Row[Any]]:
        """Returns columns of the rows with these keys.

        By a join, since SQLite answers `(organization, id) IN (…)` by reading the whole table; as text,
        since SQLAlchemy compiles VALUES anew each time.
        """
        place = "(?, ?)" if self.tx.dialect == "sqlite" else "(%s, %s)"
        return self.tx.driver_execute(
            f"WITH wanted (organization, id) AS (VALUES {', '.join([place] * len(keys))}) "  # noqa: S608 (names of ours)
            f"SELECT {columns} FROM wanted JOIN {table} AS found "
            "ON found.organization = wanted.organization AND found.id = wanted.id",
            tuple(part for key in keys for part in key),
        ).all()

    def _ruling_numbers(self, digests: Sequence[bytes]) -> dict[bytes, int]:
        rows = self.tx.execute(_RULING_NUMBERS, {"digests": digests})
        return {bytes(row.digest): row.number for row in rows}


@functools.lru_cache(maxsize=16_384)
def _organization(organization_id: str) -> bytes:
    return to_bytes(organization_id)


def key_of(organization_id: str, identifier: bytes) -> Key:
    """Returns the key of a decision or record."""
    return _organization(organization_id), identifier


def organization_of(key: Key) -> str:
    """Returns the organization of a key."""
    return from_bytes("org", key[0])


def _directives(row: Row[Any]) -> Directives:
    return Directives(
        bool(row.zero_retention), TrainingPreference(row.training_preference), row.watermark_time
    )


def _ruling_row(ruling: Ruling) -> dict[str, Any]:
    row: dict[str, Any] = {
        "organization_id": ruling.organization_id,
        "workspace_id": ruling.workspace_id,
        "plan": ruling.plan,
        "terms_class": ruling.terms_class.value,
        "subscription_id": ruling.subscription_id,
        "terms_version": ruling.terms_version,
        "data_kind": ruling.data_kind.value,
        "channel": ruling.channel.value,
        "outcome": msgspec.json.encode(ruling.outcome).decode(),
    }
    return row | {"digest": hashlib.blake2b(msgspec.json.encode(list(row.values())), digest_size=16).digest()}


def _ruling(row: Row[Any]) -> Ruling:
    return Ruling(
        organization_id=row.organization_id,
        workspace_id=row.workspace_id,
        plan=row.plan,
        terms_class=TermsClass(row.terms_class),
        subscription_id=row.subscription_id,
        terms_version=row.terms_version,
        data_kind=DataKind(row.data_kind),
        channel=Channel(row.channel),
        outcome=msgspec.json.decode(row.outcome, type=Outcome),
    )


def _decision(row: Row[Any], ruled: Mapping[int, Ruling]) -> Decision:
    return Decision(
        decision=bytes(row.id),
        ruling=ruled[row.ruling],
        ruling_number=row.ruling,
        as_of_us=row.as_of_time,
        in_flight_until_us=row.in_flight_until_time,
        data_subject=row.data_subject,
    )
