"""The tables of governance: a decision is a few numbers, and what repeats stands once, in `rulings`.

Decisions and records are written for every request and keep their ids as 16 raw bytes; a record has the bytes
of its decision. Instants are microseconds since 1970, UTC.
"""

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    text,
)

from perron.chassis import tables as chassis

metadata: Final = MetaData()
chassis_tables: Final = chassis.define(metadata)

rulings: Final = Table(
    "rulings",
    metadata,
    Column("number", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("digest", LargeBinary, nullable=False, unique=True),
    Column("organization_id", Text, nullable=False),
    Column("workspace_id", Text, nullable=False),
    Column("plan", Text, nullable=False),
    Column("terms_class", Text, nullable=False),
    Column("subscription_id", Text, nullable=False),
    Column("terms_version", Text, nullable=False),
    Column("data_kind", Text, nullable=False),
    Column("channel", Text, nullable=False),
    Column("outcome", Text, nullable=False),
)
"""Each distinct outcome for one workspace under one plan and subscription, once."""

decisions: Final = Table(
    "decisions",
    metadata,
    Column("organization", LargeBinary, primary_key=True),
    Column("id", LargeBinary, primary_key=True),
    Column("ruling", BigInteger, nullable=False),
    Column("as_of_time", BigInteger, nullable=False),
    Column("in_flight_until_time", BigInteger, nullable=False),
    Column("data_subject", Text, nullable=False),
    Index("decisions_by_time", "organization", "as_of_time", "id"),
    sqlite_with_rowid=False,
)
"""One row for each admitted request; never changed."""

directives: Final = Table(
    "directives",
    metadata,
    Column("organization_id", Text, primary_key=True),
    Column("workspace_id", Text, primary_key=True),
    Column("zero_retention", Boolean, nullable=False),
    Column("training_preference", Text, nullable=False),
    Column("watermark_time", BigInteger, nullable=False),
    Column("update_time", BigInteger, nullable=False),
)
"""What is in force; an empty workspace stands for the whole organization."""

zero_retention_requests: Final = Table(
    "zero_retention_requests",
    metadata,
    Column("id", Text, primary_key=True),
    Column("organization_id", Text, nullable=False),
    Column("workspace_id", Text, nullable=False),
    Column("reasons", Text, nullable=False),
    Column("existing_records", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("create_time", BigInteger, nullable=False),
    Column("review_time", BigInteger, nullable=False),
    Column("review_note", Text, nullable=False),
    Column("effective_time", BigInteger, nullable=False),
    Column("erased_records", BigInteger, nullable=False),
    Index("zero_retention_requests_by_organization", "organization_id", "id"),
)
"""Requests for zero retention and what became of them."""

Index(
    "zero_retention_requests_one_at_a_time",
    zero_retention_requests.c.organization_id,
    zero_retention_requests.c.workspace_id,
    unique=True,
    sqlite_where=text("state <> 'DENIED'"),
    postgresql_where=text("state <> 'DENIED'"),
)

epochs: Final = Table(
    "epochs",
    metadata,
    Column("id", Text, primary_key=True),
    Column("organization_id", Text, nullable=False),
    Column("workspace_id", Text, nullable=False),
    Column("subscription_id", Text, nullable=False),
    Column("retention_class", Text, nullable=False),
    Column("due_day", Integer, nullable=False),
    Column("state", Text, nullable=False),
    Column("create_time", BigInteger, nullable=False),
    Index("epochs_by_organization", "organization_id", "state"),
)
"""Whose key seals what.

OPEN takes records; LOST takes none, as its key is missing; DROPPING loses its key and its records; DROPPED
stays, as the vault's drop list.
"""

Index(
    "epochs_one_open",
    epochs.c.workspace_id,
    epochs.c.subscription_id,
    epochs.c.retention_class,
    epochs.c.due_day,
    unique=True,
    sqlite_where=text("state = 'OPEN'"),
    postgresql_where=text("state = 'OPEN'"),
)

records: Final = Table(
    "records",
    metadata,
    Column("organization", LargeBinary, primary_key=True),
    Column("id", LargeBinary, primary_key=True),
    Column("workspace_id", Text, nullable=False),
    Column("epoch_id", Text, ForeignKey("epochs.id"), nullable=False),
    Column("ruling", BigInteger, nullable=False),
    Column("as_of_time", BigInteger, nullable=False),
    Column("due_time", BigInteger, nullable=False),
    Column("create_time", BigInteger, nullable=False),
    Column("model", Text, nullable=False),
    Column("agent_id", Text, nullable=False),
    Column("agent_version", Integer, nullable=False),
    Column("data_subject", Text, nullable=False),
    Column("training_eligible", Boolean, nullable=False),
    Column("input_bytes", Integer, nullable=False),
    Column("output_bytes", Integer, nullable=False),
    Column("wrapped_key", LargeBinary, nullable=False),
    Column("sealed", LargeBinary, nullable=False),
    Index("records_by_workspace", "workspace_id", "create_time", "id"),
    Index("records_by_epoch", "epoch_id"),
)
"""Kept exchanges: the content sealed under a data key, the data key wrapped under the epoch's."""
