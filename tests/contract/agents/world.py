"""Agents on a real channel, beside an identity, a governance and a finetuning that a test rules over."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from perron.agents import app
from perron.agents.settings import Settings
from perron.api.agents.v1 import (
    agent_pb2,
    agent_service_pb2,
    agent_service_pb2_grpc,
    configuration_pb2,
    sharing_service_pb2,
    sharing_service_pb2_grpc,
)
from perron.api.common.v1 import event_service_pb2_grpc, roles_pb2
from perron.api.finetuning.v1 import model_service_pb2_grpc
from perron.api.governance.v1 import decision_service_pb2_grpc, directive_service_pb2_grpc
from perron.api.identity.v1 import (
    api_key_pb2,
    api_key_pb2_grpc,
    organization_pb2_grpc,
    principal_pb2,
    workspace_pb2_grpc,
)
from perron.chassis import credentials, status
from perron.chassis.errors import PerronError
from perron.chassis.ids import new_id
from perron.chassis.passports import Passport, Verifier
from perron.chassis.testing import FakeClock
from tests.contract.agents.peers import Finetuning, Governance, Identity, Tenant

Metadata = tuple[tuple[str, str], ...]
API, CHAT = roles_pb2.CHANNEL_API, roles_pb2.CHANNEL_CHAT
SHARED, RESTRICTED = agent_pb2.SHARING_MODE_WORKSPACE, agent_pb2.SHARING_MODE_RESTRICTED
SCOPES = ("AGENTS_READ", "AGENTS_WRITE", "INFERENCE")


@dataclass(frozen=True, eq=False)
class Member:
    """A member with a key in its tenant's workspace; `key` is what a call of its carries."""

    tenant: Tenant
    member_id: str
    organization_role: str
    workspace_role: str
    scopes: tuple[str, ...]
    key: Metadata = ()

    def passport(self, clock: FakeClock) -> Passport:
        return Passport(
            organization_id=self.tenant.organization_id,
            workspace_id=self.tenant.workspace_id,
            member_id=self.member_id,
            key_id="key_1",
            organization_role=self.organization_role,
            workspace_role=self.workspace_role,
            scopes=frozenset(self.scopes),
            plan=self.tenant.plan,
            terms_class="PAID",
            tier=self.tenant.plan,
            entitlements=dict(self.tenant.entitlements),
            subscription_id="",
            documents={},
            allowed_models=(),
            as_of_us=clock.now_us(),
        )


class World:
    """A running agents, its callers, and what it asks."""

    def __init__(
        self,
        clock: FakeClock,
        identity: Identity,
        governance: Governance,
        finetuning: Finetuning,
        channel: grpc.aio.Channel,
        folder: Path,
    ) -> None:
        self.clock = clock
        self.identity = identity
        self.governance = governance
        self.finetuning = finetuning
        self.channel = channel
        self.folder = folder
        self.agents = agent_service_pb2_grpc.AgentServiceStub(channel)
        self.sharing = sharing_service_pb2_grpc.SharingServiceStub(channel)
        self.admission = self.service("admission")

    def tenant(self, tenant: Tenant | None = None) -> Tenant:
        made = tenant or Tenant(plan=f"plan-{len(self.identity.tenants)}")
        self.identity.tenants[made.workspace_id] = made
        return made

    def member(
        self,
        tenant: Tenant,
        *,
        organization_role: str = "MEMBER",
        workspace_role: str = "MEMBER",
        scopes: tuple[str, ...] = SCOPES,
        member_id: str = "",
    ) -> Member:
        """Adds a member, or another key of one."""
        member = Member(tenant, member_id or new_id("mem"), organization_role, workspace_role, scopes)
        tenant.members.add(member.member_id)
        principal = principal_pb2.Principal(
            kind=principal_pb2.PRINCIPAL_KIND_CUSTOMER,
            organization_id=tenant.organization_id,
            workspace_id=tenant.workspace_id,
            member_id=member.member_id,
            organization_role=roles_pb2.OrganizationRole.Value(f"ORGANIZATION_ROLE_{organization_role}"),
            workspace_role=roles_pb2.WorkspaceRole.Value(f"WORKSPACE_ROLE_{workspace_role}"),
            scopes=[roles_pb2.Scope.Value(f"SCOPE_{scope}") for scope in scopes],
        )
        key = self._caller(principal, member)
        return Member(tenant, member.member_id, organization_role, workspace_role, scopes, key)

    def admin(self, tenant: Tenant) -> Member:
        return self.member(tenant, workspace_role="ADMIN")

    def operator(self, *roles: str) -> Metadata:
        return self._caller(
            principal_pb2.Principal(
                kind=principal_pb2.PRINCIPAL_KIND_OPERATOR,
                operator_roles=[roles_pb2.OperatorRole.Value(f"OPERATOR_ROLE_{role}") for role in roles],
            )
        )

    def service(self, name: str) -> Metadata:
        return self._caller(principal_pb2.Principal(kind=principal_pb2.PRINCIPAL_KIND_SERVICE, name=name))

    def sign(self, member: Member) -> str:
        return self.identity.signer.sign(member.passport(self.clock))

    async def create(self, member: Member, name: str = "", **configuration: Any) -> agent_pb2.Agent:
        """Makes an agent of the member's, over the model "small" unless said otherwise."""
        request = agent_service_pb2.CreateAgentRequest(
            display_name=name or f"agent {new_id('x')[-12:]}",
            name_attested=True,
            configuration=configuration_pb2.AgentConfiguration(**{"model": "small"} | configuration),
        )
        return (await self.agents.CreateAgent(request, metadata=member.key)).agent

    async def alias(self, member: Member, alias: str, agent_id: str, version: int = 0) -> None:
        request = agent_service_pb2.CreateAliasRequest(
            alias=alias, agent_id=agent_id, version=version, name_attested=True
        )
        await self.agents.CreateAlias(request, metadata=member.key)

    async def share(
        self,
        member: Member,
        agent_id: str,
        mode: agent_pb2.SharingMode.ValueType,
        *named: Member,
        **fields: Any,
    ) -> sharing_service_pb2.Sharing:
        request = sharing_service_pb2.SetSharingRequest(
            agent_id=agent_id, mode=mode, member_ids=[one.member_id for one in named], **fields
        )
        return (await self.sharing.SetSharing(request, metadata=member.key)).sharing

    async def resolve(
        self, member: Member, agent: str, channel: roles_pb2.Channel.ValueType = API
    ) -> agent_service_pb2.ResolveResponse:
        request = agent_service_pb2.ResolveRequest(passport=self.sign(member), agent=agent, channel=channel)
        return await self.agents.Resolve(request, metadata=self.admission)

    def _caller(self, principal: principal_pb2.Principal, member: Member | None = None) -> Metadata:
        principal.key_id = new_id("key")
        credential = credentials.with_checksum("test", str(len(self.identity.keys)).rjust(43, "0"))
        self.identity.keys[credential] = lambda: api_key_pb2.VerifyResponse(
            state=api_key_pb2.KEY_STATE_VALID,
            principal=principal,
            passport=self.sign(member) if member is not None else "",
        )
        return (("authorization", f"Bearer {credential}"),)


async def refused(call: Any) -> PerronError:
    """The refusal of a call that must not succeed."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return status.from_rpc_error(error)
    raise AssertionError("the call was not refused")


@asynccontextmanager
async def running(
    folder: Path, database_url: str, clock: FakeClock, *, with_finetuning: bool = True, **settings: Any
) -> AsyncIterator[World]:
    """Starts all, and stops all."""
    identity, governance = Identity(clock), Governance()
    verifier = Verifier(clock)
    verifier.learn({"k1": identity.public})
    finetuning = Finetuning(lambda token: verifier.verify(token).workspace_id)
    server = grpc.aio.server()
    api_key_pb2_grpc.add_ApiKeyServiceServicer_to_server(identity, server)
    organization_pb2_grpc.add_OrganizationServiceServicer_to_server(identity, server)
    workspace_pb2_grpc.add_WorkspaceServiceServicer_to_server(identity, server)
    event_service_pb2_grpc.add_EventServiceServicer_to_server(identity, server)
    decision_service_pb2_grpc.add_DecisionServiceServicer_to_server(governance, server)
    directive_service_pb2_grpc.add_DirectiveServiceServicer_to_server(governance, server)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(finetuning, server)
    target = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    (folder / "root").write_bytes(b"r" * 32)
    (folder / "key").write_text(credentials.with_checksum("test", "k" * 43))
    application = app.build(
        Settings(
            database_url=database_url,
            identity_target=target,
            governance_target=target,
            finetuning_target=target if with_finetuning else "",
            key_file=str(folder / "key"),
            root_key_file=str(folder / "root"),
            vault_folder=folder / "vault",
            **settings,
        ),
        clock=clock,
    )
    await application.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{application.port}") as channel:
        yield World(clock, identity, governance, finetuning, channel, folder)
    await application.stop(grace_seconds=0.1)
    await server.stop(0)
