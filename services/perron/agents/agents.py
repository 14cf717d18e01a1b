"""Agents: made, changed and deleted by those who own or administer them.

Every change has two halves. `foresee…` says without a lock what would be refused, so that no peer is asked
for nothing; the change itself asks everything again, once the workspace's other writers wait.
"""

from dataclasses import dataclass, replace

from perron.agents import errors, finding, names, naming
from perron.agents.configurations import Configuration
from perron.agents.model import Agent, AgentState, Attestation, ErasureState, Occasion, Source
from perron.agents.naming import Name
from perron.agents.plan_store import PlanStore
from perron.agents.version_store import VersionStore
from perron.agents.versions import Versions
from perron.agents.visibility import Channel, Person, SharingMode
from perron.chassis.ids import IdSource
from perron.chassis.interceptors.access import Call


@dataclass(frozen=True, slots=True)
class CreateCommand:
    """An agent wanted; `author` is None for one that a job makes, and `owner_member_id` may then be empty."""

    organization_id: str
    workspace_id: str
    owner_member_id: str
    author: Person | None
    name: Name
    occasion: Occasion
    configuration: Configuration
    source: Source


@dataclass(frozen=True, slots=True)
class UpdateCommand:
    """What is to become of an agent; None stays as it is. A restored version comes as a configuration."""

    agent_id: str
    etag: str
    name: Name | None = None
    configuration: Configuration | None = None
    owner_member_id: str | None = None
    restored_version: int = 0


class Agents:
    """Makes, changes and deletes agents."""

    def __init__(self, versions: Versions, new_id: IdSource) -> None:
        self._versions = versions
        self._new_id = new_id

    def foresee_create(self, store: VersionStore, call: Call, command: CreateCommand) -> Agent | None:
        """Raises what `create` would raise; returns the agent that an earlier call made."""
        earlier = store.seen_before(call)
        if earlier is not None:
            return _again(store, command.author, earlier)
        self._admit(store, command)
        return None

    def create(self, store: VersionStore, call: Call, command: CreateCommand, decision_id: str) -> Agent:
        """Makes an agent with its first version, shared with the workspace and published to every channel."""
        agent_id = self._new_id("agt")
        earlier = store.once(call, agent_id)
        if earlier is None:
            store.refuse_buried(command.organization_id, command.workspace_id)
            store.hold_workspace(command.organization_id, command.workspace_id)
            earlier = store.agent_of_job(command.source.job_id)
        if earlier is not None:
            return _again(store, command.author, earlier)
        self._admit(store, command)
        agent = _new_agent(command, agent_id, store.now_us())
        store.insert_agent(agent)
        store.set_readings(agent.workspace_id, agent_id, command.name.readings)
        self._versions.write(
            store,
            agent,
            command.configuration,
            author_member_id=agent.attestation.member_id,
            decision_id=decision_id,
        )
        if command.author is not None:
            PlanStore(store.tx).remember(command.organization_id, command.author.entitlements)
        store.audit(call, agent_id, agent.organization_id)
        tell(store, agent, "agent.created")
        return agent

    def foresee_update(
        self, store: VersionStore, call: Call, person: Person, command: UpdateCommand
    ) -> Agent | None:
        """Raises what `update` would raise; returns the agent where an earlier call has changed it so."""
        if store.seen_before(call) is not None:
            return finding.seen(store, person, command.agent_id)
        self._admit_update(store, person, command)
        return None

    def update(
        self, store: VersionStore, call: Call, person: Person, command: UpdateCommand, decision_id: str
    ) -> Agent:
        """Changes an agent; a configuration becomes its next version.

        Raises NotFound, PermissionDenied (ROLE_MISSING), Aborted (ETAG_STALE), and as `create`.
        """
        if store.once(call, command.agent_id) is not None:
            return finding.seen(store, person, command.agent_id)
        store.refuse_buried(person.organization_id, person.workspace_id)
        store.hold_workspace(person.organization_id, person.workspace_id)
        found = self._admit_update(store, person, command)
        agent = self._changed(store, person, found, command)
        store.update_agent(agent)
        if command.name is not None:
            store.set_readings(agent.workspace_id, agent.agent_id, command.name.readings)
        store.audit(call, agent.agent_id, agent.organization_id)
        if command.configuration is not None:
            self._versions.write(
                store,
                agent,
                command.configuration,
                author_member_id=person.member_id,
                decision_id=decision_id,
                restored_version=command.restored_version,
            )
            tell(store, agent, "agent.versioned")
        if command.name is not None or command.owner_member_id is not None:
            tell(store, agent, "agent.updated")
        return agent

    def delete(
        self,
        store: VersionStore,
        call: Call,
        person: Person,
        agent_id: str,
        etag: str,
        *,
        may_erase: bool,
    ) -> ErasureState:
        """Ends an agent for good and says what became of what was said to it.

        Where it may not be erased yet, it is hidden, and its key is exchanged with those of the others.
        """
        if store.once(call, agent_id) is not None:
            return store.erasure_of(agent_id)
        store.refuse_buried(person.organization_id, person.workspace_id)
        store.hold_workspace(person.organization_id, person.workspace_id)
        agent = finding.managed(store, person, agent_id, etag)
        store.end_agent(agent_id, ErasureState.ERASED if may_erase else ErasureState.PENDING)
        store.audit(call, agent_id, agent.organization_id)
        tell(store, agent, "agent.deleted")
        if not may_erase:
            return ErasureState.PENDING
        store.erase_versions(agent_id)
        store.retire_key(agent.workspace_id)
        tell(store, agent, "agent.erased")
        return ErasureState.ERASED

    def _admit(self, store: VersionStore, command: CreateCommand) -> None:
        naming.admit(
            store,
            command.name,
            lambda readings: store.name_is_taken(command.workspace_id, readings),
        )
        self._versions.admit(store, command.workspace_id, command.author, "", command.configuration)

    def _admit_update(self, store: VersionStore, person: Person, command: UpdateCommand) -> Agent:
        agent = finding.managed(store, person, command.agent_id, command.etag)
        if command.owner_member_id is not None and not person.is_admin:
            raise errors.admins_only()
        if command.name is not None:
            naming.admit(
                store,
                command.name,
                lambda readings: store.name_is_taken(agent.workspace_id, readings, agent.agent_id),
            )
        if command.configuration is not None:
            self._versions.admit(store, agent.workspace_id, person, agent.agent_id, command.configuration)
        return agent

    @staticmethod
    def _changed(store: VersionStore, person: Person, found: Agent, command: UpdateCommand) -> Agent:
        now_us = store.now_us()
        agent = replace(found, update_us=now_us, revision=found.revision + 1)
        if command.name is not None:
            agent = replace(
                agent,
                display_name=command.name.text,
                listed_as=names.listed_as(command.name.text),
                attestation=Attestation(person.member_id, now_us, Occasion.RENAME),
            )
        if command.configuration is not None:
            agent = replace(agent, latest_version=found.latest_version + 1)
        if command.restored_version:
            agent = replace(agent, attestation=Attestation(person.member_id, now_us, Occasion.RESTORE))
        if command.owner_member_id is not None:
            agent = replace(agent, owner_member_id=command.owner_member_id)
        return agent


def tell(store: VersionStore, agent: Agent, kind: str) -> None:
    """Tells the other services what happened to an agent, with the number of its latest version."""
    store.publish(
        kind,
        organization_id=agent.organization_id,
        workspace_id=agent.workspace_id,
        resource_id=agent.agent_id,
        version=agent.latest_version,
    )


def _new_agent(command: CreateCommand, agent_id: str, now_us: int) -> Agent:
    author_member_id = command.author.member_id if command.author is not None else ""
    return Agent(
        agent_id=agent_id,
        organization_id=command.organization_id,
        workspace_id=command.workspace_id,
        display_name=command.name.text,
        listed_as=names.listed_as(command.name.text),
        owner_member_id=command.owner_member_id,
        source=command.source,
        state=AgentState.ACTIVE,
        disable_reason="",
        latest_version=1,
        sharing_mode=SharingMode.WORKSPACE,
        channels=frozenset(Channel),
        attestation=Attestation(author_member_id, now_us, command.occasion),
        create_us=now_us,
        update_us=now_us,
        revision=1,
    )


def _again(store: VersionStore, author: Person | None, agent_id: str) -> Agent:
    """Returns what an earlier call made, as it is now. Raises NotFound where it was deleted since."""
    return store.agent(agent_id) if author is None else finding.seen(store, author, agent_id)
