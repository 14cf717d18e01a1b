"""Callers who hang up, have no time, or ask a thousand things at once disturb nobody."""

import asyncio
import random
import time
from collections import Counter
from typing import Any

import grpc
import pytest

from perron.api.admission.v1 import admission_service_pb2 as admission
from perron.api.admission.v1 import admission_service_pb2_grpc as admission_grpc
from perron.api.common.v1 import roles_pb2
from tests import scale
from tests.attacks.people import Tenant
from tests.attacks.requests import Requests
from tests.attacks.things import MODEL
from tests.attacks.wire import ANSWERS, OPTIONS, assert_nothing_inside, ids_of, read
from tests.attacks.world import World
from tests.rpcs import RPCS, Rpc

IN_FLIGHT = 2_000
ROUNDS = 20
MINE_SECONDS = 60.0
POLITE_SECONDS = scale.times(60, 900)

each_rpc = pytest.mark.parametrize("rpc", RPCS, ids=str)
each_mutation = pytest.mark.parametrize(
    "rpc", [rpc for rpc in RPCS if rpc.idempotent and rpc.batch_item is None], ids=str
)


def key_for(world: World, rpc: Rpc) -> str | None:
    return None if rpc.access.public else world.caller(rpc.access).secret


def bearer(key: str | None) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {key}"),) if key is not None else ()


@each_rpc
def test_a_deadline_of_a_millisecond_is_kept_or_refused_as_such(
    rpc: Rpc, world: World, requests: Requests
) -> None:
    for _ in range(5):
        answer = world.wire.call(rpc, requests.valid(rpc), key_for(world, rpc), timeout=0.001)
        assert answer.code in ANSWERS | {"DEADLINE_EXCEEDED", "CANCELLED"}, str(answer)
        assert_nothing_inside(answer)
    passed = world.wire.call(rpc, requests.valid(rpc), key_for(world, rpc), timeout=-1)
    assert passed.code == "DEADLINE_EXCEEDED" or rpc.streams


@each_mutation
async def test_a_cancelled_mutation_happens_whole_or_not_at_all(
    rpc: Rpc, world: World, requests: Requests
) -> None:
    """Whenever the caller hangs up, the same request sent again finishes it, or finds it done."""
    world.refill(world.tenant)
    key = key_for(world, rpc)
    request = requests.valid(rpc)
    raw = request.SerializeToString()
    draw = random.Random(str(rpc))
    async with grpc.aio.insecure_channel(world.suite.endpoints[rpc.host], OPTIONS) as channel:
        for wait in [0.0, *(draw.uniform(0, 0.02) for _ in range(scale.times(ROUNDS, 500)))]:
            call = asyncio.create_task(answered(channel, rpc, raw, key))
            await asyncio.wait({call}, timeout=wait)
            call.cancel()
        finished = await answered(channel, rpc, raw, key)
        repeated = await answered(channel, rpc, raw, key)

    response: Any = rpc.response
    assert ids_of(response.FromString(finished)) == ids_of(response.FromString(repeated))
    assert world.is_undisturbed()


async def answered(channel: Any, rpc: Rpc, raw: bytes, key: str | None) -> bytes:
    """Calls and returns the answer, of a stream its first message."""
    if not rpc.streams:
        return bytes(await channel.unary_unary(rpc.path)(raw, metadata=bearer(key), timeout=10))
    call = channel.unary_stream(rpc.path)(raw, metadata=bearer(key), timeout=10)
    try:
        return bytes(await call.read())
    finally:
        call.cancel()


async def test_a_caller_that_always_hangs_up_takes_nobody_with_it(world: World) -> None:
    """Its calls share batches with those of the others."""
    stop = asyncio.Event()
    cancelled = 0
    async with grpc.aio.insecure_channel(world.suite.endpoints["admission"], OPTIONS) as channel:
        stub = admission_grpc.AdmissionServiceStub(channel)

        async def hang_up() -> None:
            nonlocal cancelled
            while not stop.is_set():
                calls = [admit(stub, world, world.tenant) for _ in range(8)]
                await asyncio.sleep(random.uniform(0, 0.01))
                for call in calls:
                    call.cancel()
                    cancelled += 1
                await asyncio.gather(*calls, return_exceptions=True)

        async def behave() -> list[str]:
            answered = []
            for _ in range(scale.times(6, 200)):
                admitted = await admit(stub, world, world.other)
                completed = await complete(stub, world, admitted.admission_id)
                answered.append("OK" if completed.settled_tokens == 5 else "wrong")
            return answered

        rude = [asyncio.create_task(hang_up()) for _ in range(4)]
        polite = await asyncio.wait_for(asyncio.gather(*(behave() for _ in range(16))), POLITE_SECONDS)
        stop.set()
        await asyncio.gather(*rude)

    assert {answer for each in polite for answer in each} == {"OK"}
    assert cancelled
    assert world.is_undisturbed()
    scale.record("a caller that always hangs up takes nobody with it", cancelled=cancelled)


@pytest.mark.parametrize("connections", [1, scale.times(50, 500)])
async def test_everybody_is_answered_while_one_tenant_keeps_2000_calls_in_flight(
    connections: int, world: World
) -> None:
    channels = [
        grpc.aio.insecure_channel(
            world.suite.endpoints["admission"], (*OPTIONS, ("grpc.use_local_subchannel_pool", 1))
        )
        for _ in range(connections)
    ]
    stubs = [admission_grpc.AdmissionServiceStub(channel) for channel in channels]
    codes: Counter[str] = Counter()

    async def greedy(number: int) -> None:
        try:
            await admit(stubs[number % connections], world, world.tenant, timeout=MINE_SECONDS)
            codes["OK"] += 1
        except grpc.aio.AioRpcError as failed:
            answer = read(failed)
            codes[f"{answer.code} {answer.reason}"] += 1
            if answer.code in {"RESOURCE_EXHAUSTED", "UNAVAILABLE"}:
                assert answer.error is not None
                assert answer.error.retry_after is not None, str(answer)

    flood = [asyncio.create_task(greedy(number)) for number in range(IN_FLIGHT)]
    waited = []
    while not all(task.done() for task in flood):
        start = time.perf_counter()
        admitted = await admit(stubs[0], world, world.other, timeout=MINE_SECONDS)
        await complete(stubs[0], world, admitted.admission_id, timeout=MINE_SECONDS)
        waited.append(time.perf_counter() - start)
    await asyncio.gather(*flood)
    for channel in channels:
        await channel.close()

    assert sum(codes.values()) == IN_FLIGHT
    assert set(codes) <= {"OK", "RESOURCE_EXHAUSTED OVERLOADED", "RESOURCE_EXHAUSTED LIMIT_REACHED"}, codes
    assert waited
    assert world.is_undisturbed()
    scale.record(
        f"2,000 calls of one tenant in flight on {connections} connections are all answered",
        **{code.lower().replace(" ", "_"): count for code, count in codes.items()},
        slowest_of_others_seconds=round(max(waited), 3),
    )


async def test_a_call_without_a_deadline_gets_one(world: World) -> None:
    """And is answered long before, where nothing hinders it."""
    async with grpc.aio.insecure_channel(world.suite.endpoints["admission"], OPTIONS) as channel:
        stub = admission_grpc.AdmissionServiceStub(channel)
        admitted = await asyncio.wait_for(admit(stub, world, world.other, timeout=None), 10)

    assert admitted.admission_id


def admit(stub: Any, world: World, tenant: Tenant, *, timeout: float | None = 20) -> Any:
    request = admission.AdmitRequest(
        credential=tenant.admin.secret, model=MODEL, estimated_tokens=10, channel=roles_pb2.CHANNEL_API
    )
    return stub.Admit(request, metadata=bearer(world.services["gateway"].secret), timeout=timeout)


def complete(stub: Any, world: World, admission_id: str, *, timeout: float = 20) -> Any:
    request = admission.CompleteRequest(admission_id=admission_id, tokens=5)
    return stub.Complete(request, metadata=bearer(world.services["gateway"].secret), timeout=timeout)
