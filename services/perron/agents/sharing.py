"""Sharing: with whom an agent is shared within its workspace, by default with everybody (clause 2-share).

What a newcomer gets wrong: RESTRICTED stays RESTRICTED whatever happens to the members named. Where all of
them have left, the agent is its owner's and the admins', and never the workspace's again by itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from perron.agents import errors
from perron.agents.finding import managed, seen
from perron.agents.model import Agent
from perron.agents.sharing_store import SharingStore
from perron.agents.visibility import Person, SharingMode, effective_mode, manages
from perron.chassis.interceptors.access import Call


@dataclass(frozen=True, slots=True)
class Sharing:
    """With whom an agent is shared; the members named are shown to those who manage it."""

    agent: Agent
    effective_mode: SharingMode
    member_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SetCommand:
    """With whom an agent is to be shared; WORKSPACE keeps whoever is named. An empty etag fits everything."""

    agent_id: str
    mode: SharingMode
    member_ids: Sequence[str]
    etag: str


def find(store: SharingStore, person: Person, agent_id: str) -> Sharing:
    """Returns with whom an agent is shared. Raises NotFound."""
    agent = seen(store, person, agent_id)
    return Sharing(
        agent=agent,
        effective_mode=effective_mode(agent.sharing_mode, person.entitlements),
        member_ids=store.members_named(agent_id) if manages(person, agent) else (),
    )


def may_set(store: SharingStore, call: Call, person: Person, command: SetCommand) -> bool:
    """Checks all that needs neither a lock nor identity; False where the call has had its effect already.

    Raises as SetSharing documents.
    """
    if store.seen_before(call) is not None:
        return False
    if command.member_ids and command.mode is SharingMode.WORKSPACE:
        raise errors.field_invalid("member_ids", "members are named with RESTRICTED")
    managed(store, person, command.agent_id, command.etag)
    return True


def set_sharing(store: SharingStore, call: Call, person: Person, command: SetCommand) -> Sharing:
    """Shares an agent; the members named are of its workspace. Raises as SetSharing documents."""
    if store.once(call, command.agent_id) is None:
        store.refuse_buried(person.organization_id, person.workspace_id)
        store.hold_workspace(person.organization_id, person.workspace_id)
        agent = managed(store, person, command.agent_id, command.etag)
        if command.mode is SharingMode.RESTRICTED:
            store.name_members(agent, command.member_ids)
        store.update_agent(
            replace(agent, sharing_mode=command.mode, update_us=store.now_us(), revision=agent.revision + 1)
        )
        store.audit(call, agent.agent_id, agent.organization_id, action=f"sharing.{command.mode.lower()}")
        store.publish(
            "agent.shared",
            organization_id=agent.organization_id,
            workspace_id=agent.workspace_id,
            resource_id=agent.agent_id,
            version=agent.latest_version,
        )
    return find(store, person, command.agent_id)
