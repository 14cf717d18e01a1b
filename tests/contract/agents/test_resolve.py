"""Resolve and BatchResolve over a real channel: each documented status, and what a gateway gets."""

from typing import Any

import pytest

from perron.agents.resolve_calls import CONFIGURATIONS_BYTES_MAX
from perron.agents.sharing_store import SharingStore
from perron.api.agents.v1 import agent_pb2, sharing_service_pb2
from perron.api.agents.v1 import agent_service_pb2 as pb
from perron.chassis import status
from perron.chassis.errors import FailedPrecondition, NotFound
from perron.chassis.ids import new_id
from tests.contract.agents.world import API, CHAT, RESTRICTED, Member, World, refused

WEB_SEARCH = {"tools": [{"web_search": {}}]}
MAPS = {"tools": [{"connector": {"connector": "maps"}}, {"web_search": {}}]}


def reasons(response: pb.BatchResolveResponse) -> list[str]:
    return [status.from_status(one.error).reason if one.HasField("error") else "" for one in response.results]


async def batch(world: World, *asked: tuple[Member, str]) -> pb.BatchResolveResponse:
    people = list(dict.fromkeys(member for member, _ in asked))
    request = pb.BatchResolveRequest(
        passports=[world.sign(one) for one in people],
        items=[
            pb.ResolveItem(passport_index=people.index(member), agent=agent, channel=API)
            for member, agent in asked
        ],
    )
    return await world.agents.BatchResolve(request, metadata=world.admission)


async def acknowledge(world: World, admin: Member, third_party: str) -> None:
    await world.sharing.AcknowledgeThirdParty(
        sharing_service_pb2.AcknowledgeThirdPartyRequest(third_party=third_party), metadata=admin.key
    )


async def test_a_gateway_gets_the_very_configuration_with_the_version_pinned(world: World) -> None:
    tenant = world.tenant()
    owner, other = world.member(tenant), world.member(tenant)
    target = await world.create(owner)
    agent = await world.create(
        owner,
        instructions="Answer in verse.",
        examples=[{"input": "a", "output": "b"}],
        handoff_agent_ids=[target.agent_id],
        **MAPS,
    )
    await world.alias(owner, "poet", agent.agent_id, 1)
    by_id = await world.resolve(other, agent.agent_id)
    assert by_id == await world.resolve(other, "agent:poet", CHAT)
    assert (by_id.agent_id, by_id.version, by_id.model) == (agent.agent_id, 1, "small")
    assert list(by_id.third_parties) == ["connector:maps", "web_search"]
    assert list(by_id.handoff_agent_ids) == [target.agent_id] == list(by_id.configuration.handoff_agent_ids)
    found = await world.agents.GetAgentVersion(
        pb.GetAgentVersionRequest(agent_id=agent.agent_id), metadata=other.key
    )
    assert by_id.configuration == found.version.configuration


async def test_handoffs_that_the_person_may_not_use_are_in_no_answer(world: World) -> None:
    tenant = world.tenant()
    owner, other = world.member(tenant), world.member(tenant)
    open_one, secret = await world.create(owner), await world.create(owner)
    await world.share(owner, secret.agent_id, RESTRICTED)
    agent = await world.create(owner, handoff_agent_ids=[secret.agent_id, open_one.agent_id])
    found = await world.resolve(other, agent.agent_id)
    assert list(found.handoff_agent_ids) == [open_one.agent_id]
    assert secret.agent_id not in str(found)
    assert len((await world.resolve(owner, agent.agent_id)).handoff_agent_ids) == 2


async def test_what_the_person_may_not_use_does_not_exist(world: World) -> None:
    tenant, elsewhere = world.tenant(), world.tenant()
    owner, other, stranger = world.member(tenant), world.member(tenant), world.admin(elsewhere)
    agent = await world.create(owner)
    await world.alias(owner, "mine", agent.agent_id)
    await world.share(owner, agent.agent_id, RESTRICTED)
    never = str(await refused(world.resolve(other, new_id("agt"))))
    for person in (other, stranger):
        for name in (agent.agent_id, "agent:mine", "agent:never", "gpt"):
            error = await refused(world.resolve(person, name))
            assert (error.code, error.reason, str(error)) == ("NOT_FOUND", "RESOURCE_NOT_FOUND", never)
    await world.agents.DeleteAgent(pb.DeleteAgentRequest(agent_id=agent.agent_id), metadata=owner.key)
    assert str(await refused(world.resolve(owner, agent.agent_id))) == never
    assert str(await refused(world.resolve(owner, "agent:mine"))) == never


async def test_a_member_who_was_removed_is_refused_at_the_next_call_though_back_in_the_workspace(
    world: World,
) -> None:
    tenant = world.tenant()
    owner, named = world.member(tenant), world.member(tenant)
    agent = await world.create(owner)
    await world.share(owner, agent.agent_id, RESTRICTED, named)
    await world.resolve(named, agent.agent_id)
    await world.identity.tell("member.removed", tenant, tenant.workspace_id, named.member_id)
    assert (await refused(world.resolve(named, agent.agent_id))).reason == "RESOURCE_NOT_FOUND"
    found = await world.sharing.GetSharing(
        sharing_service_pb2.GetSharingRequest(agent_id=agent.agent_id), metadata=owner.key
    )
    assert (found.sharing.mode, list(found.sharing.member_ids)) == (RESTRICTED, [])


async def test_without_following_members_who_leave_one_who_returns_would_be_named_still(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SharingStore, "forget_member", lambda *_: None)
    tenant = world.tenant()
    owner, named = world.member(tenant), world.member(tenant)
    agent = await world.create(owner)
    await world.share(owner, agent.agent_id, RESTRICTED, named)
    await world.identity.tell("member.removed", tenant, tenant.workspace_id, named.member_id)
    await world.resolve(named, agent.agent_id)


async def test_the_plan_of_the_very_call_narrows_sharing_and_channels_and_gives_them_back(
    world: World,
) -> None:
    tenant = world.tenant()
    owner, other = world.member(tenant), world.member(tenant)
    agent = await world.create(owner)
    full = dict(tenant.entitlements)
    tenant.entitlements.clear()
    tenant.entitlements["agent_channels"] = "api"
    assert (await refused(world.resolve(other, agent.agent_id))).reason == "RESOURCE_NOT_FOUND"
    await world.resolve(owner, agent.agent_id)
    error = await refused(world.resolve(owner, agent.agent_id, CHAT))
    assert (error.code, error.reason) == ("FAILED_PRECONDITION", "AGENT_NOT_PUBLISHED")
    assert error.metadata == {"channel": "CHAT", "because": "plan"}
    tenant.entitlements.update(full)
    await world.resolve(other, agent.agent_id, CHAT)
    await world.agents.UnpublishAgent(
        pb.UnpublishAgentRequest(agent_id=agent.agent_id, channel=CHAT), metadata=owner.key
    )
    error = await refused(world.resolve(owner, agent.agent_id, CHAT))
    assert error.metadata == {"channel": "CHAT", "because": "agent"}


async def test_a_disabled_agent_is_refused_until_it_is_enabled(world: World) -> None:
    tenant = world.tenant()
    owner, operator = world.member(tenant), world.operator("ADMIN")
    agent = await world.create(owner)
    named = {"organization_id": tenant.organization_id, "agent_id": agent.agent_id}
    await world.agents.DisableAgent(
        pb.DisableAgentRequest(**named, reason="poses as a bank"), metadata=operator
    )
    error = await refused(world.resolve(owner, agent.agent_id))
    assert (error.code, error.reason) == ("FAILED_PRECONDITION", "AGENT_DISABLED")
    await world.agents.EnableAgent(pb.EnableAgentRequest(**named), metadata=operator)
    await world.resolve(owner, agent.agent_id)


async def test_a_model_that_is_gone_is_never_another_one(world: World) -> None:
    tenant = world.tenant()
    owner = world.member(tenant)
    models = world.finetuning.models
    models[tenant.workspace_id, "ft:small:mine"] = new_id("mdl")
    tuned, plain = await world.create(owner, model="ft:small:mine"), await world.create(owner)
    assert (await world.resolve(owner, tuned.agent_id)).model == "ft:small:mine"
    world.finetuning.asked.clear()
    await world.resolve(owner, plain.agent_id)
    assert world.finetuning.asked == []
    for gone in (
        FailedPrecondition("MODEL_DELETED", "the model was deleted"),
        FailedPrecondition("MODEL_ARCHIVED", "the model is archived"),
        NotFound("RESOURCE_NOT_FOUND", "the model does not exist"),
    ):
        models[tenant.workspace_id, "ft:small:mine"] = gone
        error = await refused(world.resolve(owner, tuned.agent_id))
        assert (error.code, error.reason) == (gone.code, gone.reason)
    world.finetuning.answers = False
    error = await refused(world.resolve(owner, tuned.agent_id))
    assert (error.code, error.reason) == ("UNAVAILABLE", "PEER_UNAVAILABLE")
    assert error.metadata == {"peer": "finetuning"}
    answer = await batch(world, (owner, tuned.agent_id), (owner, plain.agent_id))
    assert reasons(answer) == ["PEER_UNAVAILABLE", ""]


async def test_under_zero_retention_third_parties_are_refused_until_acknowledged(world: World) -> None:
    tenant, elsewhere = world.tenant(), world.tenant()
    admin, owner, stranger = world.admin(tenant), world.member(tenant), world.admin(elsewhere)
    agent, plain = await world.create(owner, **MAPS), await world.create(owner)
    await world.resolve(owner, agent.agent_id)
    world.governance.zero_retention.add(tenant.workspace_id)
    await acknowledge(world, stranger, "connector:maps")
    for party in ("connector:maps", "web_search"):
        error = await refused(world.resolve(owner, agent.agent_id))
        assert (error.code, error.reason) == ("FAILED_PRECONDITION", "THIRD_PARTY_NOT_ACKNOWLEDGED")
        assert error.metadata == {"third_party": party}
        await acknowledge(world, admin, party)
    await world.resolve(owner, agent.agent_id)
    await world.sharing.WithdrawAcknowledgement(
        sharing_service_pb2.WithdrawAcknowledgementRequest(third_party="web_search"), metadata=admin.key
    )
    error = await refused(world.resolve(owner, agent.agent_id))
    assert error.metadata == {"third_party": "web_search"}
    world.governance.answers = False
    error = await refused(world.resolve(owner, agent.agent_id))
    assert (error.code, error.reason) == ("UNAVAILABLE", "PEER_UNAVAILABLE")
    world.governance.asked.clear()
    await world.resolve(owner, plain.agent_id)  # governance need not be asked
    answer = await batch(world, (owner, agent.agent_id), (owner, plain.agent_id))
    assert reasons(answer) == ["PEER_UNAVAILABLE", ""]


async def test_each_item_of_a_batch_is_answered_by_itself(world: World) -> None:
    tenant, elsewhere = world.tenant(), world.tenant()
    owner, stranger = world.member(tenant), world.member(elsewhere)
    agent, theirs = await world.create(owner), await world.create(stranger)
    request = pb.BatchResolveRequest(
        passports=[world.sign(owner), "forged", world.sign(stranger)],
        items=[
            pb.ResolveItem(agent=agent.agent_id, channel=API),
            pb.ResolveItem(agent=agent.agent_id, channel=API, passport_index=1),
            pb.ResolveItem(agent=agent.agent_id, channel=API, passport_index=2),
            pb.ResolveItem(agent=agent.agent_id, channel=API, passport_index=7),
            pb.ResolveItem(agent=agent.agent_id),
            pb.ResolveItem(agent="", channel=API),
            pb.ResolveItem(agent=theirs.agent_id, channel=API, passport_index=2),
        ],
    )
    response = await world.agents.BatchResolve(request, metadata=world.admission)
    assert reasons(response) == [
        "",
        "PASSPORT_INVALID",
        "RESOURCE_NOT_FOUND",
        *["FIELD_INVALID"] * 3,
        "",
    ]
    alone = await world.resolve(owner, agent.agent_id)
    assert response.results[0].response == alone
    assert response.results[6].response.agent_id == theirs.agent_id


async def test_each_versions_configuration_is_carried_once_with_everybodys_own_handoffs(
    world: World,
) -> None:
    tenant = world.tenant()
    owner, other = world.member(tenant), world.member(tenant)
    secret = await world.create(owner)
    await world.share(owner, secret.agent_id, RESTRICTED)
    agent = await world.create(owner, handoff_agent_ids=[secret.agent_id], instructions="be brief")
    await world.alias(owner, "brief", agent.agent_id)
    response = await batch(
        world,
        (owner, new_id("agt")),
        (other, "agent:brief"),
        (owner, agent.agent_id),
        (owner, secret.agent_id),
    )
    _, first, second, third = (one.response for one in response.results)
    assert [one.HasField("configuration") for one in (first, second, third)] == [True, False, True]
    assert list(first.configuration.handoff_agent_ids) == list(first.handoff_agent_ids) == []
    assert list(second.handoff_agent_ids) == [secret.agent_id]


async def test_what_has_no_room_in_the_answer_is_refused_and_the_rest_is_not(world: World) -> None:
    owner = world.member(world.tenant())
    examples = [{"input": "x", "output": "y" * 8000} for _ in range(30)]
    large = [await world.create(owner, examples=examples) for _ in range(14)]
    small = await world.create(owner)
    asked = [*large, large[0], large[-1], small]
    response = await batch(world, *((owner, one.agent_id) for one in asked))
    found = reasons(response)
    carried = CONFIGURATIONS_BYTES_MAX // response.results[0].response.configuration.ByteSize()
    assert found == ["" if place < carried else "ANSWER_TOO_LARGE" for place in range(14)] + [
        "",
        "ANSWER_TOO_LARGE",
        "",
    ]
    error = status.from_status(response.results[13].error)
    assert error.code == "RESOURCE_EXHAUSTED"
    again = await batch(world, *((owner, one.agent_id) for one in large[carried:]))
    assert reasons(again) == [""] * (14 - carried)


async def test_a_deleted_workspace_resolves_nothing_once_identity_has_told(world: World) -> None:
    tenant = world.tenant()
    owner = world.member(tenant)
    neighbour = world.member(world.tenant(tenant.second_workspace()))
    agent, kept = await world.create(owner), await world.create(neighbour)
    await world.identity.tell("workspace.deleted", tenant, tenant.workspace_id)
    assert (await refused(world.resolve(owner, agent.agent_id))).reason == "RESOURCE_NOT_FOUND"
    await world.resolve(neighbour, kept.agent_id)


@pytest.mark.parametrize(
    "fields",
    [
        {"passport": ""},
        {"agent": ""},
        {"agent": "../x"},
        {"agent": "agt_\x00"},
        {"channel": 0},
        {"channel": 99},
        {"trace_parent": "x" * 65},
    ],
)
async def test_a_field_that_breaks_its_rule_is_named(world: World, fields: dict[str, Any]) -> None:
    owner = world.member(world.tenant())
    request = {"passport": world.sign(owner), "agent": new_id("agt"), "channel": API} | fields
    error = await refused(world.agents.Resolve(pb.ResolveRequest(**request), metadata=world.admission))
    if "passport" in fields:
        assert (error.code, error.reason) == ("UNAUTHENTICATED", "PASSPORT_INVALID")
    else:
        assert (error.code, error.reason) == ("INVALID_ARGUMENT", "FIELD_INVALID")
        assert {one.field for one in error.violations} == set(fields)


async def test_only_admission_resolves(world: World) -> None:
    owner = world.member(world.tenant())
    agent: agent_pb2.Agent = await world.create(owner)
    request = pb.ResolveRequest(passport=world.sign(owner), agent=agent.agent_id, channel=API)
    for key in (owner.key, world.operator("ADMIN"), world.service("gateway"), world.service("finetuning")):
        error = await refused(world.agents.Resolve(request, metadata=key))
        assert (error.code, error.reason) == ("PERMISSION_DENIED", "CALLER_NOT_ALLOWED")
