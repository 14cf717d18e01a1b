"""Mints keys of the installation: for services and gateways, at the suite's first start."""

from collections.abc import Iterable, Iterator

from perron.api.identity.v1 import api_key_pb2, api_key_pb2_grpc
from perron.cli.connection import Connection, Credential


def service_keys(identity: str, operator_key: str, names: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Mints one service key for each name and gives it with its secret, which identity shows this one time.

    RefusedError where the operator may not, SetupError where identity does not answer at that address.
    """
    with Connection(Credential(operator_key, "the first operator"), {"identity": identity}) as connection:
        stub = connection.stub(api_key_pb2_grpc.ApiKeyServiceStub)
        for name in names:
            spec = api_key_pb2.ServiceKeySpec(name=name)
            request = api_key_pb2.CreatePlatformKeyRequest(display_name=name, service=spec)
            yield name, connection.ask(stub.CreatePlatformKey, request).secret
