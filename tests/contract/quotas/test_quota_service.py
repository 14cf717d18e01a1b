import asyncio
from datetime import timedelta
from typing import Any

import grpc
import pytest

from perron.api.quotas.v1 import limit_pb2
from perron.api.quotas.v1 import quota_service_pb2 as pb
from perron.chassis import status
from perron.chassis.errors import PerronError
from perron.chassis.testing import FakeClock
from tests.contract.quotas.stand_in import Person, Running, bearer, identifier

ADMISSION = bearer("admission")
REQUEST_ID = "5f0c7c2e-4d0f-4b1e-9a52-1f6f0f6d2a11"


async def reserve(quotas: Running, person: Person | None = None, **fields: Any) -> pb.ReserveResponse:
    request = pb.ReserveRequest(
        **({"passport": (person or Person()).passport, "model": "small-1", "requests": 1} | fields)
    )
    response: pb.ReserveResponse = await quotas.quotas.Reserve(request, metadata=ADMISSION)
    return response


async def settle(
    quotas: Running, reservation_id: str, tokens: int, organization: int = 1
) -> pb.SettleResponse:
    request = pb.SettleRequest(
        organization_id=identifier("org", organization), reservation_id=reservation_id, tokens=tokens
    )
    response: pb.SettleResponse = await quotas.quotas.Settle(request, metadata=ADMISSION)
    return response


async def release(quotas: Running, reservation_id: str, organization: int = 1) -> None:
    request = pb.ReleaseRequest(
        organization_id=identifier("org", organization), reservation_id=reservation_id
    )
    await quotas.quotas.Release(request, metadata=ADMISSION)


async def refused(call: Any) -> PerronError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return status.from_rpc_error(caught.value)


async def test_an_answer_says_where_every_limit_stands(quotas: Running, clock: FakeClock) -> None:
    response = await reserve(quotas, tokens=100, model="large-1")
    assert response.reservation_id.startswith("res_")
    assert response.expire_time.ToMicroseconds() == clock.now_us() + 600_000_000
    stands = {
        (each.limit.scope, each.limit.metric, each.limit.window): (each.limit.amount, each.remaining)
        for each in response.statuses
    }
    requests, tokens = limit_pb2.METRIC_REQUESTS, limit_pb2.METRIC_TOKENS
    assert stands == {
        (limit_pb2.LIMIT_SCOPE_ORGANIZATION, requests, limit_pb2.WINDOW_MINUTE): (20, 19),
        (limit_pb2.LIMIT_SCOPE_WORKSPACE, tokens, limit_pb2.WINDOW_HOUR): (10_000, 9900),
        (limit_pb2.LIMIT_SCOPE_KEY, requests, limit_pb2.WINDOW_MINUTE): (10, 9),
        (limit_pb2.LIMIT_SCOPE_KEY, tokens, limit_pb2.WINDOW_DAY): (500, 400),
    }
    assert all(each.reset_time.ToMicroseconds() > clock.now_us() for each in response.statuses)


async def test_exactly_the_limit_then_refused_with_the_time_to_come_back(
    quotas: Running, clock: FakeClock
) -> None:
    for _ in range(10):
        await reserve(quotas)
    error = await refused(reserve(quotas))
    assert (error.code, error.reason) == ("RESOURCE_EXHAUSTED", "LIMIT_REACHED")
    expected = {"scope": "KEY", "metric": "REQUESTS", "window": "MINUTE", "amount": "10", "remaining": "0"}
    assert expected.items() <= error.metadata.items()
    assert "upgrade" in error.metadata["lifted_by"]
    assert error.quota
    assert error.retry_after is not None
    clock.advance(error.retry_after)
    await reserve(quotas)


async def test_simultaneous_calls_admit_exactly_the_limit(quotas: Running) -> None:
    results = await asyncio.gather(*(reserve(quotas) for _ in range(60)), return_exceptions=True)
    errors = [each for each in results if isinstance(each, grpc.aio.AioRpcError)]
    assert len(results) - len(errors) == 10
    assert {each.code() for each in errors} == {grpc.StatusCode.RESOURCE_EXHAUSTED}
    assert all(status.from_rpc_error(each).retry_after is not None for each in errors)


async def test_a_cost_above_the_amount_is_told_so_without_a_time_to_come_back(quotas: Running) -> None:
    error = await refused(reserve(quotas, model="large-1", tokens=501))
    assert (error.code, error.reason, error.retry_after) == ("RESOURCE_EXHAUSTED", "EXCEEDS_LIMIT", None)


async def test_checking_charges_nothing_and_makes_no_reservation(quotas: Running) -> None:
    for _ in range(30):
        checked = await reserve(quotas, mode=pb.RESERVE_MODE_CHECK_ONLY)
        assert checked.reservation_id == ""
        assert not checked.HasField("expire_time")
    for _ in range(10):
        await reserve(quotas)
    error = await refused(reserve(quotas, mode=pb.RESERVE_MODE_CHECK_ONLY))
    assert error.reason == "LIMIT_REACHED"


async def test_the_upgraded_plan_admits_the_very_next_call(quotas: Running) -> None:
    for _ in range(10):
        await reserve(quotas)
    assert (await refused(reserve(quotas))).reason == "LIMIT_REACHED"
    await reserve(quotas, Person(tier="scale-1"))


async def test_a_tier_that_is_not_known_is_never_without_limits(quotas: Running) -> None:
    error = await refused(reserve(quotas, Person(tier="gone")))
    assert (error.code, error.reason) == ("FAILED_PRECONDITION", "TIER_UNKNOWN")


async def test_the_same_request_id_reserves_once(quotas: Running) -> None:
    results = await asyncio.gather(*(reserve(quotas, request_id=REQUEST_ID) for _ in range(100)))
    assert len({each.reservation_id for each in results}) == 1
    checked = await reserve(quotas, mode=pb.RESERVE_MODE_CHECK_ONLY)
    assert [each.remaining for each in checked.statuses if each.limit.amount == 10] == [9]

    error = await refused(reserve(quotas, request_id=REQUEST_ID, tokens=1))
    assert (error.code, error.reason) == ("INVALID_ARGUMENT", "REQUEST_ID_REUSED")
    other = await reserve(quotas, Person(organization=2, workspace=12, key=12), request_id=REQUEST_ID)
    assert other.reservation_id != results[0].reservation_id


@pytest.mark.parametrize(
    "fields",
    [
        {"requests": 0},
        {"requests": -1},
        {"requests": 2**63 - 1},
        {"tokens": -1},
        {"tokens": 1_000_000_001},
        {"tokens": 2**63 - 1},
        {"ttl": {"seconds": 0}},
        {"ttl": {"seconds": -1}},
        {"ttl": {"seconds": 86_401}},
        {"ttl": {"seconds": 315_576_000_000}},
        {"mode": 7},
        {"model": ""},
        {"model": "m" * 129},
        {"model": "../etc/passwd\x00"},
        {"model": "\uff4carge-1"},
        {"request_id": "00000000-0000-0000-0000-000000000000"},
        {"request_id": "not a uuid"},
    ],
)
async def test_what_the_contract_bounds_is_refused(quotas: Running, fields: dict[str, Any]) -> None:
    error = await refused(reserve(quotas, **fields))
    assert (error.code, error.reason) == ("INVALID_ARGUMENT", "FIELD_INVALID")
    (only,) = (await batch(quotas, [dict(fields)])).results
    assert status.from_status(only.error).reason == "FIELD_INVALID"


async def batch(
    quotas: Running, items: list[dict[str, Any]], passports: list[str] | None = None
) -> pb.BatchReserveResponse:
    request = pb.BatchReserveRequest(
        passports=passports or [Person().passport],
        items=[pb.ReserveItem(**({"model": "small-1", "requests": 1} | item)) for item in items],
    )
    response: pb.BatchReserveResponse = await quotas.quotas.BatchReserve(request, metadata=ADMISSION)
    return response


async def test_one_bad_item_among_64_of_different_tenants_spoils_no_other(quotas: Running) -> None:
    passports = [Person(organization=n, workspace=n, key=n).passport for n in range(1, 65)]
    items: list[dict[str, Any]] = [{"passport_index": index} for index in range(64)]
    items[13] = {"passport_index": 13, "requests": -5}
    items[20] = {"passport_index": 100}
    passports[40] = "forged"
    results = (await batch(quotas, items, passports)).results
    assert len(results) == 64
    reasons = {
        index: status.from_status(each.error).reason
        for index, each in enumerate(results)
        if each.HasField("error")
    }
    assert reasons == {13: "FIELD_INVALID", 20: "FIELD_INVALID", 40: "PASSPORT_INVALID"}


async def test_items_of_one_key_are_admitted_in_order_up_to_the_limit(quotas: Running) -> None:
    results = (await batch(quotas, [{}] * 30)).results
    assert [each.HasField("response") for each in results] == [True] * 10 + [False] * 20


@pytest.mark.parametrize("count", [0, 129, 50_000])
async def test_a_batch_of_the_wrong_size_is_refused_whole(quotas: Running, count: int) -> None:
    error = await refused(batch(quotas, [{}] * count))
    assert error.code == "INVALID_ARGUMENT"


async def test_settling_corrects_once(quotas: Running) -> None:
    reservation = await reserve(quotas, tokens=300)
    first = await settle(quotas, reservation.reservation_id, 120)
    assert (first.tokens, first.refunded_tokens, first.debt_tokens) == (120, 180, 0)
    assert await settle(quotas, reservation.reservation_id, 120) == first
    assert await settle(quotas, reservation.reservation_id, 5) == first


async def test_settling_more_than_reserved_is_debt(quotas: Running, clock: FakeClock) -> None:
    reservation = await reserve(quotas, model="large-1", tokens=400)
    settled = await settle(quotas, reservation.reservation_id, 900)
    assert (settled.tokens, settled.refunded_tokens, settled.debt_tokens) == (900, 0, 500)
    error = await refused(reserve(quotas, model="large-1", tokens=1))
    assert error.metadata["remaining"] == "0"
    assert error.retry_after is not None
    clock.advance(error.retry_after)
    await reserve(quotas, model="large-1", tokens=1)


async def test_anothers_reservation_looks_like_one_that_does_not_exist(quotas: Running) -> None:
    reservation = await reserve(quotas, tokens=300)
    foreign = await refused(settle(quotas, reservation.reservation_id, 0, organization=2))
    absent = await refused(settle(quotas, identifier("res", 5), 0))
    assert (foreign.code, foreign.message) == ("NOT_FOUND", absent.message)
    assert (await refused(release(quotas, reservation.reservation_id, 2))).message == absent.message


async def test_a_reservation_is_settled_or_released_never_both(quotas: Running) -> None:
    settled = (await reserve(quotas, tokens=3)).reservation_id
    await settle(quotas, settled, 3)
    error = await refused(release(quotas, settled))
    assert (error.code, error.reason) == ("FAILED_PRECONDITION", "RESERVATION_CLOSED")

    released = (await reserve(quotas, tokens=3)).reservation_id
    await release(quotas, released)
    await release(quotas, released)
    assert (await refused(settle(quotas, released, 3))).reason == "RESERVATION_CLOSED"


async def test_a_late_settlement_corrects_for_24_hours(quotas: Running, clock: FakeClock) -> None:
    one, two = [(await reserve(quotas, tokens=3, ttl={"seconds": 60})).reservation_id for _ in range(2)]
    clock.advance(timedelta(seconds=60, hours=24))
    await settle(quotas, one, 1)
    clock.advance(timedelta(microseconds=1))
    error = await refused(settle(quotas, two, 1))
    assert (error.code, error.reason) == ("FAILED_PRECONDITION", "RESERVATION_EXPIRED")
    assert (await settle(quotas, one, 1)).tokens == 1


async def test_a_batch_of_settlements_answers_each_by_itself(quotas: Running) -> None:
    reservation = (await reserve(quotas, tokens=300)).reservation_id
    request = pb.BatchSettleRequest(
        items=[
            pb.SettleRequest(organization_id=identifier("org", 1), reservation_id=reservation, tokens=100),
            pb.SettleRequest(
                organization_id=identifier("org", 1), reservation_id=identifier("res", 5), tokens=1
            ),
            pb.SettleRequest(organization_id="x", reservation_id=reservation, tokens=1),
            pb.SettleRequest(organization_id=identifier("org", 1), reservation_id=reservation, tokens=-1),
            pb.SettleRequest(
                organization_id=identifier("org", 1), reservation_id="res_" + "z" * 26, tokens=1
            ),
        ]
    )
    results = (await quotas.quotas.BatchSettle(request, metadata=ADMISSION)).results
    assert results[0].response.refunded_tokens == 200
    reasons = [status.from_status(each.error).reason for each in results[1:]]
    assert reasons == ["RESOURCE_NOT_FOUND", "FIELD_INVALID", "FIELD_INVALID", "FIELD_INVALID"]


async def test_only_admission_reserves(quotas: Running) -> None:
    request = pb.ReserveRequest(passport=Person().passport, model="small-1", requests=1)
    quotas.person("admin")
    for name in ("gateway", "operator", "admin"):
        error = await refused(quotas.quotas.Reserve(request, metadata=bearer(name)))
        assert (error.code, error.reason) == ("PERMISSION_DENIED", "CALLER_NOT_ALLOWED")
    forged = pb.ReserveRequest(passport="forged", model="small-1", requests=1)
    assert (await refused(quotas.quotas.Reserve(forged, metadata=ADMISSION))).reason == "PASSPORT_INVALID"


async def test_a_caller_that_gives_up_leaves_no_half_a_reservation(quotas: Running) -> None:
    calls = [asyncio.ensure_future(reserve(quotas)) for _ in range(8)]
    await asyncio.sleep(0)
    for call in calls[::2]:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    checked = await reserve(quotas, mode=pb.RESERVE_MODE_CHECK_ONLY)
    used = {
        each.limit.scope: each.limit.amount - each.remaining
        for each in checked.statuses
        if each.limit.metric == 1
    }
    assert len(set(used.values())) == 1
    assert 4 <= used[limit_pb2.LIMIT_SCOPE_KEY] <= 8
