"""The first tables of identity."""

import sqlalchemy as sa
from alembic import op

from perron.chassis.migrations.first import create_chassis_tables

revision = "0001"
down_revision = None
compatible_since = "0001"


def upgrade() -> None:
    create_chassis_tables()
    _create_organizations()
    _create_members()
    _create_keys()


def _create_organizations() -> None:
    op.create_table(
        "organizations",
        sa.Column("organization_id", sa.Text, primary_key=True),
        sa.Column("display_name", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("plan", sa.Text, nullable=False),
        sa.Column("subscription_id", sa.Text, nullable=False),
        sa.Column("permitted_uses", sa.Text, nullable=False),
        sa.Column("expected_monthly_requests", sa.BigInteger, nullable=False),
        sa.Column("accepted", sa.Text, nullable=False),
        sa.Column("create_time", sa.BigInteger, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "acceptances",
        sa.Column(
            "organization_id", sa.Text, sa.ForeignKey("organizations.organization_id"), primary_key=True
        ),
        sa.Column("document", sa.Text, primary_key=True),
        sa.Column("version", sa.Text, primary_key=True),
        sa.Column("text_digest", sa.Text, nullable=False),
        sa.Column("member_id", sa.Text, nullable=False),
        sa.Column("accept_time", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "subscriptions",
        sa.Column("subscription_id", sa.Text, primary_key=True),
        sa.Column("organization_id", sa.Text, sa.ForeignKey("organizations.organization_id"), nullable=False),
        sa.Column("terms_class", sa.Text, nullable=False),
        sa.Column("start_time", sa.BigInteger, nullable=False),
        sa.Column("end_time", sa.BigInteger),
        sqlite_with_rowid=False,
    )
    op.create_index("subscriptions_by_organization", "subscriptions", ["organization_id"])


def _create_members() -> None:
    op.create_table(
        "workspaces",
        sa.Column("workspace_id", sa.Text, primary_key=True),
        sa.Column("organization_id", sa.Text, sa.ForeignKey("organizations.organization_id"), nullable=False),
        sa.Column("display_name", sa.Text, nullable=False),
        sa.Column("create_time", sa.BigInteger, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index("workspaces_by_organization", "workspaces", ["organization_id", "workspace_id"])
    op.create_table(
        "members",
        sa.Column("member_id", sa.Text, primary_key=True),
        sa.Column("organization_id", sa.Text, sa.ForeignKey("organizations.organization_id"), nullable=False),
        sa.Column("display_name", sa.Text, nullable=False),
        sa.Column("email", sa.Text),
        sa.Column("organization_role", sa.Text, nullable=False),
        sa.Column("create_time", sa.BigInteger, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.UniqueConstraint("organization_id", "email", name="members_email_once"),
        sqlite_with_rowid=False,
    )
    op.create_index("members_by_organization", "members", ["organization_id", "member_id"])
    op.create_table(
        "memberships",
        sa.Column(
            "workspace_id",
            sa.Text,
            sa.ForeignKey("workspaces.workspace_id", ondelete="CASCADE"),
            primary_key=True,
        ),
        sa.Column(
            "member_id", sa.Text, sa.ForeignKey("members.member_id", ondelete="CASCADE"), primary_key=True
        ),
        sa.Column("workspace_role", sa.Text, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index("memberships_by_member", "memberships", ["member_id"])


def _create_keys() -> None:
    op.create_table(
        "api_keys",
        sa.Column("digest", sa.LargeBinary(32), primary_key=True),
        sa.Column("pepper_id", sa.Text, nullable=False),
        sa.Column("key_id", sa.Text, nullable=False, unique=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("display_name", sa.Text, nullable=False),
        sa.Column("organization_id", sa.Text, nullable=False),
        sa.Column("workspace_id", sa.Text, nullable=False),
        sa.Column("owner_member_id", sa.Text, nullable=False),
        sa.Column("ancestors", sa.Text, nullable=False),
        sa.Column("scopes", sa.Text, nullable=False),
        sa.Column("allowed_models", sa.Text),
        sa.Column("allowed_networks", sa.Text),
        sa.Column("expire_time", sa.BigInteger),
        sa.Column("revoke_time", sa.BigInteger),
        sa.Column("service_name", sa.Text, nullable=False),
        sa.Column("operator_roles", sa.Text, nullable=False),
        sa.Column("create_time", sa.BigInteger, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index("api_keys_by_organization", "api_keys", ["organization_id", "key_id"])
    op.create_index("api_keys_by_workspace", "api_keys", ["workspace_id", "key_id"])
