"""The tables of quotas.

`counters` has one row for each organization, workspace and key that ever reserved or has rules;
`reservations` one for each admitted call, in 16 raw bytes per id. Instants are microseconds since 1970, UTC.
"""

from typing import Final

from sqlalchemy import BigInteger, Column, Index, LargeBinary, MetaData, SmallInteger, Table, Text

from perron.chassis import tables

metadata: Final = MetaData()
chassis_tables: Final = tables.define(metadata)

counters: Final = Table(
    "counters",
    metadata,
    Column("id", Text, primary_key=True),
    Column("scope", SmallInteger, nullable=False),
    Column("organization_id", Text, nullable=False),
    Column("workspace_id", Text, nullable=False),
    Column("tier", Text, nullable=False),
    Column("last_time", BigInteger, nullable=False),
    Column("packed", LargeBinary, nullable=False),
    Column("rules", LargeBinary, nullable=False),
)

reservations: Final = Table(
    "reservations",
    metadata,
    Column("id", LargeBinary, primary_key=True),
    Column("organization_id", LargeBinary, nullable=False),
    Column("workspace_id", LargeBinary, nullable=False),
    Column("key_id", LargeBinary, nullable=False),
    Column("model", Text, nullable=False),
    Column("requests", BigInteger, nullable=False),
    Column("tokens", BigInteger, nullable=False),
    Column("reserve_time", BigInteger, nullable=False),
    Column("ttl", BigInteger, nullable=False),
    Column("charged", BigInteger, nullable=False),
    Column("state", SmallInteger, nullable=False),
    Column("settled_tokens", BigInteger, nullable=False),
    Index("reservations_by_time", "reserve_time"),
    sqlite_with_rowid=False,
)

suspensions: Final = Table(
    "suspensions",
    metadata,
    Column("id", Text, primary_key=True),
    Column("organization_id", Text, nullable=False),
    Column("workspace_id", Text, nullable=False),
    Column("key_id", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("metric", SmallInteger, nullable=False),
    Column("window", SmallInteger, nullable=False),
    Column("amount", BigInteger, nullable=False),
    Column("origin", SmallInteger, nullable=False),
    Column("create_time", BigInteger, nullable=False),
    Column("reset_time", BigInteger, nullable=False),
    Column("close_time", BigInteger, nullable=False),
    Index("suspensions_by_organization", "organization_id", "id"),
)
