"""Members who build agents, as the tests of a running suite meet them."""

from perron.api.agents.v1 import agent_pb2, agent_service_pb2, configuration_pb2
from perron.api.identity.v1 import workspace_pb2, workspace_pb2_grpc
from perron.cli.demo import team
from perron.cli.demo.customer import Customer
from perron.cli.demo.team import Member
from tests.suite.customers import Customers

MODEL = "small-1"


def joined(made: Customers, customer: Customer, name: str) -> Member:
    """A new member of the customer's workspace, with a key for inference and agents."""
    member_id, secret = team.join(customer, name)
    return Member(member_id, secret, made.connect(secret))


def admin_of(customer: Customer) -> Member:
    """The customer's admin, as somebody who builds agents."""
    found = customer.admin.ask(
        customer.admin.stub(workspace_pb2_grpc.WorkspaceServiceStub).ListMembers,
        workspace_pb2.ListMembersRequest(workspace_id=customer.workspace_id),
    ).members
    return Member(found[0].member_id, customer.secret, customer.admin)


def configuration(instructions: str = "Be kind.", model: str = MODEL) -> configuration_pb2.AgentConfiguration:
    """A small configuration."""
    return configuration_pb2.AgentConfiguration(model=model, instructions=instructions)


def delete(member: Member, agent_id: str) -> agent_service_pb2.DeleteAgentResponse:
    """Deletes an agent."""
    request = agent_service_pb2.DeleteAgentRequest(agent_id=agent_id)
    return member.connection.ask(member.agents.DeleteAgent, request)


def listed(member: Member) -> dict[str, agent_pb2.Agent]:
    """The agents that a member sees, by id."""
    found: dict[str, agent_pb2.Agent] = {}
    request = agent_service_pb2.ListAgentsRequest(page_size=1000)
    while True:
        page = member.connection.ask(member.agents.ListAgents, request)
        found |= {agent.agent_id: agent for agent in page.agents}
        if not page.next_page_token:
            return found
        request.page_token = page.next_page_token


def alias(member: Member, name: str, agent_id: str, version: int = 0) -> agent_pb2.Alias:
    """Makes an alias."""
    request = agent_service_pb2.CreateAliasRequest(
        alias=name, agent_id=agent_id, version=version, name_attested=True
    )
    return member.connection.ask(member.agents.CreateAlias, request).alias
