"""The tables that every service with a store carries beside its own.

`define(metadata)` adds them to a service's metadata, so that its migrations and its tests make them; the
chassis builds its statements from `OWN`, whose tables have the same names. Instants are microseconds since
1970, UTC.
"""

from dataclasses import dataclass
from typing import Final

from sqlalchemy import BigInteger, CheckConstraint, Column, Index, Integer, LargeBinary, MetaData, Table, Text


@dataclass(frozen=True, slots=True)
class ChassisTables:
    """The chassis' tables within one metadata."""

    log_head: Table
    events: Table
    event_consumers: Table
    event_cursors: Table
    audit_entries: Table
    idempotency: Table
    tombstones: Table
    leases: Table
    schema_compatibility: Table


def define(metadata: MetaData) -> ChassisTables:
    """Adds the chassis' tables to `metadata` and returns them."""
    return ChassisTables(
        log_head=_log_head(metadata),
        events=_events(metadata),
        event_consumers=_event_consumers(metadata),
        event_cursors=_event_cursors(metadata),
        audit_entries=_audit_entries(metadata),
        idempotency=_idempotency(metadata),
        tombstones=_tombstones(metadata),
        leases=_leases(metadata),
        schema_compatibility=_schema_compatibility(metadata),
    )


def _log_head(metadata: MetaData) -> Table:
    """One row that numbers events and audit entries; one lock for both, so no two transactions cross."""
    return Table(
        "log_head",
        metadata,
        Column("id", Integer, CheckConstraint("id = 1", name="log_head_is_one_row"), primary_key=True),
        Column("generation", Text, nullable=False),
        Column("event_number", BigInteger, nullable=False),
        Column("audit_number", BigInteger, nullable=False),
    )


def _events(metadata: MetaData) -> Table:
    """The outbox: what changed, by ids only; never pruned."""
    return Table(
        "events",
        metadata,
        Column("number", BigInteger, primary_key=True, autoincrement=False),
        Column("kind", Text, nullable=False),
        Column("create_time", BigInteger, nullable=False),
        Column("organization_id", Text, nullable=False),
        Column("workspace_id", Text, nullable=False),
        Column("resource_id", Text, nullable=False),
        Column("version", BigInteger, nullable=False),
    )


def _event_consumers(metadata: MetaData) -> Table:
    """How far each consumer of this service's events says it has come."""
    return Table(
        "event_consumers",
        metadata,
        Column("consumer", Text, primary_key=True),
        Column("generation", Text, nullable=False),
        Column("number", BigInteger, nullable=False),
        Column("update_time", BigInteger, nullable=False),
    )


def _event_cursors(metadata: MetaData) -> Table:
    """How far this service has come in the events of others; moves in the transaction of the effect."""
    return Table(
        "event_cursors",
        metadata,
        Column("source", Text, primary_key=True),
        Column("generation", Text, nullable=False),
        Column("number", BigInteger, nullable=False),
        Column("update_time", BigInteger, nullable=False),
    )


def _audit_entries(metadata: MetaData) -> Table:
    """Who did what, or was refused it."""
    return Table(
        "audit_entries",
        metadata,
        Column("number", BigInteger, primary_key=True, autoincrement=False),
        Column("create_time", BigInteger, nullable=False),
        Column("organization_id", Text, nullable=False),
        Column("caller_kind", Text, nullable=False),
        Column("key_id", Text, nullable=False),
        Column("member_id", Text, nullable=False),
        Column("method", Text, nullable=False),
        Column("action", Text, nullable=False),
        Column("resource_id", Text, nullable=False),
        Column("result", Text, nullable=False),
        Column("count", Integer, nullable=False),
        Column("peer", Text, nullable=False),
        Column("trace_id", Text, nullable=False),
        Index("audit_entries_by_organization", "organization_id", "number"),
    )


def _idempotency(metadata: MetaData) -> Table:
    """Requests that took effect, by their request_id."""
    return Table(
        "idempotency",
        metadata,
        Column("caller", Text, primary_key=True),
        Column("method", Text, primary_key=True),
        Column("request_id", LargeBinary, primary_key=True),
        Column("digest", LargeBinary, nullable=False),
        Column("resource_id", Text, nullable=False),
        Column("create_time", BigInteger, nullable=False),
        Index("idempotency_by_time", "create_time"),
    )


def _tombstones(metadata: MetaData) -> Table:
    """What was deleted for good; an empty workspace stands for the whole organization."""
    return Table(
        "tombstones",
        metadata,
        Column("organization_id", Text, primary_key=True),
        Column("workspace_id", Text, primary_key=True),
        Column("create_time", BigInteger, nullable=False),
    )


def _leases(metadata: MetaData) -> Table:
    """Who does the periodic work of a name; the token rises with each new holder."""
    return Table(
        "leases",
        metadata,
        Column("name", Text, primary_key=True),
        Column("holder", Text, nullable=False),
        Column("token", BigInteger, nullable=False),
        Column("expire_time", BigInteger, nullable=False),
    )


def _schema_compatibility(metadata: MetaData) -> Table:
    """Which revision the store is at, and the oldest code revision that may still run on it."""
    return Table(
        "schema_compatibility",
        metadata,
        Column("revision", Text, primary_key=True),
        Column("compatible_since", Text, nullable=False),
    )


OWN: Final = define(MetaData())
"""The tables that the chassis builds its own statements from."""
