"""Where the services listen: their ports, and whether anybody answers there yet."""

import socket
from collections.abc import Mapping, Sequence

import grpc
from grpc_health.v1 import health_pb2

from perron.chassis.errors import SetupError

# In the order in which they are shown; the number is added to the first port.
PORT_OFFSETS: Mapping[str, int] = {
    "admission": 0,
    "identity": 1,
    "quotas": 2,
    "governance": 3,
    "agents": 4,
    "finetuning": 5,
}
SERVICES = tuple(PORT_OFFSETS)


def addresses(services: Sequence[str], first_port: int) -> dict[str, str]:
    """The address of each service, counted from the first port, or on free ports where that is 0.

    SetupError names a port that somebody else listens on.
    """
    sockets: dict[str, socket.socket] = {}
    try:
        # All held at once, so that no free port is drawn twice.
        for name in services:
            port = first_port + PORT_OFFSETS[name] if first_port else 0
            held = sockets[name] = socket.socket()
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                held.bind(("127.0.0.1", port))
            except OSError:
                raise SetupError(
                    f"port {port} ({name}) is in use: end what listens there, or change --port-base"
                ) from None
        return {name: f"127.0.0.1:{held.getsockname()[1]}" for name, held in sockets.items()}
    finally:
        for held in sockets.values():
            held.close()


def is_serving(channel: grpc.Channel) -> bool:
    """Whether the service at the other end says that it is ready."""
    check = channel.unary_unary(
        "/grpc.health.v1.Health/Check",
        request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
        response_deserializer=health_pb2.HealthCheckResponse.FromString,
    )
    try:
        answer = check(health_pb2.HealthCheckRequest(), timeout=2.0)
    except grpc.RpcError:
        return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)
