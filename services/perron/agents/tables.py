"""The tables of agents: an agent is one row, its versions carry what is sealed.

A deleted agent keeps its row, so that its id means nothing else ever again; what was said to it does not
stay. Lists are read in the order of an index each: whoever asks, a page touches about as many rows as it
shows. Instants are microseconds since 1970, UTC.
"""

from typing import Final

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, LargeBinary, MetaData, Table, Text, text

from perron.chassis import tables as chassis

metadata: Final = MetaData()
chassis_tables: Final = chassis.define(metadata)

# Names sort by their bytes on both stores; PostgreSQL would sort by the database's own language.
_SORTED_TEXT: Final = Text().with_variant(Text(collation="C"), "postgresql")
_LIVE: Final = text("state <> 'DELETED'")
_DISABLED: Final = text("state = 'DISABLED'")

agents: Final = Table(
    "agents",
    metadata,
    Column("id", Text, primary_key=True),
    Column("organization_id", Text, nullable=False),
    Column("workspace_id", Text, nullable=False),
    Column("display_name", Text, nullable=False),
    Column("listed_as", _SORTED_TEXT, nullable=False),
    Column("owner_member_id", Text, nullable=False),
    Column("source_kind", Text, nullable=False),
    Column("source_model_id", Text, nullable=False),
    Column("source_job_id", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("erasure", Text, nullable=False),
    Column("disable_reason", Text, nullable=False),
    Column("latest_version", Integer, nullable=False),
    Column("sharing_mode", Text, nullable=False),
    Column("channels", Text, nullable=False),
    Column("attest_member_id", Text, nullable=False),
    Column("attest_time", BigInteger, nullable=False),
    Column("attest_occasion", Text, nullable=False),
    Column("create_time", BigInteger, nullable=False),
    Column("update_time", BigInteger, nullable=False),
    Column("revision", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
"""Every agent ever made; `channels` are names joined by commas."""


def _live(name: str, *columns: str) -> None:
    Index(name, *(agents.c[column] for column in columns), sqlite_where=_LIVE, postgresql_where=_LIVE)


_live("agents_by_name", "workspace_id", "listed_as", "id")
_live("agents_by_time", "workspace_id", "create_time", "id")
_live("agents_by_owner_and_name", "workspace_id", "owner_member_id", "listed_as", "id")
_live("agents_by_owner_and_time", "workspace_id", "owner_member_id", "create_time", "id")
_live("agents_by_sharing_and_name", "workspace_id", "sharing_mode", "listed_as", "id")
_live("agents_by_sharing_and_time", "workspace_id", "sharing_mode", "create_time", "id")
Index(
    "agents_disabled",
    agents.c.workspace_id,
    agents.c.create_time,
    agents.c.id,
    sqlite_where=_DISABLED,
    postgresql_where=_DISABLED,
)
Index(
    "agents_one_per_job",
    agents.c.source_job_id,
    unique=True,
    sqlite_where=text("source_job_id <> ''"),
    postgresql_where=text("source_job_id <> ''"),
)
Index(
    "agents_to_erase",
    agents.c.id,
    sqlite_where=text("erasure = 'PENDING'"),
    postgresql_where=text("erasure = 'PENDING'"),
)

agent_readings: Final = Table(
    "agent_readings",
    metadata,
    Column("workspace_id", Text, primary_key=True),
    Column("reading", Text, primary_key=True),
    Column("agent_id", Text, nullable=False),
    Index("agent_readings_by_agent", "agent_id"),
)
"""The ways to read the names of agents, so that no two of a workspace look alike."""

agent_versions: Final = Table(
    "agent_versions",
    metadata,
    Column("agent_id", Text, primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("author_member_id", Text, nullable=False),
    Column("create_time", BigInteger, nullable=False),
    Column("restored_version", Integer, nullable=False),
    Column("decision_id", Text, nullable=False),
    Column("third_parties", Text, nullable=False),
    Column("key_id", Text),
    Column("wrapped_key", LargeBinary),
    Column("sealed", LargeBinary),
    Index("agent_versions_by_key", "key_id"),
)
"""Versions; what is sealed and its keys are NULL once it is erased. Third parties are a JSON list."""

agent_handoffs: Final = Table(
    "agent_handoffs",
    metadata,
    Column("agent_id", Text, primary_key=True),
    Column("target_id", Text, primary_key=True),
    Column("workspace_id", Text, nullable=False),
    Index("agent_handoffs_by_target", "target_id"),
    Index("agent_handoffs_by_workspace", "workspace_id"),
)
"""To whom the latest version of each agent may hand over."""

agent_shares: Final = Table(
    "agent_shares",
    metadata,
    Column("agent_id", Text, primary_key=True),
    Column("member_id", Text, primary_key=True),
    Column("workspace_id", Text, nullable=False),
    Column("listed_as", _SORTED_TEXT, nullable=False),
    Column("create_time", BigInteger, nullable=False),
    Index("agent_shares_by_name", "workspace_id", "member_id", "listed_as", "agent_id"),
    Index("agent_shares_by_time", "workspace_id", "member_id", "create_time", "agent_id"),
)
"""The members whom a restricted agent names, with the agent's place in the orders of lists."""

aliases: Final = Table(
    "aliases",
    metadata,
    Column("workspace_id", Text, primary_key=True),
    Column("alias", _SORTED_TEXT, primary_key=True),
    Column("reading", Text, nullable=False),
    Column("agent_id", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("attest_member_id", Text, nullable=False),
    Column("attest_time", BigInteger, nullable=False),
    Column("attest_occasion", Text, nullable=False),
    Column("create_time", BigInteger, nullable=False),
    Column("update_time", BigInteger, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Index("aliases_by_reading", "workspace_id", "reading", unique=True),
    Index("aliases_by_agent", "agent_id", "alias"),
)
"""Names for versions; version 0 is the latest."""

reserved_names: Final = Table(
    "reserved_names",
    metadata,
    Column("listed_as", _SORTED_TEXT, primary_key=True),
    Column("name", Text, nullable=False),
)
"""What no agent and no alias may be called or look like."""

reserved_keys: Final = Table(
    "reserved_keys",
    metadata,
    Column("key", Text, primary_key=True),
    Column("listed_as", Text, primary_key=True),
    Index("reserved_keys_by_name", "listed_as"),
)
"""By what reserved names are found within others; two of them may share a key."""

workspaces: Final = Table(
    "workspaces",
    metadata,
    Column("id", Text, primary_key=True),
    Column("organization_id", Text, nullable=False),
    Column("is_ended", Boolean, nullable=False),
    Index("workspaces_by_organization", "organization_id"),
)
"""One row for each workspace that ever had an agent: what its writers wait for each other on.

`is_ended` from when it is deleted for good until its agents are gone too.
"""

Index(
    "workspaces_ended",
    workspaces.c.id,
    sqlite_where=text("is_ended"),
    postgresql_where=text("is_ended"),
)

workspace_keys: Final = Table(
    "workspace_keys",
    metadata,
    Column("id", Text, primary_key=True),
    Column("workspace_id", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("create_time", BigInteger, nullable=False),
    Index("workspace_keys_by_state", "state", "id"),
)
"""Keys of the vault.

CURRENT seals new versions; RETIRED opens what is not re-wrapped yet; DROPPING opens nothing any more and is
about to leave the vault; DROPPED stays, as the vault's drop list; LOST is one that the vault no longer has.
"""

Index(
    "workspace_keys_one_current",
    workspace_keys.c.workspace_id,
    unique=True,
    sqlite_where=text("state = 'CURRENT'"),
    postgresql_where=text("state = 'CURRENT'"),
)

acknowledgements: Final = Table(
    "acknowledgements",
    metadata,
    Column("workspace_id", Text, primary_key=True),
    Column("third_party", _SORTED_TEXT, primary_key=True),
    Column("member_id", Text, nullable=False),
    Column("create_time", BigInteger, nullable=False),
)
"""Third parties that a workspace has said to know of."""

plan_entitlements: Final = Table(
    "plan_entitlements",
    metadata,
    Column("organization_id", Text, primary_key=True),
    Column("sharing", Boolean, nullable=False),
    Column("channels", Text, nullable=False),
    Column("changes", BigInteger, nullable=False),
    Column("update_time", BigInteger, nullable=False),
)
"""What the plan of each organization gave when it was last looked at; for events, never for access.

`channels` are names joined by commas; `changes` counts the changes of plan heard of since.
"""

Index(
    "plan_entitlements_to_look_at",
    plan_entitlements.c.organization_id,
    sqlite_where=text("changes > 0"),
    postgresql_where=text("changes > 0"),
)
