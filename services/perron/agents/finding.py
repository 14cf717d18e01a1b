"""Finding an agent for a caller: what `visibility` says of it, with what the store knows.

What a caller does not see raises the same refusal as what does not exist.
"""

from perron.agents import errors
from perron.agents.model import Agent
from perron.agents.store import Store
from perron.agents.visibility import Person, SharingMode, manages, sees


def seen(store: Store, person: Person, agent_id: str) -> Agent:
    """Returns an agent that a person sees. Raises NotFound."""
    agent = store.agent(agent_id)
    is_named = agent.sharing_mode is SharingMode.RESTRICTED and bool(
        store.named(person.member_id, [agent_id])
    )
    if not sees(person, agent, is_named=is_named):
        raise errors.missing("agent")
    return agent


def managed(store: Store, person: Person, agent_id: str, etag: str = "") -> Agent:
    """Returns an agent that a person may change, as it stands; an empty etag fits everything.

    Raises NotFound, PermissionDenied (ROLE_MISSING), Aborted (ETAG_STALE).
    """
    agent = seen(store, person, agent_id)
    if not manages(person, agent):
        raise errors.role_missing()
    if etag and etag != agent.etag:
        raise errors.etag_stale()
    return agent


def named_by_operator(store: Store, organization_id: str, agent_id: str) -> Agent:
    """Returns an agent of the organization that an operator names. Raises NotFound."""
    agent = store.agent(agent_id)
    if agent.organization_id != organization_id or store.is_buried(organization_id, agent.workspace_id):
        raise errors.missing("agent")
    return agent
