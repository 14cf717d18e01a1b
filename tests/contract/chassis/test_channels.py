"""A channel to a peer that is busy: it is waited for, and not taken to be down."""

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
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
    answered = threading.Event()
    async with serving() as port, relayed(port, lambda: answered.wait(HESITATION_SECONDS)) as slow:
        peer = Peer("finetuning", f"127.0.0.1:{slow}", "")
        stub: Any = health_pb2_grpc.HealthStub(peer.channel)
        try:
            response = await peer.call(stub.Check, health_pb2.HealthCheckRequest())
            return int(response.status)
        finally:
            answered.set()
            await peer.aclose()


@asynccontextmanager
async def serving() -> AsyncIterator[int]:
    server = grpc.aio.server()
    health_pb2_grpc.add_HealthServicer_to_server(health.aio.HealthServicer(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield port
    finally:
        await server.stop(0)


@asynccontextmanager
async def relayed(port: int, hesitate: Callable[[], object]) -> AsyncIterator[int]:
    """A port that takes a connection at once, and passes nothing on before it has hesitated."""
    relays: list[threading.Thread] = []
    callers: list[socket.socket] = []

    def accept() -> None:
        with suppress(OSError):  # closed
            while True:
                callers.append(listener.accept()[0])
                relays.append(threading.Thread(target=relay, args=(callers[-1],)))
                relays[-1].start()

    def relay(caller: socket.socket) -> None:
        hesitate()
        with caller, suppress(OSError), socket.create_connection(("127.0.0.1", port)) as there:
            back = threading.Thread(target=pump, args=(there, caller))
            back.start()
            pump(caller, there)
            back.join()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        taking = threading.Thread(target=accept)
        taking.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            await asyncio.to_thread(taking.join)
            for caller in callers:
                with suppress(OSError):  # it went first
                    caller.shutdown(socket.SHUT_RDWR)
            for thread in relays:
                await asyncio.to_thread(thread.join)


def pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):  # the other end went first
        while piece := source.recv(65536):
            sink.sendall(piece)
    for end in (source, sink):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
