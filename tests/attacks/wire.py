"""Calls as an attacker makes them, with any bytes, credential and deadline, and their answers taken apart."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, cast

import grpc
from google.protobuf.message import Message
from google.rpc import status_pb2

from perron.chassis.errors import PerronError
from perron.chassis.status import DETAILS_KEY, from_status
from tests.rpcs import RPCS, Rpc

OPTIONS = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_metadata_size", 1 << 20),
    ("grpc.absolute_max_metadata_size", 1 << 20),
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 200),
)
TIMEOUT_SECONDS = 10.0
WAITING = frozenset({"Watch", "WatchJob", "LeaseJob"})
"""Calls that may wait for news as long as their caller has time."""
WAITING_SECONDS = 1.0
"""How much time they have here; a stream that goes on waiting counts as answered."""

ANSWERS = frozenset(
    {
        "OK",
        "ABORTED",
        "ALREADY_EXISTS",
        "FAILED_PRECONDITION",
        "INVALID_ARGUMENT",
        "NOT_FOUND",
        "PERMISSION_DENIED",
        "RESOURCE_EXHAUSTED",
        "UNAUTHENTICATED",
    }
)
"""Codes that a healthy service may answer to anything that it is sent."""

_INNARDS = (
    "Traceback",
    "Exception",
    "sqlalchemy",
    "sqlite",
    "psycopg",
    ".py",
    "<class",
    "SELECT ",
    "INSERT ",
)
_METADATA = Iterable[tuple[str, str | bytes]]


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. `code` is the canonical name; `error` is None where the call went well."""

    code: str
    body: bytes = b""
    message: str = ""
    error: PerronError | None = None
    status: status_pb2.Status | None = None
    trailing: dict[str, str | bytes] = field(default_factory=dict)

    @property
    def reason(self) -> str:
        """The reason from the closed list; empty where there is none."""
        return self.error.reason if self.error is not None else ""

    def __str__(self) -> str:
        return f"{self.code} {self.reason} {self.message}".strip()


class Wire:
    """Channels to the services of a suite, one each, opened when needed."""

    def __init__(self, endpoints: dict[str, str]) -> None:
        self._endpoints = endpoints
        self._channels: dict[str, grpc.Channel] = {}

    def close(self) -> None:
        """Closes every channel."""
        for channel in self._channels.values():
            channel.close()
        self._channels.clear()

    def channel(self, host: str) -> grpc.Channel:
        """The channel to a service."""
        if host not in self._channels:
            self._channels[host] = grpc.insecure_channel(self._endpoints[host], OPTIONS)
        return self._channels[host]

    def call(
        self,
        rpc: Rpc,
        request: bytes | Message = b"",
        key: str | None = None,
        *,
        metadata: _METADATA = (),
        timeout: float = TIMEOUT_SECONDS,
        compression: grpc.Compression | None = None,
    ) -> Answer:
        """Calls and waits; whatever happens comes back as an answer."""
        raw = request if isinstance(request, bytes) else request.SerializeToString()
        sent = [*metadata, *([("authorization", f"Bearer {key}")] if key is not None else [])]
        channel: Any = self.channel(rpc.host)
        timeout = min(timeout, WAITING_SECONDS) if rpc.name in WAITING else timeout
        try:
            if rpc.streams:
                stream = channel.unary_stream(rpc.path)(raw, timeout, metadata=sent)
                return _first(stream, may_wait=rpc.name in WAITING)
            method = channel.unary_unary(rpc.path)  # of a stream of requests this is the first and only one
            body, call = method.with_call(raw, timeout, metadata=sent, compression=compression)
            return Answer("OK", body, trailing=_pairs(call.trailing_metadata()))
        except grpc.RpcError as failed:
            return _refusal(cast("grpc.Call", failed))

    def ask(self, name: str, request: Message, key: str | None = None) -> Any:
        """Calls a method that must answer, by `Service.Method`; returns the answer's message."""
        rpc = named(name)
        answer = self.call(rpc, request, key)
        assert answer.code == "OK", f"{name}: {answer}"
        return rpc.response.FromString(answer.body)

    def send(self, name: str, requests: Iterable[Message], key: str) -> Any:
        """Calls a method that takes a stream and must answer, as `ask` does."""
        rpc = named(name)
        method: Any = self.channel(rpc.host).stream_unary(rpc.path)
        sent = (request.SerializeToString() for request in requests)
        body = method(sent, TIMEOUT_SECONDS, metadata=[("authorization", f"Bearer {key}")])
        return rpc.response.FromString(body)


def named(name: str) -> Rpc:
    """The RPC of that name, as `ApiKeyService.CreateApiKey`."""
    return next(rpc for rpc in RPCS if str(rpc).partition("@")[0] == name)


def read(failed: Any) -> Answer:
    """What an asynchronous call was refused with."""
    return _refusal(failed)


def assert_refused_properly(answer: Answer, *codes: str) -> None:
    """Checks that a refusal has one of the codes, says why by one reason, and shows nothing of the inside."""
    assert answer.code in codes, str(answer)
    assert answer.error is not None
    assert answer.status is not None, f"no details: {answer}"
    assert [detail.TypeName() for detail in answer.status.details].count("google.rpc.ErrorInfo") == 1
    assert answer.reason
    assert answer.status.ByteSize() <= 1024
    assert "perron-trace-id" in answer.trailing
    assert_nothing_inside(answer)


def assert_nothing_inside(answer: Answer) -> None:
    """Checks that no text of ours, our libraries' or our store's is in the answer."""
    shown = answer.message + str(answer.trailing)
    assert not [word for word in _INNARDS if word in shown], shown


def first(rpc: Rpc, answer: Answer) -> Answer:
    """The answer to a call, or, where it is a batch that was answered, to its first item."""
    return items(rpc, answer)[0] if rpc.batch_item is not None and answer.code == "OK" else answer


def items(rpc: Rpc, answer: Answer) -> list[Answer]:
    """The answer to each item of a batch."""
    response: Any = rpc.response.FromString(answer.body)
    return [_item(result) for result in response.results]


def ids_of(message: Any) -> set[str]:
    """What an answer names, but for the admission id, which is sealed anew each time."""
    found = set()
    for each, value in message.ListFields():
        if each.message_type is not None and not each.is_repeated:
            found |= ids_of(value)
        elif each.name.endswith("_id") and each.name != "admission_id":
            found.add(f"{each.name}={value}")
    return found


def _item(result: Any) -> Answer:
    if result.WhichOneof("outcome") != "error":
        return Answer("OK", result.SerializeToString())
    error = from_status(result.error)
    return Answer(error.code, b"", error.message, error, result.error)


def _first(call: Any, *, may_wait: bool) -> Answer:
    try:
        body = next(iter(call), b"")
    except grpc.RpcError as failed:
        if may_wait and failed.code() is grpc.StatusCode.DEADLINE_EXCEEDED:  # type: ignore[attr-defined]  # an RpcError is a Call
            return Answer("OK")
        raise
    finally:
        call.cancel()
    return Answer("OK", body)


def _refusal(failed: Any) -> Answer:
    trailing = _pairs(failed.trailing_metadata())
    details = trailing.get(DETAILS_KEY)
    status = status_pb2.Status.FromString(details) if isinstance(details, bytes) else None
    error = from_status(status) if status is not None else PerronError("", failed.details() or "")
    return Answer(failed.code().name, b"", failed.details() or "", error, status, trailing)


def _pairs(metadata: Any) -> dict[str, str | bytes]:
    return {str(key): value for key, value in metadata or ()}
