"""The second customer of the demo: a help desk whose members build agents and use each other's."""

import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from perron.api.agents.v1 import (
    agent_pb2,
    agent_service_pb2,
    agent_service_pb2_grpc,
    configuration_pb2,
    sharing_service_pb2,
    sharing_service_pb2_grpc,
)
from perron.api.common.v1 import roles_pb2
from perron.api.identity.v1 import api_key_pb2, api_key_pb2_grpc, workspace_pb2
from perron.api.identity.v1.workspace_pb2_grpc import WorkspaceServiceStub
from perron.cli.connection import Connection
from perron.cli.demo.customer import Customer, enrol
from perron.cli.demo.stage import Stage

_SCOPES = (roles_pb2.SCOPE_INFERENCE, roles_pb2.SCOPE_AGENTS_READ, roles_pb2.SCOPE_AGENTS_WRITE)


@dataclass(slots=True)
class Member:
    """A member without a role of weight, and what it asks of agents."""

    member_id: str
    secret: str = field(repr=False)
    connection: Connection = field(repr=False)

    @property
    def agents(self) -> agent_service_pb2_grpc.AgentServiceStub:
        """The service of agents, as this member asks it."""
        return self.connection.stub(agent_service_pb2_grpc.AgentServiceStub)

    def create(
        self, name: str, configuration: configuration_pb2.AgentConfiguration, *, attested: bool = True
    ) -> agent_pb2.Agent:
        """Makes an agent."""
        request = agent_service_pb2.CreateAgentRequest(
            request_id=str(uuid.uuid4()),
            display_name=name,
            name_attested=attested,
            configuration=configuration,
        )
        return self.connection.ask(self.agents.CreateAgent, request).agent

    def get(self, agent_id: str) -> agent_pb2.Agent:
        """Reads an agent."""
        request = agent_service_pb2.GetAgentRequest(agent_id=agent_id)
        return self.connection.ask(self.agents.GetAgent, request).agent

    def version(self, agent_id: str, version: int) -> agent_pb2.AgentVersion:
        """Reads a version with its configuration."""
        request = agent_service_pb2.GetAgentVersionRequest(agent_id=agent_id, version=version)
        return self.connection.ask(self.agents.GetAgentVersion, request).version

    def write(
        self, agent_id: str, configuration: configuration_pb2.AgentConfiguration, etag: str = ""
    ) -> agent_pb2.Agent:
        """Makes the next version."""
        request = agent_service_pb2.UpdateAgentRequest(
            request_id=str(uuid.uuid4()), agent_id=agent_id, etag=etag, configuration=configuration
        )
        request.update_mask.paths.append("configuration")
        return self.connection.ask(self.agents.UpdateAgent, request).agent

    def share(self, agent_id: str, mode: "agent_pb2.SharingMode.ValueType", *members: str) -> None:
        """Says with whom an agent is shared."""
        request = sharing_service_pb2.SetSharingRequest(
            request_id=str(uuid.uuid4()), agent_id=agent_id, mode=mode, member_ids=members
        )
        self.connection.ask(
            self.connection.stub(sharing_service_pb2_grpc.SharingServiceStub).SetSharing, request
        )


@dataclass(frozen=True, slots=True)
class Team:
    """The help desk: its organization, the author of its agents and a colleague."""

    customer: Customer
    author: Member
    colleague: Member


@contextmanager
def gathered(stage: Stage) -> Iterator[Team]:
    """Creates the organization with two members on the free plan, and closes every connection at the end."""
    with ExitStack() as opened:
        customer = enrol(stage, opened, "Acme Help Desk", "ada@desk.example")
        members = []
        for name in ("bo", "cy"):
            member_id, secret = join(customer, name)
            connection = opened.enter_context(stage.connect(secret, name))
            members.append(Member(member_id, secret, connection))
        yield Team(customer, *members)


def join(customer: Customer, name: str) -> tuple[str, str]:
    """Adds a member to the workspace; returns its id and the secret of a key of its own."""
    admin = customer.admin
    added = admin.ask(
        admin.stub(WorkspaceServiceStub).AddMember,
        workspace_pb2.AddMemberRequest(
            workspace_id=customer.workspace_id,
            member=workspace_pb2.NewMember(
                display_name=name,
                email=f"{name}@desk.example",
                organization_role=roles_pb2.ORGANIZATION_ROLE_MEMBER,
            ),
            workspace_role=roles_pb2.WORKSPACE_ROLE_MEMBER,
        ),
    ).member
    request = api_key_pb2.CreateApiKeyRequest(
        display_name=f"{name}'s laptop",
        workspace_id=customer.workspace_id,
        owner_member_id=added.member_id,
        scopes=_SCOPES,
    )
    made = admin.ask(admin.stub(api_key_pb2_grpc.ApiKeyServiceStub).CreateApiKey, request)
    return added.member_id, made.secret
