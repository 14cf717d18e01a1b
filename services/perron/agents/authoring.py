"""Authoring: what goes before a configuration is kept, across services.

First everything that needs neither lock nor peer, then finetuning about the model, then governance for the
decision, then one transaction. A repetition is recognised before anybody is asked. Two that run at once ask
for the same decision, since its request id follows from theirs.
"""

import uuid
from collections.abc import Callable
from dataclasses import replace
from typing import Final, TypeVar

from perron.agents import configurations, convert, finding
from perron.agents.agents import Agents, CreateCommand, UpdateCommand
from perron.agents.configurations import Configuration
from perron.agents.model import Agent, Source, SourceKind
from perron.agents.peers import Governance, Members, Models
from perron.agents.version_store import VersionStore
from perron.agents.versions import Versions
from perron.agents.visibility import Person
from perron.api.agents.v1.configuration_pb2 import AgentConfiguration
from perron.chassis.database import Database, Transaction
from perron.chassis.errors import Unavailable
from perron.chassis.interceptors.access import Call

T = TypeVar("T")
_NAMESPACE: Final = uuid.UUID("6f4f2d0e-6a0c-5b62-9a41-2f0a5c1d7e93")


class Authoring:
    """Makes agents and changes them."""

    def __init__(
        self,
        database: Database,
        agents: Agents,
        versions: Versions,
        governance: Governance,
        members: Members,
        models: Models,
    ) -> None:
        self._database = database
        self._agents = agents
        self._versions = versions
        self._governance = governance
        self._members = members
        self._models = models

    async def create(self, call: Call, command: CreateCommand) -> Agent:
        """Makes an agent for the person who calls."""
        configurations.check(command.configuration)
        earlier = await self._database.read(
            lambda tx: self._agents.foresee_create(VersionStore(tx), call, command)
        )
        if earlier is not None:
            return earlier
        model_id = await self._model(call, command.configuration)
        if model_id and command.source.kind is SourceKind.BUILDER:
            command = replace(command, source=Source(SourceKind.FINE_TUNED_MODEL, model_id))
        decision_id = await self._decide(call)
        return await self._database.write(
            lambda tx: self._agents.create(VersionStore(tx), call, command, decision_id)
        )

    async def validate_for_job(self, call: Call, command: CreateCommand) -> None:
        """Raises what `create` would raise, but for the model; it makes nothing."""
        configurations.check_fine_tuned(command.configuration)
        configurations.check(command.configuration)
        await self._database.read(lambda tx: self._agents.foresee_create(VersionStore(tx), call, command))

    async def create_for_job(self, call: Call, command: CreateCommand) -> Agent:
        """Makes the agent that a job promised; the workspace's admins own it where its owner has left."""
        configurations.check_fine_tuned(command.configuration)
        configurations.check(command.configuration)
        await self._members.require_workspace(command.organization_id, command.workspace_id)
        owners = await self._members.among(
            command.organization_id, command.workspace_id, [command.owner_member_id]
        )
        owned = replace(command, owner_member_id=next(iter(owners), ""))
        return await self._database.write(lambda tx: self._agents.create(VersionStore(tx), call, owned, ""))

    async def update(self, call: Call, person: Person, command: UpdateCommand) -> Agent:
        """Changes an agent for the person who calls."""
        if command.configuration is not None:
            configurations.check(command.configuration)
        earlier = await self._database.read(
            lambda tx: self._agents.foresee_update(VersionStore(tx), call, person, command)
        )
        if earlier is not None:
            return earlier
        if command.owner_member_id is not None:
            await self._members.require(
                person.organization_id, person.workspace_id, [command.owner_member_id]
            )
        decision_id = ""
        if command.configuration is not None:
            await self._model(call, command.configuration)
            decision_id = await self._decide(call)
        return await self._database.write(
            lambda tx: self._agents.update(VersionStore(tx), call, person, command, decision_id)
        )

    async def restore(self, call: Call, person: Person, command: UpdateCommand) -> Agent:
        """Writes the configuration of an earlier version, byte for byte, as the next one."""

        def find(tx: Transaction) -> Agent | bytes:
            store = VersionStore(tx)
            if store.seen_before(call) is not None:
                return finding.seen(store, person, command.agent_id)
            agent = finding.managed(store, person, command.agent_id, command.etag)
            return self._versions.read(store, agent, command.restored_version)[1]

        found = await read_sealed(self._database, find)
        if isinstance(found, Agent):
            return found
        message = AgentConfiguration.FromString(found)
        restored = convert.configuration(message, content=found)
        return await self.update(call, person, replace(command, configuration=restored))

    async def _model(self, call: Call, configuration: Configuration) -> str:
        """Returns the id of a fine-tuned model, which the person must have; empty for a base model."""
        if not configuration.is_fine_tuned:
            return ""
        return await self._models.require(call.caller.passport_token, configuration.model)

    async def _decide(self, call: Call) -> str:
        return await self._governance.decide(call.caller.passport_token, _request_id(call))


async def read_sealed(database: Database, work: Callable[[Transaction], T]) -> T:
    """Reads what is sealed; once more where its key was exchanged between the row and the vault.

    The row names the new key by then. Raises Unavailable where the vault really lacks it.
    """
    try:
        return await database.read(work)
    except Unavailable:
        return await database.read(work)


def _request_id(call: Call) -> str:
    """Returns the request id of the decision; none for a call that has none: it is never sent again."""
    if call.identity is None:
        return ""
    name = f"{call.identity.caller}/{call.identity.method}/{call.identity.request_id.hex()}"
    return str(uuid.uuid5(_NAMESPACE, name))
