"""A channel to a peer that is busy: it is waited for, and not taken to be down."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from perron.chassis.channels import CHANNEL_OPTIONS, Peer
from perron.chassis.errors import Unavailable

HESITATION_SECONDS = 0.4
SHORT = (
    *(one for one in CHANNEL_OPTIONS if "min_reconnect" not in one[0]),
    ("grpc.min_reconnect_backoff_ms", 100),
)


async def test_a_peer_that_shakes_hands_late_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    assert await asked_of_a_slow_peer() == health_pb2.HealthCheckResponse.SERVING

    monkeypatch.setattr("perron.chassis.channels.CHANNEL_OPTIONS", SHORT)
    with pytest.raises(Unavailable):
        await asked_of_a_slow_peer()


async def asked_of_a_slow_peer() -> int:
    asking: asyncio.Task[health_pb2.HealthCheckResponse] | None = None

    async def hesitate() -> None:
        assert asking is not None
        await asyncio.wait({asking}, timeout=HESITATION_SECONDS)

    async with serving() as port, relayed(port, hesitate) as slow:
        peer = Peer("finetuning", f"127.0.0.1:{slow}", "")
        stub: Any = health_pb2_grpc.HealthStub(peer.channel)
        asking = asyncio.ensure_future(peer.call(stub.Check, health_pb2.HealthCheckRequest()))
        try:
            return (await asking).status
        finally:
            await peer.aclose()


@asynccontextmanager
async def serving() -> AsyncIterator[int]:
    server = grpc.aio.server()
    health_pb2_grpc.add_HealthServicer_to_server(health.aio.HealthServicer(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield port
    await server.stop(0)


@asynccontextmanager
async def relayed(port: int, hesitate: Callable[[], Awaitable[None]]) -> AsyncIterator[int]:
    """A port that takes a connection at once, and passes nothing on before it has hesitated."""

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await hesitate()
        reader_there, writer_there = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(pump(reader, writer_there), pump(reader_there, writer))

    async with await asyncio.start_server(relay, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while piece := await reader.read(65536):
        writer.write(piece)
    writer.close()
