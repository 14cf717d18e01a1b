"""Deleting: at once for everybody, whatever is still held."""

import pytest

from perron.api.agents.v1 import agent_service_pb2
from tests.contract.agents.calls import ONE, call, read
from tests.contract.agents.world import World, refused

ERASED = agent_service_pb2.DeleteAgentResponse.ERASURE_ERASED
PENDING = agent_service_pb2.DeleteAgentResponse.ERASURE_PENDING


@pytest.mark.parametrize("because", ["nothing", "held", "silent"])
async def test_a_deleted_agent_does_not_exist_for_anybody_whatever_is_kept_of_it(
    world: World, because: str
) -> None:
    tenant = world.tenant()
    author, operator = world.member(tenant), world.operator("LEGAL")
    agent = await world.create(author, "Support", instructions="secret")
    other = await world.create(author, handoff_agent_ids=[agent.agent_id])
    await world.alias(author, "support", agent.agent_id)
    if because == "held":
        world.governance.held.add(agent.agent_id)
    world.governance.answers = because != "silent"

    for _ in range(2):
        deleted = await call(world, "DeleteAgent", author, agent_id=agent.agent_id, request_id=ONE)
        assert deleted.erasure == (ERASED if because == "nothing" else PENDING)
    world.governance.answers = True

    never = await refused(call(world, "GetAgent", author, agent_id="agt_00000000000000000000000001"))
    for method in ("GetAgent", "GetAgentVersion", "ListAgentVersions", "ExportAgent", "DeleteAgent"):
        error = await refused(call(world, method, author, agent_id=agent.agent_id))
        assert (error.code, error.message) == (never.code, never.message)
    named = {"organization_id": tenant.organization_id, "agent_id": agent.agent_id}
    assert (await refused(call(world, "GetAgent", operator, **named))).code == "NOT_FOUND"
    assert (await refused(world.resolve(author, "agent:support"))).code == "NOT_FOUND"
    assert (await refused(world.resolve(author, agent.agent_id))).code == "NOT_FOUND"
    assert not (await world.resolve(author, other.agent_id)).handoff_agent_ids
    assert [one.agent_id for one in (await call(world, "ListAgents", author)).agents] == [other.agent_id]
    again = await world.create(author, "Support")
    await world.alias(author, "support", again.agent_id)


async def test_deleting_follows_the_etag_and_belongs_to_those_who_manage(world: World) -> None:
    tenant = world.tenant()
    author, colleague, admin = world.member(tenant), world.member(tenant), world.admin(tenant)
    agent = await world.create(author)
    stale = await refused(call(world, "DeleteAgent", author, agent_id=agent.agent_id, etag="x"))
    assert (stale.code, stale.reason) == ("ABORTED", "ETAG_STALE")
    error = await refused(call(world, "DeleteAgent", colleague, agent_id=agent.agent_id))
    assert (error.code, error.reason) == ("PERMISSION_DENIED", "ROLE_MISSING")
    tenant.entitlements = {}
    hidden = await refused(call(world, "DeleteAgent", colleague, agent_id=agent.agent_id))
    assert (hidden.code, hidden.reason) == ("NOT_FOUND", "RESOURCE_NOT_FOUND")
    assert (await read(world, author, agent.agent_id)).version == 1
    await call(world, "DeleteAgent", admin, agent_id=agent.agent_id, etag=agent.etag)


async def test_nothing_of_a_configuration_stands_in_the_store_as_it_was_written(world: World) -> None:
    author = world.member(world.tenant())
    secret = "a sentence that nobody else may read"
    await world.create(author, instructions=secret, examples=[{"input": secret, "output": secret}])
    for path in world.folder.glob("agents.db*"):
        assert secret.encode() not in path.read_bytes()
