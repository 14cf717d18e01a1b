"""The first tables: agents and their versions, names, shares and keys."""

import sqlalchemy as sa
from alembic import op

from perron.chassis.migrations.first import create_chassis_tables

revision = "0001"
down_revision = None
compatible_since = "0001"


def upgrade() -> None:
    create_chassis_tables()
    _create_agents()
    _create_versions()
    _create_names()
    _create_workspaces()


def downgrade() -> None:
    for table in (
        "plan_entitlements",
        "acknowledgements",
        "workspace_keys",
        "workspaces",
        "reserved_keys",
        "reserved_names",
        "aliases",
        "agent_shares",
        "agent_handoffs",
        "agent_versions",
        "agent_readings",
        "agents",
    ):
        op.drop_table(table)


def _create_agents() -> None:
    op.create_table(
        "agents",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("organization_id", sa.Text, nullable=False),
        sa.Column("workspace_id", sa.Text, nullable=False),
        sa.Column("display_name", sa.Text, nullable=False),
        sa.Column("listed_as", _sorted_text(), nullable=False),
        sa.Column("owner_member_id", sa.Text, nullable=False),
        sa.Column("source_kind", sa.Text, nullable=False),
        sa.Column("source_model_id", sa.Text, nullable=False),
        sa.Column("source_job_id", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("erasure", sa.Text, nullable=False),
        sa.Column("disable_reason", sa.Text, nullable=False),
        sa.Column("latest_version", sa.Integer, nullable=False),
        sa.Column("sharing_mode", sa.Text, nullable=False),
        sa.Column("channels", sa.Text, nullable=False),
        sa.Column("attest_member_id", sa.Text, nullable=False),
        sa.Column("attest_time", sa.BigInteger, nullable=False),
        sa.Column("attest_occasion", sa.Text, nullable=False),
        sa.Column("create_time", sa.BigInteger, nullable=False),
        sa.Column("update_time", sa.BigInteger, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )
    _partial_index("agents_by_name", "agents", ["workspace_id", "listed_as", "id"], "state <> 'DELETED'")
    _partial_index("agents_by_time", "agents", ["workspace_id", "create_time", "id"], "state <> 'DELETED'")
    _partial_index(
        "agents_by_owner_and_name",
        "agents",
        ["workspace_id", "owner_member_id", "listed_as", "id"],
        "state <> 'DELETED'",
    )
    _partial_index(
        "agents_by_owner_and_time",
        "agents",
        ["workspace_id", "owner_member_id", "create_time", "id"],
        "state <> 'DELETED'",
    )
    _partial_index(
        "agents_by_sharing_and_name",
        "agents",
        ["workspace_id", "sharing_mode", "listed_as", "id"],
        "state <> 'DELETED'",
    )
    _partial_index(
        "agents_by_sharing_and_time",
        "agents",
        ["workspace_id", "sharing_mode", "create_time", "id"],
        "state <> 'DELETED'",
    )
    _partial_index("agents_disabled", "agents", ["workspace_id", "create_time", "id"], "state = 'DISABLED'")
    _partial_index("agents_one_per_job", "agents", ["source_job_id"], "source_job_id <> ''", unique=True)
    _partial_index("agents_to_erase", "agents", ["id"], "erasure = 'PENDING'")


def _create_versions() -> None:
    op.create_table(
        "agent_versions",
        sa.Column("agent_id", sa.Text, primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True),
        sa.Column("author_member_id", sa.Text, nullable=False),
        sa.Column("create_time", sa.BigInteger, nullable=False),
        sa.Column("restored_version", sa.Integer, nullable=False),
        sa.Column("decision_id", sa.Text, nullable=False),
        sa.Column("third_parties", sa.Text, nullable=False),
        sa.Column("key_id", sa.Text),
        sa.Column("wrapped_key", sa.LargeBinary),
        sa.Column("sealed", sa.LargeBinary),
    )
    op.create_index("agent_versions_by_key", "agent_versions", ["key_id"])
    op.create_table(
        "agent_handoffs",
        sa.Column("agent_id", sa.Text, primary_key=True),
        sa.Column("target_id", sa.Text, primary_key=True),
        sa.Column("workspace_id", sa.Text, nullable=False),
    )
    op.create_index("agent_handoffs_by_target", "agent_handoffs", ["target_id"])
    op.create_index("agent_handoffs_by_workspace", "agent_handoffs", ["workspace_id"])
    op.create_table(
        "agent_shares",
        sa.Column("agent_id", sa.Text, primary_key=True),
        sa.Column("member_id", sa.Text, primary_key=True),
        sa.Column("workspace_id", sa.Text, nullable=False),
        sa.Column("listed_as", _sorted_text(), nullable=False),
        sa.Column("create_time", sa.BigInteger, nullable=False),
    )
    for order, column in (("name", "listed_as"), ("time", "create_time")):
        op.create_index(
            f"agent_shares_by_{order}", "agent_shares", ["workspace_id", "member_id", column, "agent_id"]
        )


def _create_names() -> None:
    op.create_table(
        "agent_readings",
        sa.Column("workspace_id", sa.Text, primary_key=True),
        sa.Column("reading", sa.Text, primary_key=True),
        sa.Column("agent_id", sa.Text, nullable=False),
    )
    op.create_index("agent_readings_by_agent", "agent_readings", ["agent_id"])
    op.create_table(
        "aliases",
        sa.Column("workspace_id", sa.Text, primary_key=True),
        sa.Column("alias", _sorted_text(), primary_key=True),
        sa.Column("reading", sa.Text, nullable=False),
        sa.Column("agent_id", sa.Text, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("attest_member_id", sa.Text, nullable=False),
        sa.Column("attest_time", sa.BigInteger, nullable=False),
        sa.Column("attest_occasion", sa.Text, nullable=False),
        sa.Column("create_time", sa.BigInteger, nullable=False),
        sa.Column("update_time", sa.BigInteger, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
    )
    op.create_index("aliases_by_reading", "aliases", ["workspace_id", "reading"], unique=True)
    op.create_index("aliases_by_agent", "aliases", ["agent_id", "alias"])
    op.create_table(
        "reserved_names",
        sa.Column("listed_as", _sorted_text(), primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
    )
    op.create_table(
        "reserved_keys",
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("listed_as", sa.Text, primary_key=True),
    )
    op.create_index("reserved_keys_by_name", "reserved_keys", ["listed_as"])


def _create_workspaces() -> None:
    op.create_table(
        "workspaces",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("organization_id", sa.Text, nullable=False),
        sa.Column("is_ended", sa.Boolean, nullable=False),
    )
    op.create_index("workspaces_by_organization", "workspaces", ["organization_id"])
    _partial_index("workspaces_ended", "workspaces", ["id"], "is_ended")
    op.create_table(
        "workspace_keys",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("workspace_id", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("create_time", sa.BigInteger, nullable=False),
    )
    op.create_index("workspace_keys_by_state", "workspace_keys", ["state", "id"])
    _partial_index(
        "workspace_keys_one_current", "workspace_keys", ["workspace_id"], "state = 'CURRENT'", unique=True
    )
    op.create_table(
        "acknowledgements",
        sa.Column("workspace_id", sa.Text, primary_key=True),
        sa.Column("third_party", _sorted_text(), primary_key=True),
        sa.Column("member_id", sa.Text, nullable=False),
        sa.Column("create_time", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "plan_entitlements",
        sa.Column("organization_id", sa.Text, primary_key=True),
        sa.Column("sharing", sa.Boolean, nullable=False),
        sa.Column("channels", sa.Text, nullable=False),
        sa.Column("changes", sa.BigInteger, nullable=False),
        sa.Column("update_time", sa.BigInteger, nullable=False),
    )
    _partial_index("plan_entitlements_to_look_at", "plan_entitlements", ["organization_id"], "changes > 0")


def _sorted_text() -> sa.types.TypeEngine[str]:
    return sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def _partial_index(name: str, table: str, columns: list[str], where: str, *, unique: bool = False) -> None:
    op.create_index(
        name, table, columns, unique=unique, sqlite_where=sa.text(where), postgresql_where=sa.text(where)
    )
