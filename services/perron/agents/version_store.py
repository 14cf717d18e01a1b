"""Versions and the keys that they are sealed under, in one open transaction."""

import json
from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import Row, insert, select, text, update

from perron.agents.errors import missing
from perron.agents.model import Agent, Sealed, Version
from perron.agents.store import Store
from perron.agents.tables import agent_versions, workspace_keys

_METADATA: Final = [
    column for column in agent_versions.c if column.name not in {"key_id", "wrapped_key", "sealed"}
]
_CURRENT: Final = text("state = 'CURRENT'")


class VersionStore(Store):
    """The part of the store that versions need."""

    def version(self, agent: Agent, number: int) -> Version:
        """Returns a version of an agent; 0 stands for the latest. Raises NotFound."""
        row = self.tx.execute(
            select(*_METADATA).where(
                agent_versions.c.agent_id == agent.agent_id,
                agent_versions.c.version == (number or agent.latest_version),
            )
        ).first()
        if row is None:
            raise missing("version")
        return version_of(row, agent.organization_id)

    def sealed(self, version: Version) -> Sealed | None:
        """Returns what was said in a version, sealed; None where it was erased."""
        row = self.tx.execute(
            select(agent_versions.c.key_id, agent_versions.c.wrapped_key, agent_versions.c.sealed).where(
                agent_versions.c.agent_id == version.agent_id, agent_versions.c.version == version.version
            )
        ).one()
        if row.sealed is None:
            return None
        return Sealed(row.key_id, bytes(row.wrapped_key), bytes(row.sealed))

    def versions(self, agent: Agent, before: int, rows_max: int) -> list[Version]:
        """Returns versions, newest first, from before a number on; 0 for the newest."""
        statement = select(*_METADATA).where(agent_versions.c.agent_id == agent.agent_id)
        if before:
            statement = statement.where(agent_versions.c.version < before)
        rows = self.tx.execute(statement.order_by(agent_versions.c.version.desc()).limit(rows_max))
        return [version_of(row, agent.organization_id) for row in rows]

    def insert_version(self, version: Version, sealed: Sealed) -> None:
        """Stores a version; it never changes."""
        self.tx.execute(
            insert(agent_versions),
            {
                "agent_id": version.agent_id,
                "version": version.version,
                "author_member_id": version.author_member_id,
                "create_time": version.create_us,
                "restored_version": version.restored_version,
                "decision_id": version.decision_id,
                "third_parties": json.dumps(version.third_parties),
                "key_id": sealed.key_id,
                "wrapped_key": sealed.wrapped_key,
                "sealed": sealed.content,
            },
        )

    def erase_versions(self, agent_id: str) -> None:
        """Takes what is sealed, and its keys, out of every version of an agent."""
        self.tx.execute(
            update(agent_versions)
            .where(agent_versions.c.agent_id == agent_id)
            .values(key_id=None, wrapped_key=None, sealed=None)
        )

    def current_key(self, workspace_id: str) -> str | None:
        """Returns the key that seals new versions of a workspace; None where there is none yet."""
        found = self.tx.execute(
            select(workspace_keys.c.id).where(workspace_keys.c.workspace_id == workspace_id, _CURRENT)
        ).scalar()
        return str(found) if found is not None else None

    def insert_key(self, workspace_id: str, key_id: str) -> None:
        """Stores a new key of a workspace, which seals from now on."""
        self.tx.execute(
            insert(workspace_keys),
            {"id": key_id, "workspace_id": workspace_id, "state": "CURRENT", "create_time": self.now_us()},
        )

    def retire_key(self, workspace_id: str) -> None:
        """Takes the key of a workspace out of use: what it opens is to be wrapped under another one."""
        self.tx.execute(
            update(workspace_keys)
            .where(
                workspace_keys.c.workspace_id == workspace_id, workspace_keys.c.state.in_(("CURRENT", "LOST"))
            )
            .values(state="RETIRED")
        )

    def move_key(self, key_id: str, state: str) -> None:
        """Says what is to become of a key: DROPPING, DROPPED or LOST."""
        self.tx.execute(update(workspace_keys).where(workspace_keys.c.id == key_id).values(state=state))

    def keys_in(self, state: str, rows_max: int | None = None) -> list[tuple[str, str]]:
        """Returns (key, workspace) of keys in a state, all of them where no bound is given."""
        rows = self.tx.execute(
            select(workspace_keys.c.id, workspace_keys.c.workspace_id)
            .where(workspace_keys.c.state == state)
            .order_by(workspace_keys.c.id)
            .limit(rows_max)
        )
        return [(row.id, row.workspace_id) for row in rows]

    def wrapped_under(self, key_id: str, rows_max: int) -> list[tuple[str, int, bytes]]:
        """Returns (agent, version, wrapped data key) of versions that need a key."""
        rows = self.tx.execute(
            select(agent_versions.c.agent_id, agent_versions.c.version, agent_versions.c.wrapped_key)
            .where(agent_versions.c.key_id == key_id)
            .limit(rows_max)
        )
        return [(row.agent_id, row.version, bytes(row.wrapped_key)) for row in rows]

    def rewrap(self, key_id: str, wrapped: Sequence[tuple[str, int, bytes]]) -> None:
        """Stores data keys wrapped under another key, as (agent, version, wrapped data key)."""
        self.tx.execute(
            text(
                "UPDATE agent_versions SET key_id = :key_id, wrapped_key = :wrapped "
                "WHERE agent_id = :agent_id AND version = :version"
            ),
            [
                {"key_id": key_id, "wrapped": one, "agent_id": agent_id, "version": version}
                for agent_id, version, one in wrapped
            ],
        )


def version_of(row: Row[Any], organization_id: str) -> Version:
    """Reads the metadata in a row of `agent_versions`."""
    return Version(
        organization_id=organization_id,
        agent_id=row.agent_id,
        version=row.version,
        author_member_id=row.author_member_id,
        create_us=row.create_time,
        restored_version=row.restored_version,
        decision_id=row.decision_id,
        third_parties=tuple(json.loads(row.third_parties)),
    )
