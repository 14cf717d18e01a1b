"""SharingService over a real channel: each documented status."""

import asyncio
import uuid
from typing import Any

import grpc
import pytest

from perron.api.agents.v1 import agent_service_pb2
from perron.api.agents.v1 import sharing_service_pb2 as pb
from perron.chassis.errors import PerronError
from perron.chassis.ids import new_id
from tests.contract.agents.world import RESTRICTED, SCOPES, SHARED, Member, World, refused

UNKNOWN = new_id("agt")


async def find(world: World, member: Member, agent_id: str) -> pb.Sharing:
    return (
        await world.sharing.GetSharing(pb.GetSharingRequest(agent_id=agent_id), metadata=member.key)
    ).sharing


async def sees(world: World, member: Member, agent_id: str) -> bool:
    try:
        await find(world, member, agent_id)
    except grpc.aio.AioRpcError:
        return False
    return True


def told(error: PerronError) -> tuple[str, str]:
    return error.code, error.reason


async def test_an_agent_is_the_workspaces_until_it_is_restricted_to_members(world: World) -> None:
    tenant = world.tenant()
    owner, named, other = world.member(tenant), world.member(tenant), world.member(tenant)
    admin = world.member(tenant, organization_role="ADMIN", workspace_role="UNSPECIFIED")
    agent = await world.create(owner)
    everybody = (owner, named, other, admin)
    assert [await sees(world, one, agent.agent_id) for one in everybody] == [True] * 4
    stored = await world.share(owner, agent.agent_id, RESTRICTED, named)
    assert (stored.mode, stored.effective_mode, list(stored.member_ids)) == (
        RESTRICTED,
        RESTRICTED,
        [named.member_id],
    )
    assert [await sees(world, one, agent.agent_id) for one in everybody] == [True, True, False, True]
    assert list((await find(world, named, agent.agent_id)).member_ids) == []  # who else is not theirs to know
    await world.share(admin, agent.agent_id, SHARED)
    assert [await sees(world, one, agent.agent_id) for one in everybody] == [True] * 4
    assert list((await find(world, owner, agent.agent_id)).member_ids) == [named.member_id]
    await world.share(owner, agent.agent_id, RESTRICTED)
    assert [await sees(world, one, agent.agent_id) for one in everybody] == [True, False, False, True]


async def test_who_sees_an_agent_and_does_not_manage_it_may_not_share_it(world: World) -> None:
    tenant = world.tenant()
    owner, named, other = world.member(tenant), world.member(tenant), world.member(tenant)
    agent = await world.create(owner)
    await world.share(owner, agent.agent_id, RESTRICTED, named)
    error = await refused(world.share(named, agent.agent_id, SHARED))
    assert told(error) == ("PERMISSION_DENIED", "ROLE_MISSING")
    hidden = await refused(world.share(other, agent.agent_id, SHARED))
    never = await refused(world.share(other, UNKNOWN, SHARED))
    assert told(hidden) == told(never) == ("NOT_FOUND", "RESOURCE_NOT_FOUND")
    assert str(hidden) == str(never)
    assert (await find(world, owner, agent.agent_id)).mode == RESTRICTED


async def test_only_members_of_the_workspace_are_named_and_identity_is_asked_each_time(world: World) -> None:
    tenant, elsewhere = world.tenant(), world.tenant()
    owner, named, stranger = world.member(tenant), world.member(tenant), world.member(elsewhere)
    agent = await world.create(owner)
    error = await refused(world.share(owner, agent.agent_id, RESTRICTED, named, stranger))
    assert told(error) == ("FAILED_PRECONDITION", "MEMBER_UNKNOWN")
    await world.share(owner, agent.agent_id, RESTRICTED, named)
    tenant.members.remove(named.member_id)
    error = await refused(world.share(owner, agent.agent_id, RESTRICTED, named))
    assert told(error) == ("FAILED_PRECONDITION", "MEMBER_UNKNOWN")
    world.identity.answers = False
    error = await refused(world.share(owner, agent.agent_id, RESTRICTED, named))
    assert told(error) == ("UNAVAILABLE", "PEER_UNAVAILABLE")
    error = await refused(world.share(owner, UNKNOWN, RESTRICTED, named))  # nobody is asked for nothing
    assert told(error) == ("NOT_FOUND", "RESOURCE_NOT_FOUND")
    assert (await find(world, owner, agent.agent_id)).mode == RESTRICTED


async def test_256_members_are_named_and_one_more_is_refused(world: World) -> None:
    tenant = world.tenant()
    owner = world.member(tenant)
    members = [Member(tenant, new_id("mem"), "MEMBER", "MEMBER", SCOPES) for _ in range(257)]
    tenant.members.update(one.member_id for one in members)
    agent = await world.create(owner)
    stored = await world.share(owner, agent.agent_id, RESTRICTED, *members[:256])
    assert list(stored.member_ids) == sorted(one.member_id for one in members[:256])
    error = await refused(world.share(owner, agent.agent_id, RESTRICTED, *members))
    assert told(error) == ("INVALID_ARGUMENT", "FIELD_INVALID")


async def test_sharing_under_a_plan_without_it_is_stored_and_has_effect_with_the_next_plan(
    world: World,
) -> None:
    tenant = world.tenant()
    owner, other = world.member(tenant), world.member(tenant)
    agent = await world.create(owner)
    given = tenant.entitlements.pop("agent_sharing")
    found = await find(world, owner, agent.agent_id)
    assert (found.mode, found.effective_mode) == (SHARED, RESTRICTED)
    assert not await sees(world, other, agent.agent_id)
    await world.share(owner, agent.agent_id, RESTRICTED, other)
    assert not await sees(world, other, agent.agent_id)
    tenant.entitlements["agent_sharing"] = given
    assert await sees(world, other, agent.agent_id)


async def test_a_request_id_is_one_change_and_a_stale_etag_none(world: World) -> None:
    tenant = world.tenant()
    owner, named = world.member(tenant), world.member(tenant)
    agent = await world.create(owner)
    request_id = str(uuid.uuid4())
    first = await world.share(
        owner, agent.agent_id, RESTRICTED, named, request_id=request_id, etag=agent.etag
    )
    assert first.etag != agent.etag
    asked = world.identity.asked_members
    assert first == await world.share(
        owner, agent.agent_id, RESTRICTED, named, request_id=request_id, etag=agent.etag
    )
    assert world.identity.asked_members == asked
    error = await refused(world.share(owner, agent.agent_id, SHARED, request_id=request_id))
    assert told(error) == ("INVALID_ARGUMENT", "REQUEST_ID_REUSED")
    error = await refused(world.share(owner, agent.agent_id, SHARED, etag=agent.etag))
    assert told(error) == ("ABORTED", "ETAG_STALE")
    assert await find(world, owner, agent.agent_id) == first


async def test_of_concurrent_changes_on_one_etag_one_wins(world: World) -> None:
    tenant = world.tenant()
    owner, named = world.member(tenant), world.member(tenant)
    agent = await world.create(owner)
    outcomes = await asyncio.gather(
        *(world.share(owner, agent.agent_id, RESTRICTED, named, etag=agent.etag) for _ in range(8)),
        return_exceptions=True,
    )
    assert sum(isinstance(one, pb.Sharing) for one in outcomes) == 1


@pytest.mark.parametrize(
    "fields",
    [
        {"mode": 0},
        {"mode": 9},
        {"agent_id": "agt_x"},
        {"member_ids": ["mem_x"]},
        {"member_ids": [new_id("mem")]},
        {"member_ids": ["mem_00000000000000000000000001"] * 2},
        {"request_id": "00000000-0000-0000-0000-000000000000"},
        {"etag": "x" * 65},
    ],
)
async def test_a_field_that_breaks_its_rule_is_named(world: World, fields: dict[str, Any]) -> None:
    owner = world.member(world.tenant())
    agent = await world.create(owner)
    request = pb.SetSharingRequest(**{"agent_id": agent.agent_id, "mode": SHARED} | fields)
    error = await refused(world.sharing.SetSharing(request, metadata=owner.key))
    assert told(error) == ("INVALID_ARGUMENT", "FIELD_INVALID")
    assert {violation.field.partition("[")[0] for violation in error.violations} == set(fields)
    assert (await find(world, owner, agent.agent_id)).etag == agent.etag


async def test_acknowledgements_are_the_workspaces_and_its_admins_to_give_and_take_back(
    world: World,
) -> None:
    tenant, elsewhere = world.tenant(), world.tenant()
    admin, member, stranger = world.admin(tenant), world.member(tenant), world.admin(elsewhere)
    give, take = world.sharing.AcknowledgeThirdParty, world.sharing.WithdrawAcknowledgement
    maps = {"third_party": "connector:maps"}
    error = await refused(give(pb.AcknowledgeThirdPartyRequest(**maps), metadata=member.key))
    assert told(error) == ("PERMISSION_DENIED", "ROLE_MISSING")
    first = await give(pb.AcknowledgeThirdPartyRequest(**maps), metadata=admin.key)
    assert first.acknowledgement.member_id == admin.member_id
    again = world.member(tenant, workspace_role="ADMIN")
    assert await give(pb.AcknowledgeThirdPartyRequest(**maps), metadata=again.key) == first
    for who, found in ((member, [first.acknowledgement]), (stranger, [])):
        listed = await world.sharing.ListAcknowledgements(pb.ListAcknowledgementsRequest(), metadata=who.key)
        assert list(listed.acknowledgements) == found
    error = await refused(take(pb.WithdrawAcknowledgementRequest(**maps), metadata=stranger.key))
    assert told(error) == ("NOT_FOUND", "RESOURCE_NOT_FOUND")
    request_id = str(uuid.uuid4())
    for _ in range(2):
        await take(pb.WithdrawAcknowledgementRequest(**maps, request_id=request_id), metadata=admin.key)
    error = await refused(take(pb.WithdrawAcknowledgementRequest(**maps), metadata=admin.key))
    assert told(error) == ("NOT_FOUND", "RESOURCE_NOT_FOUND")


async def test_acknowledgements_are_listed_page_by_page_by_third_party(world: World) -> None:
    tenant = world.tenant()
    admin, stranger = world.admin(tenant), world.admin(world.tenant())
    parties = ["connector:a", "connector:a-b", "connector:a.b", "connector:a_b", "connector:ab", "web_search"]
    for party in reversed(parties):
        await world.sharing.AcknowledgeThirdParty(
            pb.AcknowledgeThirdPartyRequest(third_party=party), metadata=admin.key
        )
    found: list[str] = []
    token = ""
    while True:
        request = pb.ListAcknowledgementsRequest(page_size=4, page_token=token)
        page = await world.sharing.ListAcknowledgements(request, metadata=admin.key)
        found += [one.third_party for one in page.acknowledgements]
        if not page.next_page_token:
            break
        token = page.next_page_token
        error = await refused(
            world.sharing.ListAcknowledgements(
                pb.ListAcknowledgementsRequest(page_token=token), metadata=stranger.key
            )
        )
        assert told(error) == ("INVALID_ARGUMENT", "PAGE_TOKEN_INVALID")
    assert found == parties


@pytest.mark.parametrize(
    "party", ["", "web-search", "connector:", "connector:Maps", "connector:../x", "maps"]
)
async def test_what_is_no_third_party_is_refused(world: World, party: str) -> None:
    admin = world.admin(world.tenant())
    for method, request in (
        (world.sharing.AcknowledgeThirdParty, pb.AcknowledgeThirdPartyRequest),
        (world.sharing.WithdrawAcknowledgement, pb.WithdrawAcknowledgementRequest),
    ):
        error = await refused(method(request(third_party=party), metadata=admin.key))
        assert told(error) == ("INVALID_ARGUMENT", "FIELD_INVALID")


async def test_a_deleted_agent_is_shared_with_nobody(world: World) -> None:
    owner = world.member(world.tenant())
    agent = await world.create(owner)
    await world.agents.DeleteAgent(
        agent_service_pb2.DeleteAgentRequest(agent_id=agent.agent_id), metadata=owner.key
    )
    assert not await sees(world, owner, agent.agent_id)
    assert told(await refused(world.share(owner, agent.agent_id, SHARED)))[1] == "RESOURCE_NOT_FOUND"
