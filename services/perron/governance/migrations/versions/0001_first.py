"""The first tables: decisions and their rulings, directives and their requests, epochs and records."""

import sqlalchemy as sa
from alembic import op

from perron.chassis.migrations.first import create_chassis_tables

revision = "0001"
down_revision = None
compatible_since = "0001"


def upgrade() -> None:
    create_chassis_tables()
    op.create_table(
        "rulings",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
        sa.Column("digest", sa.LargeBinary, nullable=False, unique=True),
        sa.Column("organization_id", sa.Text, nullable=False),
        sa.Column("workspace_id", sa.Text, nullable=False),
        sa.Column("plan", sa.Text, nullable=False),
        sa.Column("terms_class", sa.Text, nullable=False),
        sa.Column("subscription_id", sa.Text, nullable=False),
        sa.Column("terms_version", sa.Text, nullable=False),
        sa.Column("data_kind", sa.Text, nullable=False),
        sa.Column("channel", sa.Text, nullable=False),
        sa.Column("outcome", sa.Text, nullable=False),
    )
    op.create_table(
        "decisions",
        sa.Column("organization", sa.LargeBinary, primary_key=True),
        sa.Column("id", sa.LargeBinary, primary_key=True),
        sa.Column("ruling", sa.BigInteger, nullable=False),
        sa.Column("as_of_time", sa.BigInteger, nullable=False),
        sa.Column("in_flight_until_time", sa.BigInteger, nullable=False),
        sa.Column("data_subject", sa.Text, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index("decisions_by_time", "decisions", ["organization", "as_of_time", "id"])
    _create_directives()
    _create_records()


def downgrade() -> None:
    for table in ("records", "epochs", "zero_retention_requests", "directives", "decisions", "rulings"):
        op.drop_table(table)


def _create_directives() -> None:
    op.create_table(
        "directives",
        sa.Column("organization_id", sa.Text, primary_key=True),
        sa.Column("workspace_id", sa.Text, primary_key=True),
        sa.Column("zero_retention", sa.Boolean, nullable=False),
        sa.Column("training_preference", sa.Text, nullable=False),
        sa.Column("watermark_time", sa.BigInteger, nullable=False),
        sa.Column("update_time", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "zero_retention_requests",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("organization_id", sa.Text, nullable=False),
        sa.Column("workspace_id", sa.Text, nullable=False),
        sa.Column("reasons", sa.Text, nullable=False),
        sa.Column("existing_records", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("create_time", sa.BigInteger, nullable=False),
        sa.Column("review_time", sa.BigInteger, nullable=False),
        sa.Column("review_note", sa.Text, nullable=False),
        sa.Column("effective_time", sa.BigInteger, nullable=False),
        sa.Column("erased_records", sa.BigInteger, nullable=False),
    )
    op.create_index(
        "zero_retention_requests_by_organization", "zero_retention_requests", ["organization_id", "id"]
    )
    op.create_index(
        "zero_retention_requests_one_at_a_time",
        "zero_retention_requests",
        ["organization_id", "workspace_id"],
        unique=True,
        sqlite_where=sa.text("state <> 'DENIED'"),
        postgresql_where=sa.text("state <> 'DENIED'"),
    )


def _create_records() -> None:
    op.create_table(
        "epochs",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("organization_id", sa.Text, nullable=False),
        sa.Column("workspace_id", sa.Text, nullable=False),
        sa.Column("subscription_id", sa.Text, nullable=False),
        sa.Column("retention_class", sa.Text, nullable=False),
        sa.Column("due_day", sa.Integer, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("create_time", sa.BigInteger, nullable=False),
    )
    op.create_index("epochs_by_organization", "epochs", ["organization_id", "state"])
    op.create_index(
        "epochs_one_open",
        "epochs",
        ["workspace_id", "subscription_id", "retention_class", "due_day"],
        unique=True,
        sqlite_where=sa.text("state = 'OPEN'"),
        postgresql_where=sa.text("state = 'OPEN'"),
    )
    op.create_table(
        "records",
        sa.Column("organization", sa.LargeBinary, primary_key=True),
        sa.Column("id", sa.LargeBinary, primary_key=True),
        sa.Column("workspace_id", sa.Text, nullable=False),
        sa.Column("epoch_id", sa.Text, sa.ForeignKey("epochs.id"), nullable=False),
        sa.Column("ruling", sa.BigInteger, nullable=False),
        sa.Column("as_of_time", sa.BigInteger, nullable=False),
        sa.Column("due_time", sa.BigInteger, nullable=False),
        sa.Column("create_time", sa.BigInteger, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("agent_id", sa.Text, nullable=False),
        sa.Column("agent_version", sa.Integer, nullable=False),
        sa.Column("data_subject", sa.Text, nullable=False),
        sa.Column("training_eligible", sa.Boolean, nullable=False),
        sa.Column("input_bytes", sa.Integer, nullable=False),
        sa.Column("output_bytes", sa.Integer, nullable=False),
        sa.Column("wrapped_key", sa.LargeBinary, nullable=False),
        sa.Column("sealed", sa.LargeBinary, nullable=False),
    )
    op.create_index("records_by_workspace", "records", ["workspace_id", "create_time", "id"])
    op.create_index("records_by_epoch", "records", ["epoch_id"])
