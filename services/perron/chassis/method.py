"""One RPC as its contract declares it: names, shape, messages, and who may call it.

Interceptors read it when a method is registered. A method without an access declaration stops the server
from starting.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from google.protobuf import descriptor_pool, message_factory

from perron.api.common.v1 import access_pb2
from perron.chassis.errors import SetupError

if TYPE_CHECKING:
    from google.protobuf.descriptor import MethodDescriptor
    from google.protobuf.message import Message
    from grpc.aio import ServicerContext

    Context = ServicerContext[Any, Any]

Behaviour = Callable[[Any, Any], Any]
"""A handler: (request or its iterator, context) → an awaitable response, or for streams an asynchronous
iterator of them.
"""


@dataclass(frozen=True, slots=True)
class Method:
    """A method of a service; `path` is how it goes over the wire, `/package.Service/Name`."""

    path: str
    request: type[Message]
    response: type[Message]
    request_streams: bool
    response_streams: bool
    access: access_pb2.Access
    idempotent: bool

    @property
    def name(self) -> str:
        """The method as traces and audit entries name it."""
        return self.path[1:]


FOREIGN_ACCESS: dict[str, access_pb2.Access] = {
    "grpc.health.v1.Health": access_pb2.Access(public=True),
    "grpc.reflection.v1alpha.ServerReflection": access_pb2.Access(
        customer=access_pb2.CustomerAccess(),
        operator=access_pb2.OperatorAccess(),
        service=access_pb2.ServiceAccess(names=["*"]),
    ),
}
"""Who may call the services that are not ours and so declare nothing. Nothing else foreign may be
registered.
"""


def methods(service: str) -> dict[str, Method]:
    """The methods of a service by their short names. Raises SetupError where one declares no access."""
    descriptor = descriptor_pool.Default().FindServiceByName(service)
    return {found.name: _method(found) for found in descriptor.methods}


def _method(descriptor: MethodDescriptor) -> Method:
    service = descriptor.containing_service.full_name
    options = descriptor.GetOptions()
    if service in FOREIGN_ACCESS:
        access = FOREIGN_ACCESS[service]
    elif options.HasExtension(access_pb2.access):
        access = options.Extensions[access_pb2.access]
    else:
        message = f"{descriptor.full_name} declares no access; no server starts with it"
        raise SetupError(message)
    return Method(
        path=f"/{service}/{descriptor.name}",
        request=message_factory.GetMessageClass(descriptor.input_type),
        response=message_factory.GetMessageClass(descriptor.output_type),
        request_streams=descriptor.client_streaming,
        response_streams=descriptor.server_streaming,
        access=access,
        idempotent=options.Extensions[access_pb2.idempotent],
    )
