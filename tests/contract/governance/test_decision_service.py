"""DecisionService over a real channel: each documented status."""

import asyncio
import uuid
from datetime import timedelta
from typing import Any

import grpc
import pytest

from perron.api.common.v1 import event_service_pb2, roles_pb2
from perron.api.governance.v1 import decision_pb2
from perron.api.governance.v1 import decision_service_pb2 as pb
from perron.chassis import status
from perron.chassis.ids import new_id
from tests.contract.governance.world import API, INFERENCE, World, refused


def item(**fields: Any) -> pb.DecideItem:
    return pb.DecideItem(**{"data_kind": INFERENCE, "channel": API} | fields)


async def test_a_decision_is_answered_and_read_again(world: World) -> None:
    tenant = world.tenant()
    decided = await world.decide(tenant, data_subject="reader-7")
    assert decided.keep_content
    request = pb.GetDecisionRequest(decision_id=decided.decision.decision_id)
    for role in ("ADMIN", "AUDITOR"):
        found = await world.decisions.GetDecision(request, metadata=world.customer(tenant, role))
        assert found.decision == decided.decision
    request.organization_id = tenant.organization_id
    found = await world.decisions.GetDecision(request, metadata=world.operator("BILLING"))
    assert found.decision == decided.decision


async def test_a_request_id_is_one_decision_and_with_another_body_refused(world: World) -> None:
    tenant = world.tenant()
    request_id = str(uuid.uuid4())
    first = await world.decide(tenant, request_id=request_id)
    world.clock.advance(timedelta(seconds=16))
    assert await world.decide(tenant, request_id=request_id) == first
    error = await refused(world.decide(tenant, request_id=request_id, data_subject="another"))
    assert (error.code, error.reason) == ("INVALID_ARGUMENT", "REQUEST_ID_REUSED")


@pytest.mark.parametrize(
    "fields",
    [
        {"data_kind": 0},
        {"data_kind": 99},
        {"channel": 0},
        {"channel": 99},
        {"data_subject": "x" * 129},
        {"data_subject": "a\x00b"},
        {"request_id": "not-a-uuid"},
        {"request_id": "00000000-0000-0000-0000-000000000000"},
        {"in_flight_until": {"seconds": -62135596800}},
        {"in_flight_until": {"seconds": 253402300799}},
        {"trace_parent": "x" * 65},
    ],
)
async def test_a_field_that_breaks_its_rule_is_named(world: World, fields: dict[str, Any]) -> None:
    error = await refused(world.decide(world.tenant(), **fields))
    assert (error.code, error.reason) == ("INVALID_ARGUMENT", "FIELD_INVALID")
    assert {violation.field.partition(".")[0] for violation in error.violations} <= set(fields)


async def test_only_services_with_a_passport_decide(world: World) -> None:
    tenant = world.tenant()
    good = pb.DecideRequest(passport=world.sign(tenant), data_kind=INFERENCE, channel=API)
    for metadata, code, reason in (
        ((), "UNAUTHENTICATED", "CREDENTIAL_MISSING"),
        (world.service("gateway"), "PERMISSION_DENIED", "CALLER_NOT_ALLOWED"),
        (world.customer(tenant), "PERMISSION_DENIED", "CALLER_NOT_ALLOWED"),
        (world.reviewer, "PERMISSION_DENIED", "CALLER_NOT_ALLOWED"),
    ):
        error = await refused(world.decisions.Decide(good, metadata=metadata))
        assert (error.code, error.reason) == (code, reason)
    error = await refused(world.decide(tenant, passport=world.sign(tenant)[:-2]))
    assert (error.code, error.reason) == ("UNAUTHENTICATED", "PASSPORT_INVALID")
    stale = world.sign(tenant)
    world.clock.advance(timedelta(seconds=31))
    error = await refused(world.decide(tenant, passport=stale))
    assert error.reason == "PASSPORT_INVALID"


async def test_a_deleted_workspace_is_refused_once_identity_has_told(world: World) -> None:
    tenant = world.tenant()
    await world.decide(tenant)
    world.identity.events.put_nowait(
        event_service_pb2.Event(
            number=1,
            kind="workspace.deleted",
            organization_id=tenant.organization_id,
            workspace_id=tenant.workspace_id,
        )
    )
    await asyncio.wait_for(world.identity.consumed.wait(), 10)
    error = await refused(world.decide(tenant))
    assert (error.code, error.reason) == ("NOT_FOUND", "RESOURCE_NOT_FOUND")
    assert (await world.decide(world.add(tenant.second_workspace()))).keep_content


async def test_each_item_of_a_batch_is_answered_by_itself(world: World) -> None:
    tenants = [world.tenant(), world.paying()]
    request = pb.BatchDecideRequest(
        passports=[world.sign(tenants[0]), "forged", world.sign(tenants[1])],
        items=[
            item(),
            item(passport_index=1),
            item(passport_index=2),
            item(passport_index=7),
            item(channel=roles_pb2.CHANNEL_UNSPECIFIED),
            item(data_kind=decision_pb2.DATA_KIND_AGENT),
        ],
    )
    results = (await world.decisions.BatchDecide(request, metadata=world.admission)).results
    outcomes = [
        status.from_status(result.error).reason
        if result.HasField("error")
        else result.response.decision.workspace_id
        for result in results
    ]
    assert outcomes == [
        tenants[0].workspace_id,
        "PASSPORT_INVALID",
        tenants[1].workspace_id,
        "FIELD_INVALID",
        "FIELD_INVALID",
        tenants[0].workspace_id,
    ]


@pytest.mark.parametrize(("passports", "items"), [(0, 1), (1, 0), (129, 1), (1, 129)])
async def test_an_envelope_out_of_bounds_is_refused(world: World, passports: int, items: int) -> None:
    token = world.sign(world.tenant())
    request = pb.BatchDecideRequest(passports=[token] * passports, items=[item()] * items)
    error = await refused(world.decisions.BatchDecide(request, metadata=world.admission))
    assert (error.code, error.reason) == ("INVALID_ARGUMENT", "FIELD_INVALID")


async def test_another_tenants_decision_reads_like_one_that_does_not_exist(world: World) -> None:
    tenant, other = world.tenant(), world.tenant()
    foreign = (await world.decide(other)).decision.decision_id
    metadata = world.customer(tenant)
    for call, request in (
        (world.decisions.GetDecision, pb.GetDecisionRequest),
        (world.decisions.ExplainDecision, pb.ExplainDecisionRequest),
    ):
        errors = [
            await refused(call(request(decision_id=new_id("dec")), metadata=metadata)),
            await refused(call(request(decision_id=foreign), metadata=metadata)),
            await refused(
                call(request(organization_id=other.organization_id, decision_id=foreign), metadata=metadata)
            ),
        ]
        assert {error.code for error in errors} == {"NOT_FOUND"}
        assert len({(error.reason, error.message) for error in errors}) == 1


async def test_reading_decisions_needs_role_and_scope(world: World) -> None:
    tenant = world.tenant()
    request = pb.ListDecisionsRequest()
    for metadata, reason in (
        (world.customer(tenant, "MEMBER"), "ROLE_MISSING"),
        (world.customer(tenant, scopes=("INFERENCE",)), "SCOPE_MISSING"),
        (world.admission, "CALLER_NOT_ALLOWED"),
    ):
        error = await refused(world.decisions.ListDecisions(request, metadata=metadata))
        assert (error.code, error.reason) == ("PERMISSION_DENIED", reason)
    error = await refused(world.decisions.ListDecisions(request, metadata=world.reviewer))
    assert (error.code, error.violations[0].field) == ("INVALID_ARGUMENT", "organization_id")


async def test_decisions_are_listed_newest_first_in_pages(world: World) -> None:
    tenant, other = world.tenant(), world.tenant()
    made = []
    for _ in range(5):
        made.append((await world.decide(tenant)).decision.decision_id)
        world.clock.advance(timedelta(seconds=16))
    await world.decide(other)
    metadata = world.customer(tenant)
    first = await world.decisions.ListDecisions(pb.ListDecisionsRequest(page_size=3), metadata=metadata)
    request = pb.ListDecisionsRequest(page_size=3, page_token=first.next_page_token)
    rest = await world.decisions.ListDecisions(request, metadata=metadata)
    assert [one.decision_id for one in [*first.decisions, *rest.decisions]] == made[::-1]
    assert not rest.next_page_token
    for caller, token in ((world.customer(other), first.next_page_token), (metadata, "forged")):
        request = pb.ListDecisionsRequest(page_token=token)
        error = await refused(world.decisions.ListDecisions(request, metadata=caller))
        assert (error.code, error.reason) == ("INVALID_ARGUMENT", "PAGE_TOKEN_INVALID")
    error = await refused(
        world.decisions.ListDecisions(pb.ListDecisionsRequest(page_size=-1), metadata=metadata)
    )
    assert error.reason == "FIELD_INVALID"


async def test_a_decision_is_explained_in_words_with_its_clauses(world: World) -> None:
    tenant = world.tenant()
    decision = (await world.decide(tenant)).decision
    request = pb.ExplainDecisionRequest(decision_id=decision.decision_id)
    explained = await world.decisions.ExplainDecision(request, metadata=world.customer(tenant))
    assert explained.decision == decision
    assert "Models may be trained on it." in explained.sentences
    assert [clause.clause for clause in explained.clauses] == ["3-free"]
    assert explained.clauses[0].clause_text
    assert explained.clauses[0].reason_text


async def test_a_batch_of_one_tenant_is_not_spoiled_by_a_cancelled_call(world: World) -> None:
    tenant = world.tenant()
    calls = [asyncio.ensure_future(world.decide(tenant)) for _ in range(20)]
    await asyncio.sleep(0)
    for call in calls[::2]:
        call.cancel()
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(answer, pb.DecideResponse) for answer in answers[1::2])


async def test_text_that_is_no_id_is_refused(world: World) -> None:
    metadata = world.customer(world.tenant())
    for text in ("", "../x", "dec_" + "!" * 26, "org_" + "0" * 26, "dec_" + "z" * 26):
        error = await refused(
            world.decisions.GetDecision(pb.GetDecisionRequest(decision_id=text), metadata=metadata)
        )
        assert (error.code, error.reason) == ("INVALID_ARGUMENT", "FIELD_INVALID")


async def test_an_organization_id_of_no_bytes_is_refused(world: World) -> None:
    request = pb.GetDecisionRequest(organization_id="org_" + "z" * 26, decision_id=new_id("dec"))
    error = await refused(world.decisions.GetDecision(request, metadata=world.operator("ADMIN")))
    assert error.code == grpc.StatusCode.INVALID_ARGUMENT.name
