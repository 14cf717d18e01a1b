"""AgentService on the wire; its methods about names stand in `name_servicer`."""

from typing import Any

import grpc

from perron.agents import availability, convert, errors, finding, naming
from perron.agents.agents import Agents, CreateCommand, UpdateCommand
from perron.agents.authoring import Authoring, read_sealed
from perron.agents.callers import person, person_or_operator, require_author
from perron.agents.list_store import ListStore, key_of
from perron.agents.model import Agent, Occasion, Source, SourceKind, Version
from perron.agents.name_servicer import NameServicer
from perron.agents.peers import Governance
from perron.agents.resolve_calls import ResolveCalls
from perron.agents.version_store import VersionStore
from perron.agents.versions import Versions
from perron.api.agents.v1 import agent_service_pb2 as pb
from perron.api.agents.v1.configuration_pb2 import AgentConfiguration
from perron.chassis.database import Database, Transaction
from perron.chassis.interceptors.access import Call, current_call
from perron.chassis.paging import Pages

_Context = grpc.aio.ServicerContext[Any, Any]


class AgentServicer(NameServicer):
    """Serves AgentService."""

    def __init__(
        self,
        database: Database,
        agents: Agents,
        versions: Versions,
        authoring: Authoring,
        resolve_calls: ResolveCalls,
        governance: Governance,
        pages: Pages,
    ) -> None:
        super().__init__(database, pages)
        self._agents = agents
        self._versions = versions
        self._authoring = authoring
        self._resolve_calls = resolve_calls
        self._governance = governance

    async def CreateAgent(self, request: pb.CreateAgentRequest, context: _Context) -> pb.CreateAgentResponse:
        """Makes an agent."""
        call = current_call()
        command = _create_command(
            call,
            naming.agent_name(request.display_name, is_attested=request.name_attested),
            request.configuration,
            Occasion.CREATE,
        )
        made = await self._authoring.create(call, command)
        return pb.CreateAgentResponse(agent=convert.agent(made, command.author))

    async def ImportAgent(self, request: pb.ImportAgentRequest, context: _Context) -> pb.ImportAgentResponse:
        """Makes an agent from a document."""
        call = current_call()
        name = naming.agent_name(
            request.document.display_name,
            is_attested=request.name_attested,
            field="document.display_name",
        )
        command = _create_command(call, name, request.document.configuration, Occasion.IMPORT)
        made = await self._authoring.create(call, command)
        return pb.ImportAgentResponse(agent=convert.agent(made, command.author))

    async def ValidateAgentForJob(
        self, request: pb.ValidateAgentForJobRequest, context: _Context
    ) -> pb.ValidateAgentForJobResponse:
        """Says whether a job may promise an agent."""
        call = current_call()
        require_author(call.caller)
        name = naming.agent_name(request.display_name, is_attested=request.name_attested)
        await self._authoring.validate_for_job(
            call, _create_command(call, name, request.configuration, Occasion.CREATE)
        )
        return pb.ValidateAgentForJobResponse()

    async def CreateAgentForJob(
        self, request: pb.CreateAgentForJobRequest, context: _Context
    ) -> pb.CreateAgentForJobResponse:
        """Makes the agent that a job promised."""
        command = CreateCommand(
            organization_id=request.organization_id,
            workspace_id=request.workspace_id,
            owner_member_id=request.owner_member_id,
            author=None,
            name=naming.agent_name(request.display_name, is_attested=True),
            occasion=Occasion.CREATE,
            configuration=convert.configuration(request.configuration),
            source=Source(SourceKind.FINE_TUNING_JOB, request.model_id, request.job_id),
        )
        made = await self._authoring.create_for_job(current_call(), command)
        return pb.CreateAgentForJobResponse(agent=convert.agent(made, None))

    async def GetAgent(self, request: pb.GetAgentRequest, context: _Context) -> pb.GetAgentResponse:
        """Returns an agent."""
        one = person_or_operator(current_call().caller, request.organization_id, thing="agent")

        def find(tx: Transaction) -> Agent:
            if one is None:
                return finding.named_by_operator(VersionStore(tx), request.organization_id, request.agent_id)
            return finding.seen(VersionStore(tx), one, request.agent_id)

        return pb.GetAgentResponse(agent=convert.agent(await self._database.read(find), one))

    async def ListAgents(self, request: pb.ListAgentsRequest, context: _Context) -> pb.ListAgentsResponse:
        """Returns a page of agents."""
        caller = current_call().caller
        one = person_or_operator(
            caller, request.organization_id, thing="workspace", workspace_id=request.workspace_id
        )
        listing = convert.listing(request, one.workspace_id if one is not None else request.workspace_id)
        size = self._pages.size(request.page_size)
        filter_text = f"agents {request.organization_id} {listing}"
        cursor = self._pages.cursor(request.page_token, caller_scope=caller.key_id, filter_text=filter_text)
        after = (cursor[0], str(cursor[1])) if cursor else None

        def find(tx: Transaction) -> list[Agent]:
            store = ListStore(tx)
            if one is None and not store.may_have(request.organization_id, request.workspace_id):
                raise errors.missing("workspace")
            return store.list_agents(listing, one, after, size + 1)

        found = await self._database.read(find)
        response = pb.ListAgentsResponse(agents=[convert.agent(each, one) for each in found[:size]])
        if len(found) > size:
            response.next_page_token = self._pages.token(
                key_of(found[size - 1], listing.order), caller_scope=caller.key_id, filter_text=filter_text
            )
        return response

    async def UpdateAgent(self, request: pb.UpdateAgentRequest, context: _Context) -> pb.UpdateAgentResponse:
        """Changes the fields of an agent that the mask names."""
        call = current_call()
        fields = convert.update_fields(request)
        command = UpdateCommand(
            agent_id=request.agent_id,
            etag=request.etag,
            name=naming.agent_name(request.display_name, is_attested=request.name_attested)
            if "display_name" in fields
            else None,
            configuration=convert.configuration(request.configuration) if "configuration" in fields else None,
            owner_member_id=request.owner_member_id if "owner_member_id" in fields else None,
        )
        one = person(call.caller)
        changed = await self._authoring.update(call, one, command)
        return pb.UpdateAgentResponse(agent=convert.agent(changed, one))

    async def DeleteAgent(self, request: pb.DeleteAgentRequest, context: _Context) -> pb.DeleteAgentResponse:
        """Ends an agent for good."""
        call, one = current_call(), person(current_call().caller)

        def is_first(tx: Transaction) -> bool:
            store = VersionStore(tx)
            if store.seen_before(call) is not None:
                return False
            finding.managed(store, one, request.agent_id, request.etag)
            return True

        may_erase = False
        if await self._database.read(is_first):
            scope = (one.organization_id, one.workspace_id, request.agent_id)
            (may_erase,) = await self._governance.may_erase([scope])
        erasure = await self._database.write(
            lambda tx: self._agents.delete(
                VersionStore(tx), call, one, request.agent_id, request.etag, may_erase=may_erase
            )
        )
        return convert.erasure(erasure)

    async def ListAgentVersions(
        self, request: pb.ListAgentVersionsRequest, context: _Context
    ) -> pb.ListAgentVersionsResponse:
        """Returns a page of versions, newest first."""
        caller = current_call().caller
        size = self._pages.size(request.page_size)
        filter_text = f"versions {request.agent_id}"
        cursor = self._pages.cursor(request.page_token, caller_scope=caller.key_id, filter_text=filter_text)
        before = int(cursor[0]) if cursor else 0

        def find(tx: Transaction) -> list[Version]:
            store = VersionStore(tx)
            return store.versions(finding.seen(store, person(caller), request.agent_id), before, size + 1)

        found = await self._database.read(find)
        response = pb.ListAgentVersionsResponse(versions=map(convert.version, found[:size]))
        if len(found) > size:
            response.next_page_token = self._pages.token(
                [found[size - 1].version], caller_scope=caller.key_id, filter_text=filter_text
            )
        return response

    async def GetAgentVersion(
        self, request: pb.GetAgentVersionRequest, context: _Context
    ) -> pb.GetAgentVersionResponse:
        """Returns a version with its configuration."""
        call = current_call()
        one = person_or_operator(call.caller, request.organization_id, thing="agent")
        if one is None:
            await self._note_reading(call, request)

        def find(tx: Transaction) -> tuple[Version, bytes]:
            store = VersionStore(tx)
            if one is None:
                agent = finding.named_by_operator(store, request.organization_id, request.agent_id)
            else:
                agent = finding.seen(store, one, request.agent_id)
            return self._versions.read(store, agent, request.version)

        found, content = await read_sealed(self._database, find)
        return pb.GetAgentVersionResponse(version=convert.version(found, content))

    async def RestoreAgentVersion(
        self, request: pb.RestoreAgentVersionRequest, context: _Context
    ) -> pb.RestoreAgentVersionResponse:
        """Makes an earlier version the latest again, as a new one."""
        naming.require_attested(is_attested=request.name_attested)
        call, one = current_call(), person(current_call().caller)
        command = UpdateCommand(request.agent_id, request.etag, restored_version=request.version)
        restored = await self._authoring.restore(call, one, command)
        return pb.RestoreAgentVersionResponse(agent=convert.agent(restored, one))

    async def ExportAgent(self, request: pb.ExportAgentRequest, context: _Context) -> pb.ExportAgentResponse:
        """Returns a version as a document."""
        one = person(current_call().caller)

        def find(tx: Transaction) -> tuple[Agent, bytes]:
            store = VersionStore(tx)
            agent = finding.seen(store, one, request.agent_id)
            return agent, self._versions.read(store, agent, request.version)[1]

        return pb.ExportAgentResponse(document=convert.document(*await read_sealed(self._database, find)))

    async def PublishAgent(
        self, request: pb.PublishAgentRequest, context: _Context
    ) -> pb.PublishAgentResponse:
        """Publishes an agent to a channel."""
        call, one = current_call(), person(current_call().caller)
        channel = convert.CHANNELS_BACK[request.channel]
        changed = await self._database.write(
            lambda tx: availability.publish(
                VersionStore(tx), call, one, request.agent_id, channel, request.etag
            )
        )
        return pb.PublishAgentResponse(agent=convert.agent(changed, one))

    async def UnpublishAgent(
        self, request: pb.UnpublishAgentRequest, context: _Context
    ) -> pb.UnpublishAgentResponse:
        """Takes an agent back from a channel."""
        call, one = current_call(), person(current_call().caller)
        channel = convert.CHANNELS_BACK[request.channel]
        changed = await self._database.write(
            lambda tx: availability.unpublish(
                VersionStore(tx), call, one, request.agent_id, channel, request.etag
            )
        )
        return pb.UnpublishAgentResponse(agent=convert.agent(changed, one))

    async def DisableAgent(
        self, request: pb.DisableAgentRequest, context: _Context
    ) -> pb.DisableAgentResponse:
        """Disables an agent."""
        call = current_call()
        changed = await self._database.write(
            lambda tx: availability.disable(
                VersionStore(tx), call, request.organization_id, request.agent_id, request.reason
            )
        )
        return pb.DisableAgentResponse(agent=convert.agent(changed, None))

    async def EnableAgent(self, request: pb.EnableAgentRequest, context: _Context) -> pb.EnableAgentResponse:
        """Lets a disabled agent be used again."""
        call = current_call()
        changed = await self._database.write(
            lambda tx: availability.enable(VersionStore(tx), call, request.organization_id, request.agent_id)
        )
        return pb.EnableAgentResponse(agent=convert.agent(changed, None))

    async def Resolve(self, request: pb.ResolveRequest, context: _Context) -> pb.ResolveResponse:
        """Resolves one agent."""
        return await self._resolve_calls.one(request, current_call().caller)

    async def BatchResolve(
        self, request: pb.BatchResolveRequest, context: _Context
    ) -> pb.BatchResolveResponse:
        """Resolves many agents, each by itself."""
        return await self._resolve_calls.many(request, current_call().caller)

    async def _note_reading(self, call: Call, request: pb.GetAgentVersionRequest) -> None:
        """Audits that an operator reads what a customer wrote, before it is read; clause 2-conf."""
        if not request.case_reference.strip():
            raise errors.case_reference_missing()

        def note(tx: Transaction) -> None:
            store = VersionStore(tx)
            agent = finding.named_by_operator(store, request.organization_id, request.agent_id)
            number = store.version(agent, request.version).version
            action = f"version.read {number} {request.case_reference}"
            store.audit(call, agent.agent_id, agent.organization_id, action=action)

        await self._database.write(note)


def _create_command(
    call: Call, name: naming.Name, configuration: AgentConfiguration, occasion: Occasion
) -> CreateCommand:
    author = person(call.caller)
    is_import = occasion is Occasion.IMPORT
    return CreateCommand(
        organization_id=author.organization_id,
        workspace_id=author.workspace_id,
        owner_member_id=author.member_id,
        author=author,
        name=name,
        occasion=occasion,
        configuration=convert.configuration(
            configuration, "document.configuration" if is_import else "configuration"
        ),
        source=Source(SourceKind.IMPORT if is_import else SourceKind.BUILDER),
    )
