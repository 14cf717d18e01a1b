"""RecordService over a real channel: each documented status."""

from datetime import timedelta
from typing import Any

import pytest

from perron.api.governance.v1 import decision_pb2, record_pb2
from perron.api.governance.v1 import record_service_pb2 as pb
from perron.chassis import status
from perron.chassis.ids import new_id
from tests.contract.governance.world import Tenant, World, refused


async def kept(world: World, tenant: Tenant, **fields: Any) -> str:
    put = await world.put(tenant, (await world.decide(tenant)).decision, **fields)
    assert put.recorded
    return put.record_id


async def test_content_is_kept_read_and_listed(world: World) -> None:
    tenant = world.tenant()
    decided = await world.decide(tenant, data_subject="reader-7")
    agent = new_id("agt")
    put = await world.put(
        tenant, decided.decision, b"q" * 200_000, b"a" * 70_000, agent_id=agent, agent_version=3
    )
    record, given, answered = await world.read(world.customer(tenant, "MEMBER"), put.record_id)
    assert (given, answered) == (b"q" * 200_000, b"a" * 70_000)
    assert (record.record_id, record.decision_id) == (put.record_id, decided.decision.decision_id)
    assert (record.agent_id, record.agent_version, record.data_subject) == (agent, 3, "reader-7")
    assert (record.input_bytes, record.output_bytes) == (200_000, 70_000)
    assert list(record.permissions) == list(decided.decision.permissions)
    assert await world.listed(world.customer(tenant)) == [record]


async def test_a_record_without_content_is_kept_too(world: World) -> None:
    tenant = world.tenant()
    record = await kept(world, tenant, given=b"", answered=b"")
    assert (await world.read(world.customer(tenant), record))[1:] == (b"", b"")


async def test_put_again_answers_the_same_record(world: World) -> None:
    tenant = world.tenant()
    decision = (await world.decide(tenant)).decision
    first = await world.put(tenant, decision)
    assert await world.put(tenant, decision, b"other") == first
    assert (await world.read(world.customer(tenant), first.record_id))[1] == b"question"


async def test_a_decision_that_does_not_exist_reads_like_another_tenants(world: World) -> None:
    tenant, other = world.tenant(), world.tenant()
    foreign = (await world.decide(other)).decision
    nobody = decision_pb2.Decision(decision_id=new_id("dec"))
    errors = [await refused(world.put(tenant, one)) for one in (foreign, nobody)]
    assert {(error.code, error.reason) for error in errors} == {("NOT_FOUND", "RESOURCE_NOT_FOUND")}
    assert len({error.message for error in errors}) == 1


async def test_only_exchanges_have_records(world: World) -> None:
    tenant = world.tenant()
    decision = (await world.decide(tenant, data_kind=decision_pb2.DATA_KIND_FINE_TUNING_DATA)).decision
    error = await refused(world.put(tenant, decision))
    assert (error.code, error.reason) == ("FAILED_PRECONDITION", "DATA_KIND_NOT_RECORDED")


async def test_nothing_is_kept_or_read_while_the_standing_cannot_be_asked(world: World) -> None:
    tenant = world.tenant()
    record = await kept(world, tenant)
    decision = (await world.decide(tenant)).decision
    metadata = world.customer(tenant)
    world.identity.reachable = False
    for call in (world.put(tenant, decision), world.read(metadata, record), world.listed(metadata)):
        error = await refused(call)
        assert (error.code, error.reason) == ("UNAVAILABLE", "PEER_UNAVAILABLE")
    world.identity.reachable = True
    assert (await world.put(tenant, decision)).recorded


@pytest.mark.parametrize(
    "fields",
    [
        {"organization_id": "org_x"},
        {"decision_id": ""},
        {"model": ""},
        {"model": "a\nb"},
        {"model": "x" * 129},
        {"agent_id": "agent"},
        {"agent_version": -1},
        {"input": b"x" * 1_048_577, "output": b""},
        {"input": b"x" * 524_289, "output": b"x" * 524_288},
        {"trace_parent": "x" * 65},
    ],
)
async def test_a_field_that_breaks_its_rule_is_refused(world: World, fields: dict[str, Any]) -> None:
    tenant = world.tenant()
    error = await refused(world.put(tenant, (await world.decide(tenant)).decision, **fields))
    assert (error.code, error.reason) == ("INVALID_ARGUMENT", "FIELD_INVALID")


async def test_content_up_to_the_bound_is_kept(world: World) -> None:
    tenant = world.tenant()
    record = await kept(world, tenant, given=b"x" * 524_288, answered=b"y" * 524_288)
    assert len((await world.read(world.customer(tenant), record))[2]) == 524_288


async def test_each_item_of_a_batch_is_answered_by_itself(world: World) -> None:
    tenant, paying = world.tenant(), world.paying()
    decisions = [(await world.decide(one)).decision for one in (tenant, paying, tenant)]
    paying.downgrade()
    good = {"model": "small", "input": b"q"}
    request = pb.BatchPutRequest(
        items=[
            {"organization_id": tenant.organization_id, "decision_id": decisions[0].decision_id} | good,
            {"organization_id": paying.organization_id, "decision_id": decisions[1].decision_id} | good,
            {"organization_id": paying.organization_id, "decision_id": decisions[2].decision_id} | good,
            {"organization_id": "org_" + "z" * 26, "decision_id": decisions[2].decision_id} | good,
            {"organization_id": tenant.organization_id, "decision_id": decisions[2].decision_id},
            {"organization_id": tenant.organization_id, "decision_id": decisions[0].decision_id} | good,
        ]
    )
    results = (await world.records.BatchPut(request, metadata=world.admission)).results
    outcomes = [
        status.from_status(one.error).reason if one.HasField("error") else one.response.reason
        for one in results
    ]
    assert outcomes == [
        0,
        record_pb2.DISCARD_REASON_SUBSCRIPTION_ENDED,
        "RESOURCE_NOT_FOUND",
        "FIELD_INVALID",
        "FIELD_INVALID",
        0,
    ]
    assert results[0] == results[5]


async def test_only_admission_puts(world: World) -> None:
    tenant = world.tenant()
    request = pb.PutRequest(organization_id=tenant.organization_id, decision_id=new_id("dec"), model="small")
    for metadata in (world.service("gateway"), world.customer(tenant), world.reviewer):
        error = await refused(world.records.Put(request, metadata=metadata))
        assert (error.code, error.reason) == ("PERMISSION_DENIED", "CALLER_NOT_ALLOWED")


async def test_a_purpose_is_declared_by_whom_the_terms_name(world: World) -> None:
    tenant = world.tenant()
    record = await kept(world, tenant)
    legal, abuse = world.operator("LEGAL"), world.operator("ABUSE_REVIEWER")
    of = {"organization_id": tenant.organization_id}
    for metadata, purpose, fields, code, reason in (
        (world.customer(tenant), "MONITOR_ABUSE", {}, "PERMISSION_DENIED", "PURPOSE_NOT_ALLOWED"),
        (world.customer(tenant), "IMPROVE_SERVICES", {}, "PERMISSION_DENIED", "PURPOSE_NOT_ALLOWED"),
        (abuse, "IMPROVE_SERVICES", of, "PERMISSION_DENIED", "PURPOSE_NOT_ALLOWED"),
        (abuse, "PROVIDE_SERVICES", of, "PERMISSION_DENIED", "PURPOSE_NOT_ALLOWED"),
        (legal, "LEGAL_OBLIGATION", of, "INVALID_ARGUMENT", "CASE_REFERENCE_MISSING"),
        (legal, "LEGAL_OBLIGATION", of | {"case_reference": "24-7"}, "FAILED_PRECONDITION", "PURPOSE_ENDED"),
        (world.operator("TRAINING"), "IMPROVE_SERVICES", of, "PERMISSION_DENIED", "ROLE_MISSING"),
        (abuse, "MONITOR_ABUSE", {}, "INVALID_ARGUMENT", "FIELD_INVALID"),
    ):
        error = await refused(world.read(metadata, record, purpose, **fields))
        assert (error.code, error.reason) == (code, reason)
    assert (await world.read(abuse, record, "MONITOR_ABUSE", **of))[1] == b"question"


async def test_another_tenants_record_reads_like_one_that_does_not_exist(world: World) -> None:
    tenant, other = world.tenant(), world.tenant()
    foreign = await kept(world, other)
    metadata = world.customer(tenant)
    errors = [
        await refused(world.read(metadata, new_id("rec"))),
        await refused(world.read(metadata, foreign)),
        await refused(world.read(metadata, foreign, organization_id=other.organization_id)),
    ]
    assert len({(error.code, error.reason, error.message) for error in errors}) == 1
    neighbour = world.add(tenant.second_workspace())
    member = world.customer(tenant, "MEMBER")
    errors.append(await refused(world.read(member, await kept(world, neighbour))))
    assert errors[-1].message == errors[0].message


async def test_a_terminated_organization_has_no_records(world: World) -> None:
    tenant = world.tenant()
    record = await kept(world, tenant)
    tenant.active = False
    metadata = world.customer(tenant)
    assert (await refused(world.read(metadata, record))).code == "NOT_FOUND"
    assert await world.listed(metadata) == []


async def test_records_are_listed_newest_first_in_pages(world: World) -> None:
    tenant = world.tenant()
    made = []
    for _ in range(5):
        made.append(await kept(world, tenant))
        world.clock.advance(timedelta(seconds=16))
    metadata = world.customer(tenant)
    first = await world.records.ListRecords(pb.ListRecordsRequest(page_size=3), metadata=metadata)
    request = pb.ListRecordsRequest(page_size=3, page_token=first.next_page_token)
    rest = await world.records.ListRecords(request, metadata=metadata)
    assert [one.record_id for one in [*first.records, *rest.records]] == made[::-1]
    other = world.customer(world.tenant())
    for caller, token in ((other, first.next_page_token), (metadata, "forged")):
        request = pb.ListRecordsRequest(page_token=token)
        error = await refused(world.records.ListRecords(request, metadata=caller))
        assert (error.code, error.reason) == ("INVALID_ARGUMENT", "PAGE_TOKEN_INVALID")


async def test_workspaces_are_listed_by_their_members_and_admins(world: World) -> None:
    tenant, other = world.tenant(), world.tenant()
    neighbour = world.add(tenant.second_workspace())
    await kept(world, neighbour)
    assert len(await world.listed(world.customer(tenant), workspace_id=neighbour.workspace_id)) == 1
    assert len(await world.listed(world.customer(neighbour, "MEMBER"))) == 1
    abuse = world.operator("ABUSE_REVIEWER")
    named = {"organization_id": tenant.organization_id, "workspace_id": neighbour.workspace_id}
    assert len(await world.listed(abuse, **named)) == 1
    errors = [
        await refused(world.listed(world.customer(tenant, "MEMBER"), workspace_id=neighbour.workspace_id)),
        await refused(world.listed(world.customer(tenant), workspace_id=other.workspace_id)),
        await refused(world.listed(world.customer(tenant), workspace_id=new_id("ws"))),
        await refused(world.listed(world.customer(tenant), organization_id=other.organization_id)),
    ]
    assert {(error.code, error.message) for error in errors} == {
        ("NOT_FOUND", "the workspace does not exist")
    }
    error = await refused(world.listed(abuse, organization_id=tenant.organization_id))
    assert error.violations[0].field == "workspace_id"
