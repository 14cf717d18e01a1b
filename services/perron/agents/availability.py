"""Availability: the channels that an agent is published to, and whether an operator has disabled it.

What is published is stored as the owner wants it, and narrowed by the plan each time it is used. What an
operator disables stays readable, and may be changed and deleted: it is not used.
"""

from dataclasses import replace

from perron.agents import errors, finding
from perron.agents.agents import tell
from perron.agents.model import Agent, AgentState
from perron.agents.version_store import VersionStore
from perron.agents.visibility import Channel, Person
from perron.chassis.interceptors.access import Call


def publish(
    store: VersionStore, call: Call, person: Person, agent_id: str, channel: Channel, etag: str
) -> Agent:
    """Publishes an agent to a channel. Raises FailedPrecondition (ENTITLEMENT_MISSING)."""
    if channel not in person.entitlements.channels and store.seen_before(call) is None:
        finding.managed(store, person, agent_id, etag)
        raise errors.entitlement_missing("agent_channels")
    return _set_channels(store, call, person, agent_id, etag, added=frozenset({channel}))


def unpublish(
    store: VersionStore, call: Call, person: Person, agent_id: str, channel: Channel, etag: str
) -> Agent:
    """Takes an agent back from a channel."""
    return _set_channels(store, call, person, agent_id, etag, removed=frozenset({channel}))


def disable(store: VersionStore, call: Call, organization_id: str, agent_id: str, reason: str) -> Agent:
    """Disables an agent, or changes the reason why it is disabled."""
    return _set_state(store, call, organization_id, agent_id, AgentState.DISABLED, reason)


def enable(store: VersionStore, call: Call, organization_id: str, agent_id: str) -> Agent:
    """Lets an agent be used again."""
    return _set_state(store, call, organization_id, agent_id, AgentState.ACTIVE, "")


def _set_channels(
    store: VersionStore,
    call: Call,
    person: Person,
    agent_id: str,
    etag: str,
    *,
    added: frozenset[Channel] = frozenset(),
    removed: frozenset[Channel] = frozenset(),
) -> Agent:
    if store.once(call, agent_id) is not None:
        return finding.seen(store, person, agent_id)
    store.refuse_buried(person.organization_id, person.workspace_id)
    store.hold_workspace(person.organization_id, person.workspace_id)
    agent = finding.managed(store, person, agent_id, etag)
    channels = (agent.channels | added) - removed
    if channels == agent.channels:
        return agent
    changed = replace(agent, channels=channels, update_us=store.now_us(), revision=agent.revision + 1)
    return _write(store, call, changed, "agent.published" if added else "agent.unpublished")


def _set_state(
    store: VersionStore, call: Call, organization_id: str, agent_id: str, state: AgentState, reason: str
) -> Agent:
    if store.once(call, agent_id) is not None:
        return finding.named_by_operator(store, organization_id, agent_id)
    found = finding.named_by_operator(store, organization_id, agent_id)
    store.refuse_buried(organization_id, found.workspace_id)
    store.hold_workspace(organization_id, found.workspace_id)
    agent = finding.named_by_operator(store, organization_id, agent_id)
    if (agent.state, agent.disable_reason) == (state, reason):
        return agent
    changed = replace(
        agent,
        state=state,
        disable_reason=reason,
        update_us=store.now_us(),
        revision=agent.revision + 1,
    )
    kind = "agent.disabled" if state is AgentState.DISABLED else "agent.enabled"
    return _write(store, call, changed, kind)


def _write(store: VersionStore, call: Call, agent: Agent, kind: str) -> Agent:
    store.update_agent(agent)
    store.audit(call, agent.agent_id, agent.organization_id)
    tell(store, agent, kind)
    return agent
