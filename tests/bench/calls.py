"""The kinds of calls that loads are made of; each returns how many items it got done."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import grpc

from perron.api.admission.v1 import admission_service_pb2, admission_service_pb2_grpc
from perron.api.agents.v1 import agent_service_pb2, agent_service_pb2_grpc
from perron.api.common.v1 import roles_pb2
from perron.api.governance.v1 import decision_pb2, decision_service_pb2, decision_service_pb2_grpc
from perron.api.identity.v1 import api_key_pb2, api_key_pb2_grpc
from perron.api.quotas.v1 import quota_service_pb2, quota_service_pb2_grpc
from tests.bench.empty_server import METHOD, PAYLOAD, SERVICE

Call = Callable[[], Awaitable[int]]

BATCH = 64
ESTIMATED_TOKENS, USED_TOKENS = 100, 80
MODEL = "small-1"
DEADLINE_SECONDS = 30.0
PASSPORT_SECONDS = 8.0  # drawn anew well before the 30 s that a passport lives, of which half may be gone

CHANNEL_OPTIONS = (
    ("grpc.max_receive_message_length", 16 * 1024 * 1024),
    ("grpc.max_send_message_length", 16 * 1024 * 1024),
)


@asynccontextmanager
async def calls(
    kind: str,
    target: str,
    credential: str,
    secrets: Sequence[str],
    identity_target: str,
    agents: Sequence[Sequence[str]],
) -> AsyncIterator[Call]:
    """Gives a function that makes one call of a kind."""
    metadata = (("authorization", f"Bearer {credential}"),)
    async with grpc.aio.insecure_channel(target, CHANNEL_OPTIONS) as channel:
        match kind:
            case "empty":
                yield _empty(channel)
            case "admit":
                yield _admit(channel, metadata, secrets)
            case "admit_complete":
                yield _admit_complete(channel, metadata, secrets)
            case "verify":
                yield _verify(channel, metadata, secrets)
            case "reserve" | "decide":
                async with passports(identity_target, metadata, secrets) as drawn:
                    yield (_reserve if kind == "reserve" else _decide)(channel, metadata, drawn)
            case "resolve":
                async with passports(identity_target, metadata, secrets) as drawn:
                    yield _resolve(channel, metadata, drawn, agents)
            case "list_agents":
                yield _list_agents(channel, metadata)
            case _:
                raise ValueError(kind)


def _empty(channel: grpc.aio.Channel) -> Call:
    method = channel.unary_unary(f"/{SERVICE}/{METHOD}")

    async def once() -> int:
        await method(PAYLOAD, timeout=DEADLINE_SECONDS)
        return 1

    return once


def _admit(channel: grpc.aio.Channel, metadata: Any, secrets: Sequence[str]) -> Call:
    admit = admission_service_pb2_grpc.AdmissionServiceStub(channel).Admit
    requests = _admit_requests(secrets)

    async def once() -> int:
        await admit(random.choice(requests), metadata=metadata, timeout=DEADLINE_SECONDS)
        return 1

    return once


def _admit_complete(channel: grpc.aio.Channel, metadata: Any, secrets: Sequence[str]) -> Call:
    stub = admission_service_pb2_grpc.AdmissionServiceStub(channel)
    requests = _admit_requests(secrets)

    async def once() -> int:
        admitted = await stub.Admit(random.choice(requests), metadata=metadata, timeout=DEADLINE_SECONDS)
        request = admission_service_pb2.CompleteRequest(
            admission_id=admitted.admission_id, tokens=USED_TOKENS
        )
        await stub.Complete(request, metadata=metadata, timeout=DEADLINE_SECONDS)
        return 1

    return once


def _admit_requests(secrets: Sequence[str]) -> list[admission_service_pb2.AdmitRequest]:
    return [
        admission_service_pb2.AdmitRequest(
            credential=secret, model=MODEL, estimated_tokens=ESTIMATED_TOKENS, channel=roles_pb2.CHANNEL_API
        )
        for secret in secrets
    ]


def _verify(channel: grpc.aio.Channel, metadata: Any, secrets: Sequence[str]) -> Call:
    verify = api_key_pb2_grpc.ApiKeyServiceStub(channel).BatchVerify
    items = [api_key_pb2.VerifyRequest(credential=secret) for secret in secrets]

    async def once() -> int:
        request = api_key_pb2.BatchVerifyRequest(items=random.choices(items, k=BATCH))
        response = await verify(request, metadata=metadata, timeout=DEADLINE_SECONDS)
        return _answered(response.results)

    return once


def _reserve(channel: grpc.aio.Channel, metadata: Any, drawn: list[str]) -> Call:
    reserve = quota_service_pb2_grpc.QuotaServiceStub(channel).BatchReserve

    async def once() -> int:
        chosen, places = _with_places(drawn)
        items = [
            quota_service_pb2.ReserveItem(
                passport_index=place, model=MODEL, requests=1, tokens=ESTIMATED_TOKENS
            )
            for place in places
        ]
        request = quota_service_pb2.BatchReserveRequest(passports=chosen, items=items)
        response = await reserve(request, metadata=metadata, timeout=DEADLINE_SECONDS)
        return _answered(response.results)

    return once


def _decide(channel: grpc.aio.Channel, metadata: Any, drawn: list[str]) -> Call:
    decide = decision_service_pb2_grpc.DecisionServiceStub(channel).BatchDecide

    async def once() -> int:
        chosen, places = _with_places(drawn)
        items = [
            decision_service_pb2.DecideItem(
                passport_index=place,
                data_kind=decision_pb2.DATA_KIND_INFERENCE,
                channel=roles_pb2.CHANNEL_API,
            )
            for place in places
        ]
        request = decision_service_pb2.BatchDecideRequest(passports=chosen, items=items)
        response = await decide(request, metadata=metadata, timeout=DEADLINE_SECONDS)
        return _answered(response.results)

    return once


def _resolve(
    channel: grpc.aio.Channel, metadata: Any, drawn: list[str], agents: Sequence[Sequence[str]]
) -> Call:
    """Agents by id, no two alike: what a batch names twice would be read once."""
    resolve = agent_service_pb2_grpc.AgentServiceStub(channel).BatchResolve
    keys_each = len(drawn) // len(agents)
    everywhere = [(place, agent) for place, own in enumerate(agents) for agent in own]

    async def once() -> int:
        chosen = random.sample(everywhere, BATCH)
        keys = [place * keys_each + random.randrange(keys_each) for place, _ in chosen]
        places: dict[str, int] = {}
        items = [
            agent_service_pb2.ResolveItem(
                passport_index=places.setdefault(drawn[key], len(places)),
                agent=agent,
                channel=roles_pb2.CHANNEL_API,
            )
            for key, (_, agent) in zip(keys, chosen, strict=True)
        ]
        request = agent_service_pb2.BatchResolveRequest(passports=list(places), items=items)
        response = await resolve(request, metadata=metadata, timeout=DEADLINE_SECONDS)
        return _answered(response.results)

    return once


def _list_agents(channel: grpc.aio.Channel, metadata: Any) -> Call:
    """Pages from the first to the last, and over again."""
    listing = agent_service_pb2_grpc.AgentServiceStub(channel).ListAgents
    tokens: list[str] = []

    async def once() -> int:
        request = agent_service_pb2.ListAgentsRequest(page_token=tokens.pop() if tokens else "")
        response = await listing(request, metadata=metadata, timeout=DEADLINE_SECONDS)
        tokens.append(response.next_page_token)
        return 1

    return once


@asynccontextmanager
async def passports(target: str, metadata: Any, secrets: Sequence[str]) -> AsyncIterator[list[str]]:
    """Gives a list with one passport per key, kept fresh in place."""
    async with grpc.aio.insecure_channel(target, CHANNEL_OPTIONS) as channel:
        verify = api_key_pb2_grpc.ApiKeyServiceStub(channel).BatchVerify
        drawn: list[str] = []

        async def draw() -> None:
            fresh: list[str] = []
            for start in range(0, len(secrets), BATCH):
                items = [
                    api_key_pb2.VerifyRequest(credential=secret, want_passport=True)
                    for secret in secrets[start : start + BATCH]
                ]
                response = await verify(api_key_pb2.BatchVerifyRequest(items=items), metadata=metadata)
                fresh.extend(result.response.passport for result in response.results)
            drawn[:] = fresh

        async def refresh() -> None:
            while True:
                await asyncio.sleep(PASSPORT_SECONDS)
                await draw()

        await draw()
        task = asyncio.create_task(refresh())
        try:
            yield drawn
        finally:
            task.cancel()


def _with_places(drawn: list[str]) -> tuple[list[str], list[int]]:
    places: dict[str, int] = {}
    indexes = [places.setdefault(passport, len(places)) for passport in random.choices(drawn, k=BATCH)]
    return list(places), indexes


def _answered(results: Any) -> int:
    refused = next((result.error for result in results if result.HasField("error")), None)
    if refused is not None:
        raise RuntimeError(f"an item was refused: {refused.message}")
    return len(results)
