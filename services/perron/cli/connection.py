"""How the command line reaches the services: which address, which key, and an error that means something.

The key is PERRON_API_KEY, else the operator's in `var/credentials.json`; which one it was is said on stderr,
because a refusal is unreadable to somebody who does not know as whom they called.
"""

import json
import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar, cast

import grpc

from perron.chassis.errors import PerronError, SetupError
from perron.chassis.status import from_rpc_error
from perron.cli import output

KEY_VARIABLE = "PERRON_API_KEY"
FOLDER_VARIABLE = "PERRON_VAR"
TIMEOUT_SECONDS = 10.0
_CHANNEL_OPTIONS = (
    ("grpc.keepalive_time_ms", 30_000),  # a stream notices that its peer is gone without a word
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 5000),  # despite its name the time that an attempt to connect is given
    ("grpc.max_reconnect_backoff_ms", 1000),
)

Stub = TypeVar("Stub")
Request = TypeVar("Request")
Response = TypeVar("Response")


class RefusedError(Exception):
    """A service refused a call; carries what it said and the trace in which to look."""

    def __init__(self, error: PerronError, trace_id: str) -> None:
        super().__init__(error.message)
        self.error = error
        self.trace_id = trace_id


class UnreachableError(SetupError):
    """Nobody answers, or the connection broke before the answer was whole; a later call may succeed."""


@dataclass(frozen=True, slots=True, repr=False)
class Credential:
    """A key and where it came from; never printed by accident."""

    secret: str
    origin: str

    def __repr__(self) -> str:
        return f"Credential({self.origin})"


def folder() -> Path:
    """The folder in which `perron up` keeps what it makes: PERRON_VAR, else `var` here."""
    return Path(os.environ.get(FOLDER_VARIABLE, "var"))


def endpoints() -> dict[str, str]:
    """The address of each service, as `perron up` wrote them down; SetupError where it never ran."""
    return {name: str(target) for name, target in _read("endpoints.json").items()}


def credential(name: str = "") -> Credential:
    """The key of that name ("operator", "gateway"); without one PERRON_API_KEY, else the operator's."""
    secret = os.environ.get(KEY_VARIABLE, "")
    if secret and not name:
        return Credential(secret.strip(), KEY_VARIABLE)
    wanted = name or "operator"
    kept = _read("credentials.json")
    if wanted not in kept:
        raise SetupError(
            f"{folder() / 'credentials.json'} holds no key named {wanted}; it has {', '.join(kept)}"
        )
    return Credential(str(kept[wanted]), f"the {wanted} key of {folder() / 'credentials.json'}")


class Connection:
    """The services as one caller sees them; closes its channels on exit.

    `trace_id` is the trace of the last call, for `perron trace`; with `one_trace` all calls share one, as
    those of a gateway about one exchange do.
    """

    def __init__(self, key: Credential, targets: Mapping[str, str], *, one_trace: bool = False) -> None:
        self._key = key
        self._targets = targets
        self._channels: dict[str, grpc.Channel] = {}
        self._one_trace = one_trace
        self._span_id = ""
        self.trace_id = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for channel in self._channels.values():
            channel.close()

    def stub(self, stub: Callable[[grpc.Channel], Stub]) -> Stub:
        """A stub on the channel of its service, which is the third part of the generated module's name."""
        name = stub.__module__.split(".")[2]
        if name not in self._targets:
            raise SetupError(f"no address of {name} in {folder() / 'endpoints.json'}")
        if name not in self._channels:
            self._channels[name] = grpc.insecure_channel(self._targets[name], _CHANNEL_OPTIONS)
        return stub(self._channels[name])

    def ask(self, method: "grpc.UnaryUnaryMultiCallable[Request, Response]", request: Request) -> Response:
        """Calls a method; RefusedError where the service said no, UnreachableError where nobody answers."""
        try:
            return method(request, timeout=TIMEOUT_SECONDS, metadata=self._metadata())
        except grpc.RpcError as failed:
            raise self._refused(method, failed) from None

    def ask_stream(
        self,
        method: "grpc.UnaryStreamMultiCallable[Request, Response]",
        request: Request,
        *,
        timeout: float | None = TIMEOUT_SECONDS,
    ) -> Iterator[Response]:
        """Calls a method that answers in pieces, and gives them one by one; raises as `ask` does.

        `timeout` bounds all pieces together, in seconds; None bounds nothing.
        """
        call = method(request, timeout=timeout, metadata=self._metadata())
        try:
            yield from call
        except grpc.RpcError as failed:
            raise self._refused(method, failed) from None
        finally:
            call.cancel()

    def send_stream(
        self, method: "grpc.StreamUnaryMultiCallable[Request, Response]", requests: Iterator[Request]
    ) -> Response:
        """Sends pieces, however long that takes, and returns what is answered; raises as `ask` does."""
        try:
            return method(requests, metadata=self._metadata())
        except grpc.RpcError as failed:
            raise self._refused(method, failed) from None

    def present(self, secret: str) -> None:
        """Calls with another key from now on."""
        self._key = Credential(secret, self._key.origin)

    def _metadata(self) -> tuple[tuple[str, str], ...]:
        # Our own trace, always recorded: whoever asks by hand may want to see where the time went.
        if not self.trace_id or not self._one_trace:
            self.trace_id, self._span_id = secrets.token_hex(16), secrets.token_hex(8)
        return (
            ("authorization", f"Bearer {self._key.secret}"),
            ("traceparent", f"00-{self.trace_id}-{self._span_id}-01"),
        )

    def _refused(self, method: object, failed: grpc.RpcError) -> Exception:
        # The error of a plain call answers the same questions as that of an asynchronous one.
        error = from_rpc_error(cast("grpc.aio.AioRpcError", failed))
        # Whatever a service says has a reason; what has none was said by the connection.
        if not error.reason and error.code in {"UNAVAILABLE", "INTERNAL"}:
            return UnreachableError(f"nobody answers at {self._target(method)}: is `perron up` running?")
        return RefusedError(error, self.trace_id)

    def _target(self, method: object) -> str:
        path = getattr(method, "_method", b"")
        service = (path.decode() if isinstance(path, bytes) else str(path)).strip("/").split(".")
        return next(
            (f"{name} ({target})" for name, target in self._targets.items() if name in service), "the address"
        )


def connect(name: str = "") -> Connection:
    """Opens a connection with the key of that name, else as `credential` says, and says which on stderr."""
    key = credential(name)
    output.note(f"as {key.origin}")
    return Connection(key, endpoints())


def _read(name: str) -> dict[str, Any]:
    path = folder() / name
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SetupError(
            f"{path} is not there: start the suite with `perron up`, or set {FOLDER_VARIABLE} to its folder"
        ) from None
    except (OSError, ValueError) as broken:
        raise SetupError(f"{path} cannot be read ({type(broken).__name__})") from None
    return found
