"""Agents made and changed, as their authors meet them."""

import asyncio
from typing import Any

import grpc
import pytest

from perron.api.agents.v1 import agent_pb2
from tests.contract.agents.calls import ONE, call, creation, read, update
from tests.contract.agents.world import API, CHAT, RESTRICTED, SHARED, World, refused


async def test_a_new_agent_is_shared_with_its_workspace_and_published_as_far_as_the_plan_goes(
    world: World,
) -> None:
    tenant = world.tenant()
    author = world.member(tenant)
    agent = await world.create(author, "  Support ", instructions="Be brief.")

    assert agent.display_name == "Support"
    assert agent.owner_member_id == author.member_id
    assert (agent.latest_version, agent.state) == (1, agent_pb2.Agent.STATE_ACTIVE)
    assert agent.source.kind == agent_pb2.AgentSource.KIND_BUILDER
    assert (agent.sharing_mode, agent.effective_sharing_mode) == (SHARED, SHARED)
    assert list(agent.channels) == list(agent.effective_channels) == [API, CHAT]
    assert agent.name_attestation.member_id == author.member_id
    colleague = world.member(tenant)
    assert (await call(world, "GetAgent", colleague, agent_id=agent.agent_id)).agent == agent

    tenant.entitlements = {"agent_channels": "api"}
    narrowed = (await call(world, "GetAgent", author, agent_id=agent.agent_id)).agent
    assert (narrowed.sharing_mode, narrowed.effective_sharing_mode) == (SHARED, RESTRICTED)
    assert (list(narrowed.channels), list(narrowed.effective_channels)) == ([API, CHAT], [API])


async def test_each_version_is_kept_under_a_decision_and_read_as_it_was_written(world: World) -> None:
    author = world.member(world.tenant())
    agent = await world.create(author, instructions="one", metadata={"team": "blue"})
    changed = await call(
        world,
        "UpdateAgent",
        author,
        agent_id=agent.agent_id,
        etag=agent.etag,
        update_mask={"paths": ["configuration"]},
        configuration={"model": "small", "instructions": "two", "tools": [{"web_search": {}}]},
    )
    assert changed.agent.latest_version == 2

    first, second = [await read(world, author, agent.agent_id, number) for number in (1, 0)]
    assert (first.configuration.instructions, second.configuration.instructions) == ("one", "two")
    assert dict(first.configuration.metadata) == {"team": "blue"}
    assert list(second.third_parties) == ["web_search"]
    assert first.decision_id != second.decision_id
    assert len(world.governance.decided) == 2
    listed = (await call(world, "ListAgentVersions", author, agent_id=agent.agent_id)).versions
    assert [one.version for one in listed] == [2, 1]
    assert not any(one.HasField("configuration") for one in listed)


async def test_an_older_version_is_restored_as_a_new_one_to_the_byte(world: World) -> None:
    author = world.member(world.tenant())
    agent = await world.create(author, instructions="one")
    await update(world, author, agent.agent_id, instructions="two")
    restored = await call(
        world, "RestoreAgentVersion", author, agent_id=agent.agent_id, version=1, name_attested=True
    )

    assert restored.agent.latest_version == 3
    assert restored.agent.name_attestation.occasion == agent_pb2.NameAttestation.OCCASION_RESTORE
    third, first = [await read(world, author, agent.agent_id, number) for number in (3, 1)]
    assert third.restored_version == 1
    assert third.configuration.SerializeToString() == first.configuration.SerializeToString()
    error = await refused(
        call(world, "RestoreAgentVersion", author, agent_id=agent.agent_id, version=9, name_attested=True)
    )
    assert (error.code, error.reason) == ("NOT_FOUND", "RESOURCE_NOT_FOUND")


async def test_of_concurrent_updates_with_one_etag_one_wins_and_no_version_is_lost(world: World) -> None:
    author = world.member(world.tenant())
    agent = await world.create(author)
    outcomes = await asyncio.gather(
        *(
            update(world, author, agent.agent_id, agent.etag, instructions=f"attempt {number}")
            for number in range(8)
        ),
        return_exceptions=True,
    )
    assert sum(isinstance(one, grpc.aio.AioRpcError) for one in outcomes) == 7
    assert all(one.code().name == "ABORTED" for one in outcomes if isinstance(one, grpc.aio.AioRpcError))
    versions = (await call(world, "ListAgentVersions", author, agent_id=agent.agent_id)).versions
    assert [one.version for one in versions] == [2, 1]


@pytest.mark.parametrize("method", ["CreateAgent", "UpdateAgent"])
async def test_a_repetition_has_one_effect_and_asks_for_no_second_decision(world: World, method: str) -> None:
    author = world.member(world.tenant())
    agent = await world.create(author)
    fields = creation()
    if method == "UpdateAgent":
        fields = {"request_id": ONE, "agent_id": agent.agent_id, "etag": agent.etag}
        fields |= {"update_mask": {"paths": ["configuration"]}, "configuration": {"model": "small"}}
    before = len(world.governance.decided)
    first = await call(world, method, author, **fields)
    again = await asyncio.gather(*(call(world, method, author, **fields) for _ in range(4)))

    assert all(one == first for one in again)
    assert len(world.governance.decided) == before + 1
    fields["configuration"] = {"model": "small", "instructions": "Something else."}
    error = await refused(call(world, method, author, **fields))
    assert (error.code, error.reason) == ("INVALID_ARGUMENT", "REQUEST_ID_REUSED")


async def test_simultaneous_repetitions_ask_for_one_decision(world: World) -> None:
    author = world.member(world.tenant())
    made = await asyncio.gather(*(call(world, "CreateAgent", author, **creation()) for _ in range(6)))
    assert len({one.agent.agent_id for one in made}) == 1
    assert len({asked.request_id for asked in world.governance.decided}) == 1


@pytest.mark.parametrize(
    ("configuration", "field", "reason"),
    [
        ({"model": ""}, "configuration.model", "FIELD_INVALID"),
        ({"model": "agent:support"}, "configuration.model", "FIELD_INVALID"),
        ({"model": "agt_00000000000000000000000001"}, "configuration.model", "FIELD_INVALID"),
        ({"instructions": "a\u202eb"}, "configuration.instructions", "FIELD_INVALID"),
        (
            {"examples": [{"input": "x", "output": "\x07"}]},
            "configuration.examples[0].output",
            "FIELD_INVALID",
        ),
        ({"tools": [{"function": {"name": "f"}}] * 2}, "configuration.tools", "FIELD_INVALID"),
        ({"response_format": {"schema": "{}"}}, "configuration.response_format.schema", "FIELD_INVALID"),
        ({"response_format": {"kind": 3}}, "configuration.response_format.schema", "FIELD_INVALID"),
        (
            {"guardrails": [{"name": "g", "stage": 1, "action": 1}] * 2},
            "configuration.guardrails",
            "FIELD_INVALID",
        ),
        (
            {"tools": [{"function": {"name": "f", "parameters_schema": "[]"}}]},
            "configuration.tools[0].function.parameters_schema",
            "TOOL_SCHEMA_INVALID",
        ),
        (
            {"examples": [{"input": "x" * 8192, "output": "y" * 8192}] * 17},
            "configuration",
            "FIELD_INVALID",
        ),
    ],
)
async def test_what_cannot_be_meant_is_refused_with_its_field_and_nothing_is_asked(
    world: World, configuration: dict[str, Any], field: str, reason: str
) -> None:
    author = world.member(world.tenant())
    fields = creation(configuration={"model": "small"} | configuration)
    error = await refused(call(world, "CreateAgent", author, **fields))
    assert (error.code, error.reason) == ("INVALID_ARGUMENT", reason)
    assert error.violations[0].field == field
    assert not world.governance.decided
    assert not (await call(world, "ListAgents", author)).agents


async def test_without_governance_nothing_is_kept(world: World) -> None:
    author = world.member(world.tenant())
    world.governance.answers = False
    error = await refused(call(world, "CreateAgent", author, **creation()))
    assert (error.reason, error.metadata["peer"]) == ("PEER_UNAVAILABLE", "governance")
    world.governance.answers = True
    assert (await call(world, "CreateAgent", author, **creation())).agent.latest_version == 1


async def test_a_new_owner_is_named_by_an_admin_and_belongs_to_the_workspace(world: World) -> None:
    tenant = world.tenant()
    owner, heir, admin = world.member(tenant), world.member(tenant), world.admin(tenant)
    agent = await world.create(owner)
    fields = {"agent_id": agent.agent_id, "update_mask": {"paths": ["owner_member_id"]}}
    heir_id = {"owner_member_id": heir.member_id}
    assert (await refused(call(world, "UpdateAgent", owner, **fields, **heir_id))).reason == "ROLE_MISSING"
    stranger = {"owner_member_id": "mem_00000000000000000000000009"}
    assert (await refused(call(world, "UpdateAgent", admin, **fields, **stranger))).reason == "MEMBER_UNKNOWN"
    moved = (await call(world, "UpdateAgent", admin, **fields, **heir_id)).agent
    assert (moved.owner_member_id, moved.latest_version) == (heir.member_id, 1)


@pytest.mark.parametrize(
    "paths", [[], ["state"], ["display_name", "model"], ["owner_member_id"], ["configuration"]]
)
async def test_a_mask_names_what_can_be_changed_and_what_is_sent(world: World, paths: list[str]) -> None:
    author = world.admin(world.tenant())
    agent = await world.create(author)
    error = await refused(
        call(world, "UpdateAgent", author, agent_id=agent.agent_id, update_mask={"paths": paths})
    )
    assert (error.code, error.reason) == ("INVALID_ARGUMENT", "FIELD_INVALID")


async def test_publishing_follows_the_plan_and_changes_nothing_twice(world: World) -> None:
    tenant = world.tenant()
    author = world.member(tenant)
    agent = await world.create(author)
    chat = {"agent_id": agent.agent_id, "channel": CHAT}
    taken = (await call(world, "UnpublishAgent", author, **chat)).agent
    assert list(taken.channels) == [API]
    assert (await call(world, "UnpublishAgent", author, **chat)).agent == taken
    tenant.entitlements = {"agent_sharing": "workspace", "agent_channels": "api"}
    error = await refused(call(world, "PublishAgent", author, **chat))
    assert (error.reason, error.metadata["entitlement"]) == ("ENTITLEMENT_MISSING", "agent_channels")
    tenant.entitlements = {"agent_sharing": "workspace", "agent_channels": "api,chat"}
    assert list((await call(world, "PublishAgent", author, **chat)).agent.channels) == [API, CHAT]
