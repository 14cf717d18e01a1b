"""Cases 13, 14 and 17 of the conformance cases, at the level of governance."""

import base64
import json
import secrets
from pathlib import Path
from typing import Any

from perron.api.governance.v1 import decision_pb2, directive_pb2, record_pb2
from perron.api.governance.v1 import directive_service_pb2 as pb
from tests.contract.governance.world import Tenant, World, purposes, refused

STATE = directive_pb2.ZeroRetentionRequest


async def ask(world: World, tenant: Tenant, workspace_id: str = "", **fields: Any) -> Any:
    request = pb.RequestZeroRetentionRequest(
        workspace_id=workspace_id, reasons="patients' questions", **fields
    )
    response = await world.directives.RequestZeroRetention(request, metadata=world.customer(tenant))
    return response.zero_retention_request


async def review(world: World, asked: Any, verdict: str = "APPROVED") -> Any:
    request = pb.ReviewZeroRetentionRequest(
        zero_retention_request_id=asked.zero_retention_request_id,
        verdict=pb.ReviewVerdict.Value(f"REVIEW_VERDICT_{verdict}"),
        note="seen",
    )
    return (
        await world.directives.ReviewZeroRetention(request, metadata=world.reviewer)
    ).zero_retention_request


async def test_zero_retention_is_asked_with_reasons_and_approved_on_free(world: World) -> None:
    tenant = world.tenant()
    asked = await ask(world, tenant)
    assert asked.state == STATE.STATE_REQUESTED
    assert (await world.decide(tenant)).keep_content
    approved = await review(world, asked)
    assert approved.state == STATE.STATE_APPROVED
    assert approved.effective_time.ToMicroseconds() == world.clock.now_us()
    decided = await world.decide(tenant)
    assert not decided.keep_content
    assert not decided.decision.training_eligible
    assert {name: [kind for kind, _ in until] for name, until in purposes(decided.decision).items()} == {
        "PROVIDE_SERVICES": ["IN_FLIGHT"],
        "MONITOR_ABUSE": ["IN_FLIGHT"],
    }
    assert decision_pb2.CLAUSE_REASON_ZERO_RETENTION in {one.reason for one in decided.decision.clauses}


async def test_zero_retention_denied_or_asked_for_detail_leaves_the_base_row(world: World) -> None:
    for verdict in ("DENIED", "DETAIL_ASKED"):
        tenant = world.tenant()
        reviewed = await review(world, await ask(world, tenant), verdict)
        assert not reviewed.HasField("effective_time")
        decided = await world.decide(tenant)
        assert decided.keep_content
        assert decided.decision.training_eligible


async def test_zero_retention_between_decision_and_content_leaves_no_byte(world: World) -> None:
    tenant = world.tenant()
    decided = await world.decide(tenant)
    planted = await world.decide(world.tenant(), data_subject="planted-in-the-clear")
    assert planted.keep_content
    await review(world, await ask(world, tenant))
    marker = secrets.token_hex(16).encode()
    put = await world.put(tenant, decided.decision, b"before " + marker, marker + b" after")
    assert not put.recorded
    assert put.reason == record_pb2.DISCARD_REASON_ZERO_RETENTION
    assert _found(world.folder, b"planted-in-the-clear")
    assert not _found(world.folder, marker)


async def test_zero_retention_makes_existing_records_unreadable_before_it_is_answered(world: World) -> None:
    tenant, other = world.tenant(), world.tenant()
    puts = [await world.put(tenant, (await world.decide(tenant)).decision) for _ in range(20)]
    kept = await world.put(other, (await world.decide(other)).decision)
    keys = set(world.folder.glob("vault/??/*.key"))
    approved = await review(world, await ask(world, tenant))
    assert approved.erased_records == 20
    assert len(keys - set(world.folder.glob("vault/??/*.key"))) == 1
    assert await world.listed(world.customer(tenant)) == []
    for put in puts:
        assert (await refused(world.read(world.customer(tenant), put.record_id))).code == "NOT_FOUND"
    assert (await world.read(world.customer(other), kept.record_id))[1] == b"question"


async def test_existing_records_are_kept_until_their_deadlines_where_that_was_asked(world: World) -> None:
    tenant = world.tenant()
    put = await world.put(tenant, (await world.decide(tenant)).decision)
    asked = await ask(world, tenant, existing_records=directive_pb2.EXISTING_RECORDS_KEEP_UNTIL_DEADLINE)
    assert (await review(world, asked)).erased_records == 0
    kept, given, _ = await world.read(world.customer(tenant), put.record_id)
    assert given == b"question"
    assert set(purposes(kept)) == {"PROVIDE_SERVICES", "MONITOR_ABUSE"}  # kept, and not trained on
    assert not kept.training_eligible
    assert not (await world.decide(tenant)).keep_content


async def test_zero_retention_of_one_workspace_leaves_the_other_unaffected(world: World) -> None:
    tenant = world.tenant()
    other = world.add(tenant.second_workspace())
    await review(world, await ask(world, tenant, tenant.workspace_id))
    assert not (await world.decide(tenant)).keep_content
    assert (await world.decide(other)).keep_content


async def test_zero_retention_of_the_organization_cannot_be_narrowed_away(world: World) -> None:
    tenant = world.tenant()
    other = world.add(tenant.second_workspace())
    await review(world, await ask(world, tenant))
    await review(world, await ask(world, tenant, tenant.workspace_id), "DENIED")
    assert not (await world.decide(tenant)).keep_content
    assert not (await world.decide(other)).keep_content


def _found(folder: Path, marker: bytes) -> bool:
    forms = (
        marker,
        marker.hex().encode(),
        base64.b64encode(marker)[:-4],
        json.dumps(marker.decode()).encode()[1:-1],
        marker.decode().encode("utf-16-le"),
    )
    files = [path.read_bytes() for path in folder.rglob("*") if path.is_file()]
    assert files
    return any(form in content for content in files for form in forms)
