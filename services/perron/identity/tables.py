"""The tables of identity: ids are text, instants microseconds since 1970, sets words with a space between.

Rows that Verify reads lie in the index that finds them (WITHOUT ROWID), one descent each. NULL in a set
means "any".
"""

from typing import Final

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)

from perron.chassis import tables

metadata: Final = MetaData()

chassis_tables: Final = tables.define(metadata)

organizations: Final = Table(
    "organizations",
    metadata,
    Column("organization_id", Text, primary_key=True),
    Column("display_name", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("plan", Text, nullable=False),
    Column("subscription_id", Text, nullable=False),  # the running one; empty on free plans
    Column("permitted_uses", Text, nullable=False),
    Column("expected_monthly_requests", BigInteger, nullable=False),
    Column(
        "accepted", Text, nullable=False
    ),  # JSON: document → newest version accepted, kept with `acceptances`
    Column("create_time", BigInteger, nullable=False),
    Column("version", Integer, nullable=False),
    sqlite_with_rowid=False,
)

acceptances: Final = Table(
    "acceptances",
    metadata,
    Column("organization_id", Text, ForeignKey("organizations.organization_id"), primary_key=True),
    Column("document", Text, primary_key=True),
    Column("version", Text, primary_key=True),
    Column("text_digest", Text, nullable=False),
    Column("member_id", Text, nullable=False),
    Column("accept_time", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

subscriptions: Final = Table(
    "subscriptions",
    metadata,
    Column("subscription_id", Text, primary_key=True),
    Column("organization_id", Text, ForeignKey("organizations.organization_id"), nullable=False),
    Column("terms_class", Text, nullable=False),
    Column("start_time", BigInteger, nullable=False),
    Column("end_time", BigInteger),
    Index("subscriptions_by_organization", "organization_id"),
    sqlite_with_rowid=False,
)

workspaces: Final = Table(
    "workspaces",
    metadata,
    Column("workspace_id", Text, primary_key=True),
    Column("organization_id", Text, ForeignKey("organizations.organization_id"), nullable=False),
    Column("display_name", Text, nullable=False),
    Column("create_time", BigInteger, nullable=False),
    Column("version", Integer, nullable=False),
    Index("workspaces_by_organization", "organization_id", "workspace_id"),
    sqlite_with_rowid=False,
)

members: Final = Table(
    "members",
    metadata,
    Column("member_id", Text, primary_key=True),
    Column("organization_id", Text, ForeignKey("organizations.organization_id"), nullable=False),
    Column("display_name", Text, nullable=False),
    Column("email", Text),  # NULL for service accounts
    Column("organization_role", Text, nullable=False),
    Column("create_time", BigInteger, nullable=False),
    Column("version", Integer, nullable=False),
    UniqueConstraint("organization_id", "email", name="members_email_once"),
    Index("members_by_organization", "organization_id", "member_id"),
    sqlite_with_rowid=False,
)

memberships: Final = Table(
    "memberships",
    metadata,
    Column("workspace_id", Text, ForeignKey("workspaces.workspace_id", ondelete="CASCADE"), primary_key=True),
    Column("member_id", Text, ForeignKey("members.member_id", ondelete="CASCADE"), primary_key=True),
    Column("workspace_role", Text, nullable=False),
    Index("memberships_by_member", "member_id"),
    sqlite_with_rowid=False,
)

# Owner and workspace are no foreign keys: a key outlives them, to be refused for the right reason.
api_keys: Final = Table(
    "api_keys",
    metadata,
    Column("digest", LargeBinary(32), primary_key=True),  # HMAC-SHA256(pepper, key)
    Column("pepper_id", Text, nullable=False),
    Column("key_id", Text, nullable=False, unique=True),
    Column("kind", Text, nullable=False),
    Column("display_name", Text, nullable=False),
    Column(
        "organization_id", Text, nullable=False
    ),  # this and the next two are empty for keys of the installation
    Column("workspace_id", Text, nullable=False),
    Column("owner_member_id", Text, nullable=False),
    Column("ancestors", Text, nullable=False),  # ids, the eldest first
    Column("scopes", Text, nullable=False),
    Column("allowed_models", Text),
    Column("allowed_networks", Text),
    Column("expire_time", BigInteger),
    Column("revoke_time", BigInteger),
    Column("service_name", Text, nullable=False),
    Column("operator_roles", Text, nullable=False),
    Column("create_time", BigInteger, nullable=False),
    Column("version", Integer, nullable=False),
    Index("api_keys_by_organization", "organization_id", "key_id"),
    Index("api_keys_by_workspace", "workspace_id", "key_id"),
    sqlite_with_rowid=False,
)
