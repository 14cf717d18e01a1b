"""DirectiveService over a real channel: each documented status."""

import asyncio
import threading
import uuid
from collections.abc import Iterable
from typing import Any

import pytest

from perron.api.governance.v1 import directive_pb2
from perron.api.governance.v1 import directive_service_pb2 as pb
from perron.chassis import status
from perron.chassis.errors import Unavailable
from perron.chassis.ids import new_id
from perron.chassis.vault import Vault
from perron.governance.erasure import Erasure
from tests.contract.governance.world import Tenant, World, refused

STATE = directive_pb2.ZeroRetentionRequest
OPTED_OUT = directive_pb2.TRAINING_PREFERENCE_OPTED_OUT
DEFAULT = directive_pb2.TRAINING_PREFERENCE_DEFAULT


async def ask(world: World, tenant: Tenant, **fields: Any) -> directive_pb2.ZeroRetentionRequest:
    request = pb.RequestZeroRetentionRequest(**{"reasons": "medical questions"} | fields)
    response = await world.directives.RequestZeroRetention(request, metadata=world.customer(tenant))
    return response.zero_retention_request


async def review(world: World, zero_retention_request_id: str, verdict: int, **fields: Any) -> Any:
    request = pb.ReviewZeroRetentionRequest(
        zero_retention_request_id=zero_retention_request_id, verdict=verdict, **fields
    )
    return await world.directives.ReviewZeroRetention(request, metadata=world.reviewer)


async def prefer(
    world: World, tenant: Tenant, preference: int, **fields: Any
) -> pb.SetTrainingPreferenceResponse:
    request = pb.SetTrainingPreferenceRequest(preference=preference, **fields)
    return await world.directives.SetTrainingPreference(request, metadata=world.customer(tenant))


async def test_a_request_goes_its_way_through_detail_to_approval(world: World) -> None:
    tenant = world.tenant()
    asked = await ask(world, tenant)
    assert (asked.state, asked.existing_records) == (
        STATE.STATE_REQUESTED,
        directive_pb2.EXISTING_RECORDS_ERASE,
    )
    detail = await review(
        world, asked.zero_retention_request_id, pb.REVIEW_VERDICT_DETAIL_ASKED, note="which?"
    )
    assert detail.zero_retention_request.state == STATE.STATE_DETAIL_ASKED
    assert detail.zero_retention_request.review_note == "which?"
    approved = await review(world, asked.zero_retention_request_id, pb.REVIEW_VERDICT_APPROVED)
    assert approved.zero_retention_request.state == STATE.STATE_APPROVED
    error = await refused(review(world, asked.zero_retention_request_id, pb.REVIEW_VERDICT_DENIED))
    assert (error.code, error.reason) == ("FAILED_PRECONDITION", "ZERO_RETENTION_REVIEWED")
    error = await refused(ask(world, tenant))
    assert (error.code, error.reason) == ("ALREADY_EXISTS", "ZERO_RETENTION_REQUESTED")
    error = await refused(review(world, new_id("zdr"), pb.REVIEW_VERDICT_DENIED))
    assert (error.code, error.reason) == ("NOT_FOUND", "RESOURCE_NOT_FOUND")


async def test_a_mutation_sent_again_has_one_effect(world: World) -> None:
    tenant = world.tenant()
    customer = world.customer(tenant)
    request = pb.RequestZeroRetentionRequest(reasons="medical", request_id=str(uuid.uuid4()))
    first = await world.directives.RequestZeroRetention(request, metadata=customer)
    assert await world.directives.RequestZeroRetention(request, metadata=customer) == first
    request.reasons = "legal"
    error = await refused(world.directives.RequestZeroRetention(request, metadata=customer))
    assert (error.code, error.reason) == ("INVALID_ARGUMENT", "REQUEST_ID_REUSED")
    request_id = first.zero_retention_request.zero_retention_request_id
    once = {"request_id": str(uuid.uuid4())}
    approved = await review(world, request_id, pb.REVIEW_VERDICT_APPROVED, **once)
    assert await review(world, request_id, pb.REVIEW_VERDICT_APPROVED, **once) == approved
    error = await refused(review(world, request_id, pb.REVIEW_VERDICT_DENIED, **once))
    assert error.reason == "REQUEST_ID_REUSED"


@pytest.mark.parametrize(
    "fields",
    [
        {"reasons": ""},
        {"reasons": "x" * 4001},
        {"reasons": "a\x00b"},
        {"workspace_id": "ws"},
        {"existing_records": 9},
        {"request_id": "00000000-0000-0000-0000-000000000000"},
    ],
)
async def test_a_field_that_breaks_its_rule_is_refused(world: World, fields: dict[str, Any]) -> None:
    error = await refused(ask(world, world.tenant(), **fields))
    assert (error.code, error.reason) == ("INVALID_ARGUMENT", "FIELD_INVALID")


async def test_another_tenants_workspace_reads_like_one_that_does_not_exist(world: World) -> None:
    tenant, other = world.tenant(), world.tenant()
    for workspace_id in (other.workspace_id, new_id("ws")):
        for call in (
            ask(world, tenant, workspace_id=workspace_id),
            prefer(world, tenant, OPTED_OUT, workspace_id=workspace_id),
        ):
            error = await refused(call)
            assert (error.code, error.message) == ("NOT_FOUND", "the workspace does not exist")
    for call in (
        ask(world, tenant, organization_id=other.organization_id),
        prefer(world, tenant, OPTED_OUT, organization_id=other.organization_id),
    ):
        error = await refused(call)
        assert (error.code, error.message) == ("NOT_FOUND", "the organization does not exist")
    neighbour = world.add(tenant.second_workspace())
    assert (
        await ask(world, tenant, workspace_id=neighbour.workspace_id)
    ).workspace_id == neighbour.workspace_id


async def test_directives_need_their_roles(world: World) -> None:
    tenant = world.tenant()
    asked = pb.RequestZeroRetentionRequest(reasons="medical")
    set_ = pb.SetTrainingPreferenceRequest(preference=OPTED_OUT)
    for metadata, reason in (
        (world.customer(tenant, "MEMBER"), "ROLE_MISSING"),
        (world.customer(tenant, "AUDITOR"), "ROLE_MISSING"),
        (world.customer(tenant, scopes=("DATA_READ",)), "SCOPE_MISSING"),
        (world.reviewer, "CALLER_NOT_ALLOWED"),
    ):
        for call, request in (
            (world.directives.RequestZeroRetention, asked),
            (world.directives.SetTrainingPreference, set_),
        ):
            error = await refused(call(request, metadata=metadata))
            assert (error.code, error.reason) == ("PERMISSION_DENIED", reason)
    verdict = pb.ReviewZeroRetentionRequest(
        zero_retention_request_id=new_id("zdr"), verdict=pb.REVIEW_VERDICT_APPROVED
    )
    for metadata, reason in (
        (world.customer(tenant), "CALLER_NOT_ALLOWED"),
        (world.operator("LEGAL"), "ROLE_MISSING"),
    ):
        error = await refused(world.directives.ReviewZeroRetention(verdict, metadata=metadata))
        assert (error.code, error.reason) == ("PERMISSION_DENIED", reason)


async def test_requests_are_listed_to_their_organization_and_to_reviewers(world: World) -> None:
    tenant, other = world.tenant(), world.tenant()
    made = [
        await ask(world, tenant, workspace_id=world.add(tenant.second_workspace()).workspace_id)
        for _ in range(3)
    ]
    foreign = await ask(world, other)
    listing = world.directives.ListZeroRetentionRequests
    customer = world.customer(tenant, "AUDITOR")
    own = await listing(pb.ListZeroRetentionRequestsRequest(), metadata=customer)
    assert list(own.zero_retention_requests) == made[::-1]
    everything = await listing(pb.ListZeroRetentionRequestsRequest(), metadata=world.reviewer)
    assert list(everything.zero_retention_requests) == [foreign, *made[::-1]]
    page = await listing(pb.ListZeroRetentionRequestsRequest(page_size=2), metadata=customer)
    request = pb.ListZeroRetentionRequestsRequest(page_token=page.next_page_token)
    assert list((await listing(request, metadata=customer)).zero_retention_requests) == [made[0]]
    error = await refused(listing(request, metadata=world.customer(other)))
    assert (error.code, error.reason) == ("INVALID_ARGUMENT", "PAGE_TOKEN_INVALID")
    request = pb.ListZeroRetentionRequestsRequest(organization_id=other.organization_id)
    assert (await refused(listing(request, metadata=customer))).code == "NOT_FOUND"


async def test_opting_out_holds_for_the_next_decision_and_lifting_frees_only_what_is_newer(
    world: World,
) -> None:
    tenant = world.tenant()
    opted = await prefer(world, tenant, OPTED_OUT)
    assert (opted.preference, opted.HasField("watermark_time")) == (OPTED_OUT, False)
    assert not (await world.decide(tenant)).decision.training_eligible
    during = world.sign(tenant)
    lifted = await prefer(world, tenant, DEFAULT)
    assert lifted.watermark_time.ToMicroseconds() == world.clock.now_us()
    assert not (await world.decide(tenant, passport=during)).decision.training_eligible
    other = world.tenant()
    assert (await world.decide(other)).decision.training_eligible


async def test_services_are_told_which_directives_are_in_force(world: World) -> None:
    tenant, other = world.tenant(), world.tenant()
    neighbour = world.add(tenant.second_workspace())
    await prefer(world, tenant, OPTED_OUT)
    asked = await ask(world, tenant, workspace_id=tenant.workspace_id)
    await review(world, asked.zero_retention_request_id, pb.REVIEW_VERDICT_APPROVED)
    request = pb.BatchGetDirectivesRequest(
        items=[
            {"organization_id": tenant.organization_id, "workspace_id": tenant.workspace_id},
            {"organization_id": tenant.organization_id, "workspace_id": neighbour.workspace_id},
            {"organization_id": tenant.organization_id},
            {"organization_id": "nobody"},
            {"organization_id": other.organization_id, "resource_id": new_id("file")},
        ]
    )
    response = await world.directives.BatchGetDirectives(request, metadata=world.service("finetuning"))
    answers = [
        status.from_status(one.error).reason
        if one.HasField("error")
        else (one.response.zero_retention, one.response.training_preference, one.response.held)
        for one in response.results
    ]
    assert answers == [
        (True, OPTED_OUT, False),
        (False, OPTED_OUT, False),
        (False, OPTED_OUT, False),
        "FIELD_INVALID",
        (False, DEFAULT, False),
    ]
    error = await refused(world.directives.BatchGetDirectives(request, metadata=world.customer(tenant)))
    assert (error.code, error.reason) == ("PERMISSION_DENIED", "CALLER_NOT_ALLOWED")
    error = await refused(
        world.directives.BatchGetDirectives(pb.BatchGetDirectivesRequest(), metadata=world.admission)
    )
    assert (error.code, error.reason) == ("INVALID_ARGUMENT", "FIELD_INVALID")


async def test_an_approval_whose_erasure_was_interrupted_is_carried_out_all_the_same(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant = world.tenant()
    asked = await ask(world, tenant)
    await world.put(tenant, (await world.decide(tenant)).decision)

    async def interrupted(_: Erasure) -> None:
        raise Unavailable("STORE_UNAVAILABLE", "gone")

    gone, drop = threading.Event(), Vault.drop

    def dropped(vault: Vault, epochs: Iterable[str]) -> None:
        drop(vault, marked := list(epochs))
        if marked:
            gone.set()

    monkeypatch.setattr(Erasure, "run", interrupted)
    monkeypatch.setattr(Vault, "drop", dropped)
    await refused(review(world, asked.zero_retention_request_id, pb.REVIEW_VERDICT_APPROVED))
    assert await asyncio.to_thread(gone.wait, 20)
    assert not list(world.folder.glob("vault/??/*.key"))
