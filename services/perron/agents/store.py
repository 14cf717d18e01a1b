"""Agents and who is named with them in one open transaction; the other stores are built on this one."""

from collections.abc import Collection, Mapping
from typing import Any, Final

from sqlalchemy import Row, delete, insert, select, text, update

from perron.agents.errors import missing
from perron.agents.model import (
    Agent,
    AgentState,
    Attestation,
    ErasureState,
    Occasion,
    Source,
    SourceKind,
)
from perron.agents.tables import (
    agent_handoffs,
    agent_readings,
    agent_shares,
    agents,
    aliases,
    reserved_keys,
    workspaces,
)
from perron.agents.visibility import Channel, SharingMode
from perron.chassis import idempotency, tombstones
from perron.chassis.interceptors.access import Call
from perron.chassis.mutations import Mutations

_INSERT_WORKSPACE: Final = text(
    "INSERT INTO workspaces (id, organization_id, is_ended) VALUES (:id, :organization_id, :is_ended) "
    "ON CONFLICT DO NOTHING"
)
LIVE: Final = text("agents.state <> 'DELETED'")
"""Spelt out, or the indexes of those that are not deleted are not used."""


class Store(Mutations):
    """The part of the store that every method needs."""

    def now_us(self) -> int:
        """Returns the store's time, in microseconds since 1970."""
        return self.tx.now_us()

    def seen_before(self, call: Call) -> str | None:
        """Returns what an earlier call with this request_id made, without claiming it; None for the first."""
        return idempotency.earlier(self.tx, call)

    def hold_workspace(self, organization_id: str, workspace_id: str) -> None:
        """Waits for the workspace's other writers; holds them off until the commit.

        Whatever is true of several agents at once (names, handoffs, keys) is checked and changed under it.
        """
        values = {"id": workspace_id, "organization_id": organization_id, "is_ended": False}
        self.tx.execute(_INSERT_WORKSPACE, values)
        self.wait_for_workspace(workspace_id)

    def wait_for_workspace(self, workspace_id: str) -> None:
        """Does the same for a workspace that has had an agent."""
        self.tx.execute(select(workspaces.c.id).where(workspaces.c.id == workspace_id).with_for_update())

    def is_buried(self, organization_id: str, workspace_id: str) -> bool:
        """Tells whether the organization or workspace was deleted for good."""
        graves = tombstones.buried(self.tx, [organization_id])
        return (organization_id, "") in graves or (organization_id, workspace_id) in graves

    def agent(self, agent_id: str) -> Agent:
        """Returns an agent that is not deleted. Raises NotFound."""
        row = self.tx.execute(select(agents).where(agents.c.id == agent_id, LIVE)).first()
        if row is None:
            raise missing("agent")
        return agent_of(row)

    def agents(self, agent_ids: Collection[str]) -> dict[str, Agent]:
        """Returns those of these agents that are not deleted."""
        rows = self.tx.execute(select(agents).where(agents.c.id.in_(agent_ids), LIVE))
        return {row.id: agent_of(row) for row in rows}

    def agent_of_job(self, job_id: str) -> str | None:
        """Returns the id of the agent that a job made, deleted ones among them; None for none, or no job."""
        if not job_id:
            return None
        found = self.tx.execute(
            select(agents.c.id).where(agents.c.source_job_id == job_id, text("source_job_id <> ''"))
        ).scalar()
        return str(found) if found is not None else None

    def named(self, member_id: str, agent_ids: Collection[str]) -> frozenset[str]:
        """Returns which of these agents name the member."""
        rows = self.tx.execute(
            select(agent_shares.c.agent_id).where(
                agent_shares.c.agent_id.in_(agent_ids), agent_shares.c.member_id == member_id
            )
        )
        return frozenset(row.agent_id for row in rows)

    def name_is_taken(self, workspace_id: str, readings: Collection[str], own_id: str = "") -> bool:
        """Tells whether another agent than `own_id` has a name that can be read in one of these ways."""
        found = self.tx.execute(
            select(agent_readings.c.agent_id)
            .where(
                agent_readings.c.workspace_id == workspace_id,
                agent_readings.c.reading.in_(readings),
                agent_readings.c.agent_id != own_id,
            )
            .limit(1)
        )
        return found.first() is not None

    def set_readings(self, workspace_id: str, agent_id: str, readings: Collection[str]) -> None:
        """Stores the ways to read the name of an agent; none where it has none any more."""
        self.tx.execute(delete(agent_readings).where(agent_readings.c.agent_id == agent_id))
        rows = [
            {"workspace_id": workspace_id, "reading": one, "agent_id": agent_id} for one in sorted(readings)
        ]
        if rows:
            self.tx.execute(insert(agent_readings), rows)

    def are_reserved(self, keys: Collection[str]) -> bool:
        """Tells whether one of the keys of a name is that of a reserved one."""
        found = self.tx.execute(select(reserved_keys.c.key).where(reserved_keys.c.key.in_(keys)).limit(1))
        return found.first() is not None

    def insert_agent(self, agent: Agent) -> None:
        """Stores a new agent."""
        self.tx.execute(insert(agents), _row(agent) | {"erasure": ErasureState.NONE.value})

    def update_agent(self, agent: Agent) -> None:
        """Stores what has changed of an agent, its new place in lists included."""
        self.tx.execute(update(agents).where(agents.c.id == agent.agent_id), _row(agent))
        self.tx.execute(
            update(agent_shares)
            .where(agent_shares.c.agent_id == agent.agent_id, agent_shares.c.listed_as != agent.listed_as)
            .values(listed_as=agent.listed_as)
        )

    def end_agent(self, agent_id: str, erasure: ErasureState) -> None:
        """Marks an agent deleted; its name, aliases, shares and handoffs are gone."""
        self.tx.execute(
            update(agents)
            .where(agents.c.id == agent_id)
            .values(
                state=AgentState.DELETED.value,
                erasure=erasure.value,
                display_name="",
                listed_as="",
                disable_reason="",
                update_time=self.now_us(),
                revision=agents.c.revision + 1,
            )
        )
        self.tx.execute(delete(agent_readings).where(agent_readings.c.agent_id == agent_id))
        self.tx.execute(delete(aliases).where(aliases.c.agent_id == agent_id))
        self.tx.execute(delete(agent_shares).where(agent_shares.c.agent_id == agent_id))
        self.tx.execute(
            delete(agent_handoffs).where(
                (agent_handoffs.c.agent_id == agent_id) | (agent_handoffs.c.target_id == agent_id)
            )
        )

    def erasure_of(self, agent_id: str) -> ErasureState:
        """Returns what became of what was said to an agent."""
        found = self.tx.execute(select(agents.c.erasure).where(agents.c.id == agent_id)).scalar_one()
        return ErasureState(found)

    def set_handoffs(self, workspace_id: str, agent_id: str, target_ids: Collection[str]) -> None:
        """Stores to whom the latest version of an agent may hand over."""
        self.tx.execute(delete(agent_handoffs).where(agent_handoffs.c.agent_id == agent_id))
        rows = [
            {"workspace_id": workspace_id, "agent_id": agent_id, "target_id": one}
            for one in sorted(set(target_ids))
        ]
        if rows:
            self.tx.execute(insert(agent_handoffs), rows)

    def handoffs_from(self, agent_ids: Collection[str]) -> Mapping[str, frozenset[str]]:
        """Returns to whom each of these agents may hand over; those that name nobody are left out."""
        return self._edges(agent_handoffs.c.agent_id, agent_handoffs.c.target_id, agent_ids)

    def handoffs_to(self, agent_ids: Collection[str]) -> Mapping[str, frozenset[str]]:
        """Returns who may hand over to each of these agents; those that nobody names are left out."""
        return self._edges(agent_handoffs.c.target_id, agent_handoffs.c.agent_id, agent_ids)

    def _edges(self, near: Any, far: Any, agent_ids: Collection[str]) -> Mapping[str, frozenset[str]]:
        found: dict[str, set[str]] = {}
        for row in self.tx.execute(select(near.label("one"), far.label("other")).where(near.in_(agent_ids))):
            found.setdefault(row.one, set()).add(row.other)
        return {one: frozenset(others) for one, others in found.items()}


def channels_of(written: str) -> frozenset[Channel]:
    """Reads channels as the tables keep them."""
    return frozenset(Channel(one) for one in written.split(",") if one)


def agent_of(row: Row[Any]) -> Agent:
    """Reads a whole row of `agents`."""
    return Agent(
        agent_id=row.id,
        organization_id=row.organization_id,
        workspace_id=row.workspace_id,
        display_name=row.display_name,
        listed_as=row.listed_as,
        owner_member_id=row.owner_member_id,
        source=Source(SourceKind(row.source_kind), row.source_model_id, row.source_job_id),
        state=AgentState(row.state),
        disable_reason=row.disable_reason,
        latest_version=row.latest_version,
        sharing_mode=SharingMode(row.sharing_mode),
        channels=channels_of(row.channels),
        attestation=attestation_of(row),
        create_us=row.create_time,
        update_us=row.update_time,
        revision=row.revision,
    )


def attestation_of(row: Row[Any]) -> Attestation:
    """Reads who vouched for the name in a row."""
    return Attestation(row.attest_member_id, row.attest_time, Occasion(row.attest_occasion))


def attestation_row(attestation: Attestation) -> dict[str, Any]:
    """Returns the columns that keep who vouched for a name."""
    return {
        "attest_member_id": attestation.member_id,
        "attest_time": attestation.time_us,
        "attest_occasion": attestation.occasion.value,
    }


def _row(agent: Agent) -> dict[str, Any]:
    return attestation_row(agent.attestation) | {
        "id": agent.agent_id,
        "organization_id": agent.organization_id,
        "workspace_id": agent.workspace_id,
        "display_name": agent.display_name,
        "listed_as": agent.listed_as,
        "owner_member_id": agent.owner_member_id,
        "source_kind": agent.source.kind.value,
        "source_model_id": agent.source.model_id,
        "source_job_id": agent.source.job_id,
        "state": agent.state.value,
        "disable_reason": agent.disable_reason,
        "latest_version": agent.latest_version,
        "sharing_mode": agent.sharing_mode.value,
        "channels": ",".join(sorted(agent.channels)),
        "create_time": agent.create_us,
        "update_time": agent.update_us,
        "revision": agent.revision,
    }
