"""Versions: a configuration, sealed, with its number, its author and the decision under which it is kept.

A version is written once and never changes. To restore one writes its configuration again, under a number
of its own, so that what ran when can always be said.
"""

from perron.agents import errors, handoffs
from perron.agents.configurations import Configuration
from perron.agents.model import Agent, Version
from perron.agents.seals import Seals
from perron.agents.version_store import VersionStore
from perron.agents.visibility import Person, sees


class Versions:
    """Writes and reads versions."""

    def __init__(self, seals: Seals) -> None:
        self._seals = seals

    def admit(
        self,
        store: VersionStore,
        workspace_id: str,
        author: Person | None,
        agent_id: str,
        configuration: Configuration,
    ) -> None:
        """Raises FailedPrecondition where an agent cannot hand over as it says.

        HANDOFF_UNKNOWN for one that its author does not see, HANDOFF_CYCLE, HANDOFF_TOO_DEEP. `agent_id` is
        empty for an agent that is about to be made, `author` None for a job's.
        """
        wanted = configuration.handoffs
        if not wanted:
            return
        found = store.agents(wanted)
        named = store.named(author.member_id, wanted) if author is not None else frozenset()
        for target_id in wanted:
            target = found.get(target_id)
            if target is None or target.workspace_id != workspace_id:
                raise errors.handoff_unknown(target_id)
            if author is not None and not sees(author, target, is_named=target_id in named):
                raise errors.handoff_unknown(target_id)
        handoffs.check(agent_id, wanted, below=store.handoffs_from, above=store.handoffs_to)

    def write(
        self,
        store: VersionStore,
        agent: Agent,
        configuration: Configuration,
        *,
        author_member_id: str,
        decision_id: str,
        restored_version: int = 0,
    ) -> None:
        """Writes the latest version of an agent, and to whom it may hand over; the workspace is held."""
        version = Version(
            organization_id=agent.organization_id,
            agent_id=agent.agent_id,
            version=agent.latest_version,
            author_member_id=author_member_id,
            create_us=agent.update_us,
            restored_version=restored_version,
            decision_id=decision_id,
            third_parties=configuration.third_parties,
        )
        store.insert_version(
            version, self._seals.seal(store, agent.workspace_id, version, configuration.content)
        )
        store.set_handoffs(agent.workspace_id, agent.agent_id, configuration.handoffs)

    def read(self, store: VersionStore, agent: Agent, number: int) -> tuple[Version, bytes]:
        """Returns a version, 0 for the latest, and its configuration as it was written.

        Raises NotFound, Unavailable (STORE_UNAVAILABLE) where its key is not at hand.
        """
        version = store.version(agent, number)
        sealed = store.sealed(version)
        if sealed is None:
            raise errors.missing("version")
        return version, self._seals.open(version, sealed)
