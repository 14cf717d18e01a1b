from typing import Any
from uuid import uuid4

import grpc
import pytest

from perron.api.common.v1 import audit_service_pb2
from perron.api.quotas.v1 import limit_pb2, limit_service_pb2, usage_service_pb2
from perron.api.quotas.v1 import quota_service_pb2 as pb
from perron.chassis.testing import FakeClock
from tests.contract.quotas.stand_in import Person, Running, bearer, identifier
from tests.contract.quotas.test_quota_service import refused, reserve

REQUESTS_PER_MINUTE = {"metric": limit_pb2.METRIC_REQUESTS, "window": limit_pb2.WINDOW_MINUTE}
OPERATOR = bearer("operator")


def own(person: Person, **fields: Any) -> dict[str, Any]:
    return {"organization_id": person.organization_id} | fields


async def set_cap(quotas: Running, name: str, **fields: Any) -> limit_pb2.Limit:
    request = limit_service_pb2.SetCapRequest(**(REQUESTS_PER_MINUTE | fields))
    response = await quotas.limits.SetCap(request, metadata=bearer(name))
    cap: limit_pb2.Limit = response.cap
    return cap


async def delete_cap(quotas: Running, name: str, **fields: Any) -> None:
    request = limit_service_pb2.DeleteCapRequest(**(REQUESTS_PER_MINUTE | fields))
    await quotas.limits.DeleteCap(request, metadata=bearer(name))


async def set_override(quotas: Running, amount: int, **fields: Any) -> limit_pb2.Limit:
    request = limit_service_pb2.SetOverrideRequest(
        **(REQUESTS_PER_MINUTE | {"organization_id": identifier("org", 1), "amount": amount} | fields)
    )
    override: limit_pb2.Limit = (await quotas.limits.SetOverride(request, metadata=OPERATOR)).override
    return override


async def list_limits(quotas: Running, metadata: Any, **fields: Any) -> limit_service_pb2.ListLimitsResponse:
    request = limit_service_pb2.ListLimitsRequest(**({"organization_id": identifier("org", 1)} | fields))
    response: limit_service_pb2.ListLimitsResponse = await quotas.limits.ListLimits(
        request, metadata=metadata
    )
    return response


async def get_usage(quotas: Running, metadata: Any, **fields: Any) -> usage_service_pb2.GetUsageResponse:
    request = usage_service_pb2.GetUsageRequest(**({"organization_id": identifier("org", 1)} | fields))
    response: usage_service_pb2.GetUsageResponse = await quotas.usage.GetUsage(request, metadata=metadata)
    return response


async def list_suspensions(
    quotas: Running, metadata: Any, **fields: Any
) -> usage_service_pb2.ListSuspensionsResponse:
    request = usage_service_pb2.ListSuspensionsRequest(**({"organization_id": identifier("org", 1)} | fields))
    response: usage_service_pb2.ListSuspensionsResponse = await quotas.usage.ListSuspensions(
        request, metadata=metadata
    )
    return response


async def admit(quotas: Running, person: Person) -> pb.ReserveResponse:
    return await reserve(quotas, person)


async def test_tiers_are_published_to_everybody(quotas: Running) -> None:
    tiers = (await quotas.limits.ListTiers(limit_service_pb2.ListTiersRequest())).tiers
    assert [tier.name for tier in tiers] == ["free", "scale-1"]
    assert [limit.amount for limit in tiers[0].limits] == [20, 10_000, 10, 500]


async def test_the_effective_limits_name_their_origin(quotas: Running) -> None:
    admin = quotas.person("admin")
    await admit(quotas, admin)
    await set_cap(quotas, "admin", **own(admin), amount=5)
    await set_override(quotas, 99, key_id=admin.key_id)
    await set_cap(quotas, "admin", **own(admin, workspace_id=admin.workspace_id), amount=15)

    listed = await list_limits(quotas, bearer("admin"), workspace_id=admin.workspace_id, key_id=admin.key_id)

    assert listed.tier == "free"
    stands = [(each.scope, each.metric, each.amount, each.origin) for each in listed.limits]
    scope, requests, tokens = limit_pb2.LimitScope, limit_pb2.METRIC_REQUESTS, limit_pb2.METRIC_TOKENS
    assert stands == [
        (scope.LIMIT_SCOPE_ORGANIZATION, requests, 5, limit_pb2.LIMIT_ORIGIN_CAP),
        (scope.LIMIT_SCOPE_WORKSPACE, requests, 15, limit_pb2.LIMIT_ORIGIN_CAP),
        (scope.LIMIT_SCOPE_WORKSPACE, tokens, 10_000, limit_pb2.LIMIT_ORIGIN_PLAN),
        (scope.LIMIT_SCOPE_KEY, requests, 99, limit_pb2.LIMIT_ORIGIN_OVERRIDE),
        (scope.LIMIT_SCOPE_KEY, tokens, 500, limit_pb2.LIMIT_ORIGIN_PLAN),
    ]


async def test_an_override_holds_for_the_next_call_either_way(quotas: Running) -> None:
    admin = Person()
    for _ in range(10):
        await admit(quotas, admin)
    await set_override(quotas, 11, key_id=admin.key_id)
    await admit(quotas, admin)
    await set_override(quotas, 3, key_id=admin.key_id)
    assert (await refused(admit(quotas, admin))).metadata["origin"] == "OVERRIDE"
    request = limit_service_pb2.DeleteOverrideRequest(
        **own(admin, key_id=admin.key_id), **REQUESTS_PER_MINUTE
    )
    await quotas.limits.DeleteOverride(request, metadata=OPERATOR)
    assert (await refused(admit(quotas, admin))).metadata["origin"] == "PLAN"


async def test_a_cap_only_narrows_and_no_upgrade_lifts_it(quotas: Running) -> None:
    admin = quotas.person("admin")
    await set_cap(quotas, "admin", **own(admin, key_id=admin.key_id), amount=10**9)
    for _ in range(10):
        await admit(quotas, admin)
    assert (await refused(admit(quotas, admin))).metadata["origin"] == "PLAN"

    await set_cap(quotas, "admin", **own(admin, key_id=admin.key_id), amount=10)
    error = await refused(admit(quotas, Person(tier="scale-1")))
    assert error.metadata["origin"] == "CAP"
    assert "no upgrade lifts a cap" in error.metadata["lifted_by"]

    await delete_cap(quotas, "admin", **own(admin, key_id=admin.key_id))
    await admit(quotas, Person(tier="scale-1"))


async def test_a_cap_of_zero_admits_nothing(quotas: Running) -> None:
    admin = quotas.person("admin")
    await set_cap(quotas, "admin", **own(admin), amount=0)
    assert (await refused(admit(quotas, admin))).reason == "EXCEEDS_LIMIT"


async def test_a_repeated_change_has_one_effect_and_one_audit_entry(quotas: Running) -> None:
    admin = quotas.person("admin")
    request_id = str(uuid4())
    for _ in range(3):
        cap = await set_cap(quotas, "admin", **own(admin), amount=5, request_id=request_id)
        assert cap.amount == 5
    error = await refused(set_cap(quotas, "admin", **own(admin), amount=6, request_id=request_id))
    assert (error.code, error.reason) == ("INVALID_ARGUMENT", "REQUEST_ID_REUSED")
    trail = await quotas.audit.ListAuditEntries(
        audit_service_pb2.ListAuditEntriesRequest(), metadata=bearer("admin")
    )
    assert [entry.result for entry in trail.entries].count("OK") == 1
    assert trail.entries[-1].method == "perron.api.quotas.v1.LimitService/SetCap"


async def test_there_are_at_most_32_caps_of_one_key(quotas: Running) -> None:
    admin = quotas.person("admin")
    for number in range(32):
        await set_cap(quotas, "admin", **own(admin, key_id=admin.key_id), model=f"m{number}", amount=5)
    await set_cap(quotas, "admin", **own(admin, key_id=admin.key_id), model="m0", amount=6)
    error = await refused(set_cap(quotas, "admin", **own(admin, key_id=admin.key_id), model="m32", amount=5))
    assert (error.code, error.reason) == ("FAILED_PRECONDITION", "LIMITS_TOO_MANY")


async def test_a_cap_that_does_not_exist_cannot_be_deleted(quotas: Running) -> None:
    admin = quotas.person("admin")
    error = await refused(delete_cap(quotas, "admin", **own(admin)))
    assert (error.code, error.reason) == ("NOT_FOUND", "RESOURCE_NOT_FOUND")


@pytest.mark.parametrize(
    "fields", [{"amount": -1}, {"amount": 2**63 - 1}, {"metric": 0}, {"metric": 3}, {"window": 9}]
)
async def test_a_malformed_cap_is_refused(quotas: Running, fields: dict[str, Any]) -> None:
    admin = quotas.person("admin")
    error = await refused(set_cap(quotas, "admin", **(own(admin) | {"amount": 1} | fields)))
    assert (error.code, error.reason) == ("INVALID_ARGUMENT", "FIELD_INVALID")


async def test_another_tenants_ids_look_like_ids_that_were_never_given_out(quotas: Running) -> None:
    admin = quotas.person("admin")
    stranger = Person(organization=2, workspace=20, key=20)
    await admit(quotas, stranger)
    texts = set()
    for target in (
        {"organization_id": stranger.organization_id},
        {"organization_id": identifier("org", 77)},
        own(admin, workspace_id=stranger.workspace_id),
        own(admin, workspace_id=identifier("ws", 77)),
        own(admin, key_id=stranger.key_id),
        own(admin, key_id=identifier("key", 77)),
    ):
        for call in (
            list_limits(quotas, bearer("admin"), **target),
            get_usage(quotas, bearer("admin"), **target),
            set_cap(quotas, "admin", **target, amount=1),
            delete_cap(quotas, "admin", **target),
        ):
            error = await refused(call)
            assert error.code == "NOT_FOUND"
            texts.add(error.message)
    assert len(texts) == 1
    assert (
        await refused(list_suspensions(quotas, bearer("admin"), organization_id=stranger.organization_id))
    ).code == ("NOT_FOUND")


async def test_a_workspace_that_has_not_reserved_yet_is_known_from_identity(quotas: Running) -> None:
    admin = quotas.person("admin")
    await set_cap(quotas, "admin", **own(admin, workspace_id=identifier("ws", 5)), amount=1)
    person = Person(workspace=5, key=5)
    await admit(quotas, person)
    assert (await refused(admit(quotas, person))).metadata["origin"] == "CAP"


async def test_an_administrator_of_a_workspace_caps_only_that_workspace_and_its_keys(quotas: Running) -> None:
    lead = quotas.person("lead", organization_role="MEMBER")
    await admit(quotas, Person(workspace=2, key=2))
    await admit(quotas, Person(key=3))
    await set_cap(quotas, "lead", **own(lead, workspace_id=lead.workspace_id), amount=1)
    await set_cap(quotas, "lead", **own(lead, key_id=identifier("key", 3)), amount=1)
    for elsewhere in (
        own(lead),
        own(lead, workspace_id=identifier("ws", 2)),
        own(lead, key_id=identifier("key", 2)),
    ):
        error = await refused(set_cap(quotas, "lead", **elsewhere, amount=1))
        assert (error.code, error.reason) == ("PERMISSION_DENIED", "ROLE_MISSING")
        error = await refused(get_usage(quotas, bearer("lead"), **elsewhere))
        assert (error.code, error.reason) == ("PERMISSION_DENIED", "ROLE_MISSING")


async def test_a_member_sees_limits_but_changes_none_and_only_operators_override(quotas: Running) -> None:
    member = quotas.person("member", organization_role="MEMBER", workspace_role="MEMBER")
    admin = quotas.person("admin")
    assert (await list_limits(quotas, bearer("member"))).tier == "free"
    assert (await refused(set_cap(quotas, "member", **own(member), amount=1))).reason == "ROLE_MISSING"
    assert (await refused(get_usage(quotas, bearer("member")))).reason == "ROLE_MISSING"
    request = limit_service_pb2.SetOverrideRequest(**own(admin), **REQUESTS_PER_MINUTE, amount=1)
    error = await refused(quotas.limits.SetOverride(request, metadata=bearer("admin")))
    assert (error.code, error.reason) == ("PERMISSION_DENIED", "CALLER_NOT_ALLOWED")


async def test_usage_says_what_is_counted_and_an_operator_sees_it_too(quotas: Running) -> None:
    admin = quotas.person("admin")
    await reserve(quotas, admin, model="large-1", tokens=300)
    for metadata in (bearer("admin"), OPERATOR):
        usages = (await get_usage(quotas, metadata, key_id=admin.key_id)).usages
        used = {each.status.limit.amount: (each.used, each.status.remaining) for each in usages}
        assert used == {20: (1, 19), 10_000: (300, 9700), 10: (1, 9), 500: (300, 200)}


async def test_a_suspension_is_recorded_with_its_true_reset_time(quotas: Running, clock: FakeClock) -> None:
    admin = quotas.person("admin")
    for _ in range(10):
        await admit(quotas, admin)
    error = await refused(admit(quotas, admin))
    await refused(admit(quotas, admin))
    (suspension,) = (await list_suspensions(quotas, bearer("admin"))).suspensions
    assert suspension.state == usage_service_pb2.Suspension.STATE_OPEN
    assert suspension.key_id == admin.key_id
    assert suspension.limit.amount == 10
    assert error.retry_after is not None
    clock.advance(error.retry_after)
    assert suspension.reset_time.ToMicroseconds() == clock.now_us()

    request = usage_service_pb2.GetSuspensionRequest(**own(admin), suspension_id=suspension.suspension_id)
    closed = (await quotas.usage.GetSuspension(request, metadata=bearer("admin"))).suspension
    assert closed.state == usage_service_pb2.Suspension.STATE_CLOSED
    assert closed.close_time == suspension.reset_time
    await admit(quotas, admin)


async def test_an_upgrade_closes_the_suspension(quotas: Running, clock: FakeClock) -> None:
    admin = quotas.person("admin")
    for _ in range(10):
        await admit(quotas, admin)
    await refused(admit(quotas, admin))
    await admit(quotas, Person(tier="scale-1"))
    (suspension,) = (await list_suspensions(quotas, OPERATOR)).suspensions
    assert suspension.state == usage_service_pb2.Suspension.STATE_CLOSED
    assert suspension.close_time.ToMicroseconds() == clock.now_us()


async def test_suspensions_are_listed_by_pages_that_are_bound_to_their_caller(quotas: Running) -> None:
    quotas.person("admin")
    for key in range(1, 6):
        await set_override(quotas, 1000)
        for _ in range(11):
            try:
                await admit(quotas, Person(key=key))
            except grpc.aio.AioRpcError:
                break
    found, token = [], ""
    for _ in range(3):
        page = await list_suspensions(quotas, bearer("admin"), page_size=2, page_token=token)
        found += [each.suspension_id for each in page.suspensions]
        token = page.next_page_token
    assert (len(found), token) == (5, "")
    assert found == sorted(set(found), reverse=True)

    first = await list_suspensions(quotas, bearer("admin"), page_size=2)
    for metadata, fields in (
        (OPERATOR, {}),
        (bearer("admin"), {"workspace_id": identifier("ws", 1)}),
    ):
        error = await refused(list_suspensions(quotas, metadata, page_token=first.next_page_token, **fields))
        assert (error.code, error.reason) == ("INVALID_ARGUMENT", "PAGE_TOKEN_INVALID")
    assert (await refused(list_suspensions(quotas, bearer("admin"), page_size=-1))).code == "INVALID_ARGUMENT"
    assert len((await list_suspensions(quotas, bearer("admin"), page_size=10**9)).suspensions) == 5


async def test_another_tenants_suspension_looks_like_one_that_does_not_exist(quotas: Running) -> None:
    admin = quotas.person("admin")
    stranger = Person(organization=2, workspace=20, key=20)
    for _ in range(10):
        await admit(quotas, stranger)
    await refused(admit(quotas, stranger))
    (theirs,) = (
        await list_suspensions(quotas, OPERATOR, organization_id=stranger.organization_id)
    ).suspensions
    texts = set()
    for suspension_id in (theirs.suspension_id, identifier("sus", 5)):
        request = usage_service_pb2.GetSuspensionRequest(**own(admin), suspension_id=suspension_id)
        error = await refused(quotas.usage.GetSuspension(request, metadata=bearer("admin")))
        assert error.code == "NOT_FOUND"
        texts.add(error.message)
    assert len(texts) == 1
