"""How one service asks another: one channel, a deadline on every call, concurrent questions in one message.

Services do not repeat calls: that is the outermost client's, who knows whether it still wants the answer.
What goes wrong between services reaches the caller as UNAVAILABLE with the peer's name, or as the peer's own
refusal where it speaks of the caller's request; never as UNAUTHENTICATED, which would blame the caller for
our credentials.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

import grpc

from perron.chassis import status, telemetry
from perron.chassis.batcher import Batcher
from perron.chassis.errors import DeadlineExceeded, PerronError, SetupError, Unavailable
from perron.chassis.interceptors import deadline

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["CHANNEL_OPTIONS", "Coalescer", "Peer", "outcomes"]

Item = TypeVar("Item")
Result = TypeVar("Result")

CALL_SECONDS_DEFAULT: Final = 5.0
_SHAVED_SECONDS: Final = 0.01
_METADATA_BYTES_MAX: Final = 16384
_REFUSED_OF_US: Final = frozenset({"UNAUTHENTICATED"})

CHANNEL_OPTIONS: Final = (
    ("grpc.max_send_message_length", 17 * 1024 * 1024),
    ("grpc.max_receive_message_length", 17 * 1024 * 1024),
    ("grpc.max_metadata_size", _METADATA_BYTES_MAX),
    ("grpc.absolute_max_metadata_size", _METADATA_BYTES_MAX),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.initial_reconnect_backoff_ms", 100),
    # Despite its name the time that an attempt to connect is given: a peer that is busy shakes hands late.
    ("grpc.min_reconnect_backoff_ms", 5000),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.enable_retries", 0),
    ("grpc.service_config", '{"loadBalancingConfig": [{"round_robin": {}}]}'),
)


class Peer:
    """Another service; `credential` is our own key, `ca_file` authorities for TLS (none: plaintext)."""

    def __init__(self, name: str, target: str, credential: str, *, ca_file: str = "") -> None:
        self.name = name
        self._metadata = (("authorization", f"Bearer {credential}"),) if credential else ()
        self.channel = _channel(target, ca_file)

    async def call(
        self,
        method: Any,
        request: Any,
        *,
        timeout: float | None = None,
    ) -> Any:
        """Ask, within what is left of the current call or `timeout` seconds, whichever is less.

        Raises the peer's refusal, Unavailable (PEER_UNAVAILABLE) or DeadlineExceeded (DEADLINE_PASSED).
        """
        left = deadline.remaining_seconds(CALL_SECONDS_DEFAULT) - _SHAVED_SECONDS
        seconds = left if timeout is None else min(left, timeout)
        if seconds <= 0:
            raise DeadlineExceeded("DEADLINE_PASSED", "the deadline passed before the work was done")
        with telemetry.client_scope(_method_name(method)):
            parent = telemetry.current_trace_parent()
            metadata = (*self._metadata, ("traceparent", parent)) if parent else self._metadata
            try:
                return await method(request, timeout=seconds, metadata=metadata)
            except grpc.aio.AioRpcError as error:
                raise self._refusal(error) from None

    def stream(self, method: Any, request: Any) -> Any:
        """Open a stream of answers without deadline; `cancel()` it, or it runs on at the peer."""
        return method(request, metadata=self._metadata)

    async def aclose(self) -> None:
        """Close the channel; calls in flight end."""
        await self.channel.close()

    def _refusal(self, error: grpc.aio.AioRpcError) -> PerronError:
        refusal = status.from_rpc_error(error)
        if refusal.code == DeadlineExceeded.code:
            return DeadlineExceeded("DEADLINE_PASSED", f"{self.name} did not answer within the deadline")
        if not refusal.reason or refusal.code in _REFUSED_OF_US or refusal.reason == "CALLER_NOT_ALLOWED":
            telemetry.logger("channels").warning(
                "peer failed", peer=self.name, code=refusal.code, reason=refusal.reason
            )
            return Unavailable(
                "PEER_UNAVAILABLE", f"{self.name} does not answer", metadata={"peer": self.name}
            )
        return refusal


class Coalescer(Generic[Item, Result]):
    """Turns concurrent single questions into calls of a batch method.

    `merge` makes the request of the batch method from messages of single questions; each must have a
    `trace_parent` field, which is filled in here. Results are read from `results` with their `oneof outcome
    {response, error}`.
    """

    def __init__(
        self,
        peer: Peer,
        method: Any,
        merge: Callable[[Sequence[Item]], Any],
        *,
        name: str,
        tenant: Callable[[Item], str] = lambda _item: "",
        weigh: Callable[[Item], int] = lambda _item: 0,
        max_items: int = 128,
        max_bytes: int = 128 * 1024,
    ) -> None:
        self._peer = peer
        self._method = method
        self._merge = merge
        self._batcher: Batcher[Item, Result] = Batcher(
            self._ask,
            name=f"ask {name}",
            tenant=tenant,
            weigh=weigh,
            max_items=max_items,
            max_bytes=max_bytes,
        )

    async def submit(self, item: Item) -> Result:
        """Ask one question, together with those that wait at the same time. Raises its refusal."""
        parent = telemetry.current_trace_parent()
        if telemetry.is_sampled(parent):
            item.trace_parent = parent  # type: ignore[attr-defined]  # every item of a batch has it
        return await self._batcher.submit(item)

    async def aclose(self) -> None:
        """Answer what waits, take nothing new."""
        await self._batcher.aclose()

    async def _ask(self, items: Sequence[Item]) -> Sequence[Result | PerronError]:
        response = await self._peer.call(self._method, self._merge(items))
        return outcomes(response)


def outcomes(response: Any) -> list[Any]:
    """The answers in a batch's response, in the order of its items: a message, or a PerronError."""
    return [
        result.response if result.HasField("response") else status.from_status(result.error)
        for result in response.results
    ]


def _channel(target: str, ca_file: str) -> grpc.aio.Channel:
    if not ca_file:
        return grpc.aio.insecure_channel(target, options=CHANNEL_OPTIONS)
    try:
        authorities = Path(ca_file).read_bytes()
    except OSError as error:
        message = f"authorities of peers: {ca_file}: {error.strerror}"
        raise SetupError(message) from None
    return grpc.aio.secure_channel(target, grpc.ssl_channel_credentials(authorities), options=CHANNEL_OPTIONS)


def _method_name(method: Any) -> str:
    name: str = method._method.decode()  # noqa: SLF001 (the multicallable's only record of its name)
    return name.lstrip("/")
