"""What surrounds every call, over a real channel: nothing leaks, nobody unknown comes in, every call ends."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from pydantic_settings import SettingsConfigDict

from perron.api.common.v1 import (
    audit_service_pb2,
    audit_service_pb2_grpc,
    event_service_pb2,
    event_service_pb2_grpc,
)
from perron.chassis import credentials, status
from perron.chassis.errors import NotFound, PerronError, SetupError
from perron.chassis.interceptors.access import Caller, CallerKind, Verified, current_call
from perron.chassis.server import Application
from perron.chassis.settings import ServiceSettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

SECRET = "the text of an exception that quotes a prompt"
EVENTS = "perron.api.common.v1.EventService"
AUDIT = "perron.api.common.v1.AuditService"


def key(name: str) -> str:
    return credentials.with_checksum("test", name.ljust(43, "0"))


CALLERS = {
    key("service"): Verified("VALID", Caller(CallerKind.SERVICE, key_id="key_s", name="admission")),
    key("admin"): Verified(
        "VALID",
        Caller(CallerKind.CUSTOMER, organization_role="ADMIN", scopes=frozenset({"DATA_READ"})),
    ),
    key("member"): Verified(
        "VALID", Caller(CallerKind.CUSTOMER, organization_role="MEMBER", scopes=frozenset({"DATA_READ"}))
    ),
    key("narrow"): Verified(
        "VALID", Caller(CallerKind.CUSTOMER, organization_role="ADMIN", scopes=frozenset({"INFERENCE"}))
    ),
    key("operator"): Verified("VALID", Caller(CallerKind.OPERATOR, operator_roles=frozenset({"LEGAL"}))),
    key("revoked"): Verified("REVOKED"),
    key("elsewhere"): Verified("NETWORK_NOT_ALLOWED"),
    key("unsigned"): Verified("TERMS_NOT_ACCEPTED", Caller(CallerKind.CUSTOMER, organization_role="ADMIN")),
}


class Settings(ServiceSettings):
    model_config = SettingsConfigDict(env_prefix="PERRON_TOY_")


class Keys:
    """Knows the keys above, and counts how often it is asked."""

    def __init__(self) -> None:
        self.asked = 0

    async def verify(self, credential: str, *, peer_network: str, want_passport: bool) -> Verified:
        del peer_network, want_passport
        self.asked += 1
        return CALLERS.get(credential, Verified("UNKNOWN"))


class Events(event_service_pb2_grpc.EventServiceServicer):
    """Misbehaves on demand: the cursor's generation says how."""

    async def Acknowledge(self, request: Any, context: Any) -> Any:
        match request.cursor.generation:
            case "raise":
                raise ValueError(SECRET)
            case "nothing":
                return None
            case "other":
                return event_service_pb2.GetSnapshotResponse()
            case "refuse":
                raise NotFound("RESOURCE_NOT_FOUND", "no such thing", resource=("thing", "x"))
            case "hang":
                await asyncio.sleep(60)
            case "who":
                raise NotFound("RESOURCE_NOT_FOUND", current_call().caller.name)
        return event_service_pb2.AcknowledgeResponse()

    async def Watch(self, request: Any, context: Any) -> AsyncIterator[Any]:
        yield event_service_pb2.WatchResponse(generation="1")
        if request.cursor.generation == "raise":
            raise ValueError(SECRET)
        if request.cursor.generation == "other":
            yield event_service_pb2.GetSnapshotResponse()


class Audit(audit_service_pb2_grpc.AuditServiceServicer):
    async def ListAuditEntries(self, request: Any, context: Any) -> Any:
        return audit_service_pb2.ListAuditEntriesResponse()


class Running:
    """The toy service and a channel to it."""

    def __init__(self, keys: Keys, port: int, channel: grpc.aio.Channel) -> None:
        self.keys = keys
        self.port = port
        self.channel = channel
        self.events = event_service_pb2_grpc.EventServiceStub(channel)
        self.audit = audit_service_pb2_grpc.AuditServiceStub(channel)

    async def acknowledge(self, generation: str = "", *, name: str = "service", timeout: float = 5) -> Any:
        request = event_service_pb2.AcknowledgeRequest(cursor={"generation": generation})
        return await self.events.Acknowledge(request, metadata=bearer(name), timeout=timeout)


def bearer(name: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {key(name)}"),)


def application(keys: Keys, **environment: str) -> Application:
    return Application(
        "toy",
        Settings.read(environment),
        servicers=[
            (event_service_pb2_grpc.add_EventServiceServicer_to_server, Events(), EVENTS),
            (audit_service_pb2_grpc.add_AuditServiceServicer_to_server, Audit(), AUDIT),
        ],
        verifier=keys,
    )


@pytest.fixture
async def toy() -> AsyncIterator[Running]:
    keys = Keys()
    app = application(keys)
    await app.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{app.port}") as channel:
        yield Running(keys, app.port, channel)
    await app.stop(grace_seconds=0.1)


async def refusal(call: Any) -> PerronError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    error = caught.value
    assert SECRET not in str(error)
    assert "perron-trace-id" in dict(error.trailing_metadata() or ()), "every answer names its trace"
    return status.from_rpc_error(error)


@pytest.mark.parametrize("how", ["raise", "nothing", "other"])
async def test_a_defect_reaches_the_caller_as_a_reference_and_nothing_else(toy: Running, how: str) -> None:
    error = await refusal(toy.acknowledge(how))
    assert (error.code, error.reason) == ("INTERNAL", "INTERNAL")
    assert error.metadata["reference"] in error.message


@pytest.mark.parametrize("how", ["raise", "other"])
async def test_a_defect_in_a_stream_is_a_reference_too(toy: Running, how: str) -> None:
    call: Any = toy.events.Watch(
        event_service_pb2.WatchRequest(cursor={"generation": how}), metadata=bearer("service")
    )
    assert (await call.read()).generation == "1"
    error = await refusal(call.read())
    assert error.reason == "INTERNAL"


async def test_defects_are_logged_by_type_and_never_by_text(
    toy: Running, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        await refusal(toy.acknowledge("raise"))
    printed = capsys.readouterr()
    logged = printed.out + printed.err + caplog.text
    assert "ValueError" in logged
    assert SECRET not in logged


async def test_a_refusal_keeps_its_reason_and_details_over_the_wire(toy: Running) -> None:
    error = await refusal(toy.acknowledge("refuse"))
    assert isinstance(error, NotFound)
    assert (error.reason, error.resource) == ("RESOURCE_NOT_FOUND", ("thing", "x"))


@pytest.mark.parametrize("raw", [b"\xff\xff\xff\xff", b"\x0a\x7f", b"\x0a\x02\xff\xfe", b"\x0b" * 101])
async def test_bytes_that_are_no_message_are_an_invalid_argument(toy: Running, raw: bytes) -> None:
    call = toy.channel.unary_unary(f"/{EVENTS}/Acknowledge")
    error = await refusal(call(raw, metadata=bearer("service"), timeout=5))
    assert error.code == "INVALID_ARGUMENT"


async def test_a_field_that_breaks_its_rule_is_named_and_its_value_is_not(toy: Running) -> None:
    request = event_service_pb2.AcknowledgeRequest(cursor={"number": -7777, "generation": SECRET * 3})
    error = await refusal(toy.events.Acknowledge(request, metadata=bearer("service"), timeout=5))
    assert error.reason == "FIELD_INVALID"
    assert {violation.field for violation in error.violations} == {"cursor.number", "cursor.generation"}
    assert "7777" not in repr(error.violations)


@pytest.mark.parametrize(
    "metadata",
    [
        (),
        (("authorization", ""),),
        (("authorization", f"Basic {key('service')}"),),
        (("authorization", f"Bearer {key('service')}"), ("authorization", f"Bearer {key('service')}")),
    ],
)
async def test_not_exactly_one_bearer_key_is_no_credential(toy: Running, metadata: Any) -> None:
    request = event_service_pb2.AcknowledgeRequest(cursor={})
    error = await refusal(toy.events.Acknowledge(request, metadata=metadata, timeout=5))
    assert (error.code, error.reason) == ("UNAUTHENTICATED", "CREDENTIAL_MISSING")
    assert toy.keys.asked == 0


@pytest.mark.parametrize(
    "credential", ["", "x", "prn_test_", key("service")[:-1] + "!", key("service") + "0", "a" * 8192]
)
async def test_a_malformed_key_is_refused_without_asking_anybody(toy: Running, credential: str) -> None:
    request = event_service_pb2.AcknowledgeRequest(cursor={})
    metadata = (("authorization", f"Bearer {credential}"),)
    error = await refusal(toy.events.Acknowledge(request, metadata=metadata, timeout=5))
    assert error.code == "UNAUTHENTICATED"
    assert toy.keys.asked == 0


@pytest.mark.parametrize(
    ("name", "code", "reason"),
    [
        ("revoked", "UNAUTHENTICATED", "CREDENTIAL_INVALID"),
        ("nobody", "UNAUTHENTICATED", "CREDENTIAL_INVALID"),
        ("elsewhere", "PERMISSION_DENIED", "NETWORK_NOT_ALLOWED"),
        ("service", "PERMISSION_DENIED", "CALLER_NOT_ALLOWED"),
        ("member", "PERMISSION_DENIED", "ROLE_MISSING"),
        ("narrow", "PERMISSION_DENIED", "SCOPE_MISSING"),
        ("unsigned", "PERMISSION_DENIED", "TERMS_NOT_ACCEPTED"),
    ],
)
async def test_the_contract_decides_who_may_call(toy: Running, name: str, code: str, reason: str) -> None:
    request = audit_service_pb2.ListAuditEntriesRequest()
    error = await refusal(toy.audit.ListAuditEntries(request, metadata=bearer(name), timeout=5))
    assert (error.code, error.reason) == (code, reason)


@pytest.mark.parametrize("name", ["admin", "operator"])
async def test_whom_the_contract_names_comes_in(toy: Running, name: str) -> None:
    await toy.audit.ListAuditEntries(
        audit_service_pb2.ListAuditEntriesRequest(), metadata=bearer(name), timeout=5
    )


async def test_the_caller_is_known_to_the_handler(toy: Running) -> None:
    assert (await refusal(toy.acknowledge("who"))).message == "admission"


async def test_a_call_ends_at_its_deadline(toy: Running) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await toy.acknowledge("hang", timeout=0.1)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_a_call_without_deadline_gets_one(toy: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perron.chassis.interceptors.deadline.DEFAULT_SECONDS", 0.1)
    request = event_service_pb2.AcknowledgeRequest(cursor={"generation": "hang"})
    error = await refusal(toy.events.Acknowledge(request, metadata=bearer("service")))
    assert (error.code, error.reason) == ("DEADLINE_EXCEEDED", "DEADLINE_PASSED")


async def test_a_message_over_the_limit_is_refused_every_time(toy: Running) -> None:
    call = toy.channel.unary_unary(f"/{EVENTS}/Acknowledge")
    for _ in range(5):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(b"\0" * (1024 * 1024 + 1), metadata=bearer("service"), timeout=5)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_metadata_over_the_limit_is_refused_every_time(toy: Running) -> None:
    for _ in range(5):
        request = event_service_pb2.AcknowledgeRequest(cursor={})
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await toy.events.Acknowledge(
                request, metadata=(*bearer("service"), ("x", "a" * 17408)), timeout=5
            )
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_health_is_public_and_reflection_is_not(toy: Running) -> None:
    health: Any = health_pb2_grpc.HealthStub(toy.channel)
    for _ in range(100):
        answer = await health.Check(health_pb2.HealthCheckRequest(), timeout=5)
        if answer.status == health_pb2.HealthCheckResponse.SERVING:
            break
        await asyncio.sleep(0.01)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING
    reflection: Any = reflection_pb2_grpc.ServerReflectionStub(toy.channel)
    question = reflection_pb2.ServerReflectionRequest(list_services="")
    error = await refusal(reflection.ServerReflectionInfo().read())  # refused before anything is asked
    assert error.reason == "CREDENTIAL_MISSING"
    call = reflection.ServerReflectionInfo(iter([question]), metadata=bearer("admin"))
    names = {service.name for service in (await call.read()).list_services_response.service}
    assert EVENTS in names
    call.cancel()


async def test_a_port_in_use_is_one_clear_refusal_to_start(toy: Running) -> None:
    second = application(Keys(), PERRON_TOY_LISTEN_ADDRESS=f"127.0.0.1:{toy.port}")
    with pytest.raises(SetupError, match="in use"):
        await second.start()


async def test_a_service_that_declares_no_access_stops_the_server_from_starting() -> None:
    app = Application(
        "toy",
        Settings.read({}),
        servicers=[(lambda _servicer, _server: None, object(), "google.longrunning.Operations")],
        verifier=Keys(),
    )
    with pytest.raises((SetupError, KeyError)):
        await app.start()
