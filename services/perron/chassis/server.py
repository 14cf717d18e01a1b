"""The life of a process, from bind to flushed telemetry.

Start: lock the store, check its migrations, register the methods with everything around them, bind, learn
identity's signing keys, serve. Stop: NOT_SERVING, a pause in which balancers look away, no new calls,
running ones end, background work ends, batches and channels close, stores close, telemetry is flushed. A
second signal ends at once.

What a newcomer gets wrong: nothing may reach gRPC's server beside `_register`. A method that is not wrapped
there has no access check.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import grpc
import uvloop
from grpc_health.v1 import health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2_grpc
from grpc_reflection.v1alpha._async import ReflectionServicer

from perron.chassis import exporters, idempotency, schema, telemetry
from perron.chassis.errors import PerronError, SetupError
from perron.chassis.health import HealthServicer
from perron.chassis.interceptors import access, deadline, errors, load, validation
from perron.chassis.interceptors import telemetry as telemetry_interceptor
from perron.chassis.leases import Leases
from perron.chassis.method import Method, methods
from perron.chassis.settings import refuse_to_start

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence

    from perron.chassis.audit import AuditTrail
    from perron.chassis.channels import Peer
    from perron.chassis.database import Database
    from perron.chassis.interceptors.access import KeyVerifier, PassportReader
    from perron.chassis.method import Behaviour
    from perron.chassis.settings import ServiceSettings

__all__ = ["Application", "run"]

_HEALTH: Final = "grpc.health.v1.Health"
_REFLECTION: Final = "grpc.reflection.v1alpha.ServerReflection"
_MEBIBYTE: Final = 1024 * 1024
_PAUSE_SECONDS: Final = 0.2
_GRACE_SECONDS: Final = 10.0
_LEARN_AGAIN_SECONDS: Final = 0.2
_SWEEP_EVERY: Final = timedelta(minutes=5)
_METADATA_BYTES_MAX: Final = 16384
_COLLECTION_THRESHOLDS: Final = (50_000, 20, 50)
_AUDITED: Final = frozenset({access.CallerKind.CUSTOMER, access.CallerKind.OPERATOR})

_OPTIONS: Final = (
    ("grpc.so_reuseport", 0),  # two processes on one port would share its calls silently
    ("grpc.max_concurrent_streams", 10_000),  # per connection; bursts above it are reset at random
    # Both bounds are the same: between them, refusal is a matter of chance.
    ("grpc.max_metadata_size", _METADATA_BYTES_MAX),
    ("grpc.absolute_max_metadata_size", _METADATA_BYTES_MAX),
    ("grpc.server.max_pending_requests", 100_000),  # the default answers random CANCELLED under load
    ("grpc.server.max_pending_requests_hard_limit", 200_000),
    ("grpc.server_handshake_timeout_ms", 10_000),  # connections that never speak HTTP/2
    ("grpc.max_connection_age_ms", 300_000),  # so that clients see new replicas
    ("grpc.max_connection_age_grace_ms", 60_000),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
)

Registration = tuple["Callable[[Any, Any], None]", Any, str]
"""A generated `add_…Servicer_to_server`, the servicer, and the full name of its service."""


class Application:
    """One service, composed: what it serves, and what it opens and closes."""

    def __init__(
        self,
        name: str,
        settings: ServiceSettings,
        *,
        servicers: Sequence[Registration],
        verifier: KeyVerifier,
        passports: PassportReader | None = None,
        databases: Sequence[Database] = (),
        revision: str = "",
        peers: Sequence[Peer] = (),
        background: Sequence[Callable[[], Coroutine[Any, Any, None]]] = (),
        closers: Sequence[Callable[[], Awaitable[None]]] = (),
        flags: Mapping[str, bool] | None = None,
        audit_trail: AuditTrail | None = None,
        message_bytes_max: int = _MEBIBYTE,
        prepare: Sequence[Callable[[], Awaitable[None]]] = (),
    ) -> None:
        """Compose a service whose newest migration is `revision`.

        `prepare` runs before the first call, `background` until the end, `closers` (batchers, coalescers)
        after the last call and before peers and databases.
        """
        self.name = name
        self.port = 0
        self._settings = settings
        self._registrations = tuple(servicers)
        self._passports = passports
        self._access = access.AccessLayer(verifier, passports, flags or {})
        self._load = load.Load()
        self._databases = tuple(databases)
        self._revision = revision
        self._peers = tuple(peers)
        self._background = tuple(background)
        self._closers = tuple(closers)
        self._audit_trail = audit_trail
        self._message_bytes_max = message_bytes_max
        self._prepare = tuple(prepare)
        self._health = HealthServicer(service for _, _, service in self._registrations)
        self._tasks: list[asyncio.Task[None]] = []
        self._server: grpc.aio.Server | None = None

    async def start(self) -> None:
        """Serve; `port` says where. Raises SetupError where the process cannot start as it is configured."""
        for database in self._databases:
            database.lock()
            if self._revision:
                await database.read(lambda tx: schema.check(tx, self._revision))
        for step in self._prepare:
            await step()
        self._server = grpc.aio.server(
            options=(
                *_OPTIONS,
                ("grpc.max_receive_message_length", self._message_bytes_max),
                ("grpc.max_send_message_length", max(self._message_bytes_max, 4 * _MEBIBYTE)),
            )
        )
        self._register_all(self._server)
        self.port = self._bind(self._server)
        await self._server.start()
        if self._audit_trail is not None:
            self._spawn(self._audit_trail.run())
        for work in self._background:
            self._spawn(work())
        for database in self._databases:
            self._spawn(Leases(database).run("request ids", _SWEEP_EVERY, idempotency.sweep))
        self._spawn(self._become_ready())

    async def stop(self, *, pause_seconds: float = 0.0, grace_seconds: float = _GRACE_SECONDS) -> None:
        """End in the order that loses nothing: callers first, stores last."""
        self._health.set_serving(serving=False)
        await asyncio.sleep(pause_seconds)
        for _, servicer, _ in self._registrations:
            if callable(stop := getattr(servicer, "stop", None)):  # streams without an end of their own
                stop()
        if self._server is not None:
            await self._server.stop(grace_seconds)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for close in self._closers:
            await close()
        for peer in self._peers:
            await peer.aclose()
        for database in self._databases:
            await database.aclose()

    async def _become_ready(self) -> None:
        while not await self._is_ready():  # noqa: ASYNC110 (identity tells nobody when it is up)
            await asyncio.sleep(_LEARN_AGAIN_SECONDS)
        self._health.set_serving(serving=True)

    async def _is_ready(self) -> bool:
        learn = getattr(self._passports, "learn", None)
        if learn is None:
            return True
        try:
            await learn()
        except PerronError:
            return False
        return True

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        task.add_done_callback(self._ended)
        self._tasks.append(task)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            telemetry.defect(error, f"{self.name} background work")

    def _register_all(self, server: grpc.aio.Server) -> None:
        for add, servicer, service in self._registrations:
            self._register(server, add, servicer, service)
        self._register(server, health_pb2_grpc.add_HealthServicer_to_server, self._health, _HEALTH)
        names = [service for _, _, service in self._registrations]
        self._register(
            server,
            reflection_pb2_grpc.add_ServerReflectionServicer_to_server,
            ReflectionServicer([*names, _HEALTH, _REFLECTION]),
            _REFLECTION,
        )

    def _register(
        self, server: grpc.aio.Server, add: Callable[[Any, Any], None], servicer: object, service: str
    ) -> None:
        declared = methods(service)
        handlers = _Captured()
        add(servicer, handlers)
        wrapped = {
            name: self._handler(declared[name], handler) for name, handler in handlers.of(service).items()
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, wrapped),))

    def _handler(
        self, method: Method, handler: grpc.RpcMethodHandler[Any, Any]
    ) -> grpc.RpcMethodHandler[Any, Any]:
        """Telemetry → errors → load → deadline → access → validation → handler."""
        requests = "stream" if method.request_streams else "unary"
        responses = "stream" if method.response_streams else "unary"
        behaviour: Behaviour = getattr(handler, f"{requests}_{responses}")
        behaviour = validation.wrap(method, behaviour)
        behaviour = self._access.wrap(method, behaviour)
        behaviour = deadline.wrap(method, behaviour)
        behaviour = self._load.wrap(method, behaviour)
        behaviour = errors.wrap(method, behaviour, self._refused)
        behaviour = telemetry_interceptor.wrap(method, behaviour)
        make: Callable[..., grpc.RpcMethodHandler[Any, Any]] = getattr(
            grpc, f"{requests}_{responses}_rpc_method_handler"
        )
        return make(behaviour)  # bytes in, bytes out: the errors layer reads and writes messages itself

    def _refused(self, method: Method, error: PerronError) -> None:
        call = access.served_call()
        if (
            self._audit_trail is not None
            and method.idempotent
            and call is not None
            and call.caller.kind in _AUDITED
        ):
            self._audit_trail.refused(call, error.reason)

    def _bind(self, server: grpc.aio.Server) -> int:
        address = self._settings.listen_address
        try:
            credentials = self._credentials()
            port = (
                server.add_insecure_port(address)
                if credentials is None
                else server.add_secure_port(address, credentials)
            )
        except RuntimeError:
            port = 0
        if not port:
            message = f"{address}: the port is in use or the address is not this machine's"
            raise SetupError(message)
        return port

    def _credentials(self) -> grpc.ServerCredentials | None:
        settings = self._settings
        if not settings.tls_certificate_file:
            return None
        pair = (_read(settings.tls_key_file), _read(settings.tls_certificate_file))
        if not settings.tls_client_ca_file:
            return grpc.ssl_server_credentials([pair])
        return grpc.ssl_server_credentials(
            [pair], _read(settings.tls_client_ca_file), require_client_auth=True
        )


class _Captured:
    """Stands in for a server, so that generated code hands over its handlers."""

    def __init__(self) -> None:
        self._handlers: dict[str, Mapping[str, grpc.RpcMethodHandler[Any, Any]]] = {}

    def of(self, service: str) -> Mapping[str, grpc.RpcMethodHandler[Any, Any]]:
        """The handlers of `service`, as generated."""
        return self._handlers[service]

    def add_registered_method_handlers(
        self, service: str, handlers: Mapping[str, grpc.RpcMethodHandler[Any, Any]]
    ) -> None:
        """Keep them."""
        self._handlers[service] = handlers

    def add_generic_rpc_handlers(self, handlers: object) -> None:
        """The same handlers once more, packed; not needed."""


def run(settings_class: type[ServiceSettings], build: Callable[[Any], Application]) -> None:
    """Serve until SIGTERM or SIGINT. What prevents a start is one line on standard error and exit code 2."""
    settings = settings_class.load()
    name = settings_class.service_name()
    try:
        uvloop.run(_serve(name, settings, build))
    except SetupError as error:
        refuse_to_start(name, str(error))


async def _serve(name: str, settings: ServiceSettings, build: Callable[[Any], Application]) -> None:
    end_telemetry = exporters.start(
        name, ratio=settings.trace_ratio, trace_file=settings.trace_file, level=settings.log_level
    )
    application = build(settings)
    try:
        await application.start()
        _spare_collections()
        log = telemetry.logger("server")
        log.info("serving", port=application.port)
        await _signalled()
        log.info("stopping")
        await application.stop(pause_seconds=_PAUSE_SECONDS)
    finally:
        with contextlib.suppress(Exception):  # a collector that is gone must not hold the process
            await asyncio.to_thread(end_telemetry)


def _spare_collections() -> None:
    """Leave what was made at the start out of garbage collections, and collect seldom.

    With hundreds of calls in flight, the default looks at their objects again and again: a sixth of all CPU.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_COLLECTION_THRESHOLDS)


async def _signalled() -> None:
    loop = asyncio.get_running_loop()
    first = asyncio.Event()

    def received() -> None:
        if first.is_set():
            raise SystemExit(1)
        first.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, received)
    await first.wait()


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        message = f"{path}: {error.strerror}"
        raise SetupError(message) from None
