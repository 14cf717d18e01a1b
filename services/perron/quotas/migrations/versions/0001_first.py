"""The first tables of quotas: counters, reservations, suspensions."""

import sqlalchemy as sa
from alembic import op

from perron.chassis.migrations.first import create_chassis_tables

revision = "0001"
down_revision = None
compatible_since = "0001"


def upgrade() -> None:
    create_chassis_tables()
    op.create_table(
        "counters",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("scope", sa.SmallInteger, nullable=False),
        sa.Column("organization_id", sa.Text, nullable=False),
        sa.Column("workspace_id", sa.Text, nullable=False),
        sa.Column("tier", sa.Text, nullable=False),
        sa.Column("last_time", sa.BigInteger, nullable=False),
        sa.Column("packed", sa.LargeBinary, nullable=False),
        sa.Column("rules", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "reservations",
        sa.Column("id", sa.LargeBinary, primary_key=True),
        sa.Column("organization_id", sa.LargeBinary, nullable=False),
        sa.Column("workspace_id", sa.LargeBinary, nullable=False),
        sa.Column("key_id", sa.LargeBinary, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("requests", sa.BigInteger, nullable=False),
        sa.Column("tokens", sa.BigInteger, nullable=False),
        sa.Column("reserve_time", sa.BigInteger, nullable=False),
        sa.Column("ttl", sa.BigInteger, nullable=False),
        sa.Column("charged", sa.BigInteger, nullable=False),
        sa.Column("state", sa.SmallInteger, nullable=False),
        sa.Column("settled_tokens", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index("reservations_by_time", "reservations", ["reserve_time"])
    op.create_table(
        "suspensions",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("organization_id", sa.Text, nullable=False),
        sa.Column("workspace_id", sa.Text, nullable=False),
        sa.Column("key_id", sa.Text, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("metric", sa.SmallInteger, nullable=False),
        sa.Column("window", sa.SmallInteger, nullable=False),
        sa.Column("amount", sa.BigInteger, nullable=False),
        sa.Column("origin", sa.SmallInteger, nullable=False),
        sa.Column("create_time", sa.BigInteger, nullable=False),
        sa.Column("reset_time", sa.BigInteger, nullable=False),
        sa.Column("close_time", sa.BigInteger, nullable=False),
    )
    op.create_index("suspensions_by_organization", "suspensions", ["organization_id", "id"])
