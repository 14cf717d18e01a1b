"""Consumer: follows the events of another service, each exactly once in effect.

The cursor lives in the consumer's own store and moves in the transaction of the effect, so a crash at any
instant neither loses an event nor has its effect twice. One replica consumes at a time, under a fenced
lease. After a restore of the source (another generation, or a head below the cursor) it reads the new
generation from the beginning and keeps the tombstones it has: events carry ids only, so meeting one again
does no harm, and missing one would.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NoReturn

import grpc
from sqlalchemy import select, text

from perron.api.common.v1 import event_service_pb2 as pb
from perron.api.common.v1 import event_service_pb2_grpc
from perron.chassis import status, telemetry
from perron.chassis.channels import Peer
from perron.chassis.database import Database, Transaction
from perron.chassis.errors import PerronError
from perron.chassis.events import Event
from perron.chassis.leases import Lease, LeaseLostError, Leases
from perron.chassis.tables import OWN

_BACKOFF_SECONDS: Final = (0.1, 0.25, 0.5, 1.0, 2.0, 5.0)
_RENEW_SECONDS: Final = 5.0
_OTHERS_TURN_SECONDS: Final = 1.0

_log = telemetry.logger("consumer")
_CURSORS: Final = OWN.event_cursors
_FIRST: Final = text(
    "INSERT INTO event_cursors (source, generation, number, update_time) VALUES (:source, '', 0, :now) "
    "ON CONFLICT DO NOTHING"
)
_MOVE: Final = text(
    "UPDATE event_cursors SET generation = :generation, number = :number, update_time = :now "
    "WHERE source = :source"
)


class _CursorUnknownError(Exception):
    """The source is not the store that the cursor was made in."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """The last event consumed: its number within the generation of the source's store."""

    generation: str
    number: int


class Consumer:
    """Applies the events of the service `peer` to a store.

    `apply(tx, event)` is the effect: it runs in one transaction with the cursor's move, up to 500 events at
    a time, and must do no harm when the effect is there already.
    """

    def __init__(
        self, database: Database, leases: Leases, peer: Peer, apply: Callable[[Transaction, Event], None]
    ) -> None:
        self._database = database
        self._leases = leases
        self._peer = peer
        self._apply = apply
        self._stub: Any = event_service_pb2_grpc.EventServiceStub(peer.channel)
        self._failures = 0

    async def run(self) -> NoReturn:
        """Follows the source until cancelled; a background task of the server."""
        while True:
            try:
                await self._consume()
            except LeaseLostError:
                self._failures = 0
            except Exception as error:  # noqa: BLE001 (whatever it was, the events wait where they are)
                self._failures += 1
                reason = error.reason if isinstance(error, PerronError) else type(error).__name__
                _log.warning("events not consumed for now", source=self._peer.name, reason=reason)
            await asyncio.sleep(_BACKOFF_SECONDS[min(self._failures, len(_BACKOFF_SECONDS) - 1)])

    async def _consume(self) -> None:
        lease = await self._leases.acquire(f"events of {self._peer.name}")
        if lease is None:
            await asyncio.sleep(_OTHERS_TURN_SECONDS)
            return
        try:
            cursor = await self._database.write(lambda tx: self._read_cursor(tx, lease))
            try:
                await self._follow(lease, cursor)
            except _CursorUnknownError:
                await self._start_anew(lease)
        finally:
            with contextlib.suppress(PerronError):
                await self._leases.release(lease)

    async def _follow(self, lease: Lease, cursor: Cursor) -> None:
        request = pb.WatchRequest(cursor=pb.EventCursor(generation=cursor.generation, number=cursor.number))
        call = self._peer.stream(self._stub.Watch, request)
        try:
            async for response in _read(call, lambda: self._database.write(lease.fence)):
                cursor = await self._take(lease, cursor, response)
                self._failures = 0
        finally:
            call.cancel()  # a stream that is dropped without it runs on at the source

    async def _take(self, lease: Lease, cursor: Cursor, response: pb.WatchResponse) -> Cursor:
        if cursor.generation and response.generation != cursor.generation:
            raise _CursorUnknownError
        if not response.events:
            return cursor
        found = [_convert(event) for event in response.events]
        moved = await self._database.write(lambda tx: self._advance(tx, lease, response.generation, found))
        await self._peer.call(
            self._stub.Acknowledge,
            pb.AcknowledgeRequest(cursor=pb.EventCursor(generation=moved.generation, number=moved.number)),
        )
        return moved

    def _advance(self, tx: Transaction, lease: Lease, generation: str, found: Sequence[Event]) -> Cursor:
        """Applies what the cursor has not seen, and moves it, in one transaction."""
        cursor = self._read_cursor(tx, lease)
        if cursor.generation and cursor.generation != generation:
            raise _CursorUnknownError
        number = cursor.number
        for event in found:
            if event.number <= number:
                continue  # another replica was faster
            if event.number != number + 1:
                raise _CursorUnknownError
            self._apply(tx, event)
            number = event.number
        return self._move(tx, Cursor(generation, number))

    async def _start_anew(self, lease: Lease) -> None:
        snapshot = await self._peer.call(self._stub.GetSnapshot, pb.GetSnapshotRequest())
        generation = snapshot.cursor.generation
        _log.error(
            "the source's store is another one; its events are read from the beginning",
            source=self._peer.name,
        )

        def anew(tx: Transaction) -> None:
            self._read_cursor(tx, lease)
            self._move(tx, Cursor(generation, 0))

        await self._database.write(anew)

    def _read_cursor(self, tx: Transaction, lease: Lease) -> Cursor:
        lease.fence(tx)
        tx.execute(_FIRST, {"source": self._peer.name, "now": tx.now_us()})
        row = tx.execute(select(_CURSORS).where(_CURSORS.c.source == self._peer.name).with_for_update()).one()
        return Cursor(row.generation, row.number)

    def _move(self, tx: Transaction, cursor: Cursor) -> Cursor:
        place = {"generation": cursor.generation, "number": cursor.number}
        tx.execute(_MOVE, place | {"source": self._peer.name, "now": tx.now_us()})
        return cursor


async def _read(call: Any, renew: Callable[[], Awaitable[object]]) -> AsyncIterator[pb.WatchResponse]:
    """Yields the messages of a stream, and renews the lease in between while there are none."""
    while True:
        reading = asyncio.ensure_future(call.read())
        try:
            # Not wait_for: to cancel the reading would be to cancel the stream.
            while not (await asyncio.wait({reading}, timeout=_RENEW_SECONDS))[0]:
                await renew()
            response = reading.result()
        except grpc.aio.AioRpcError as error:
            refusal = status.from_rpc_error(error)
            if refusal.reason == "CURSOR_UNKNOWN":
                raise _CursorUnknownError from None
            raise refusal from None
        finally:
            reading.cancel()
        if response is grpc.aio.EOF:
            return
        yield response


def _convert(event: pb.Event) -> Event:
    return Event(
        number=event.number,
        kind=event.kind,
        create_time_us=event.create_time.ToMicroseconds(),
        organization_id=event.organization_id,
        workspace_id=event.workspace_id,
        resource_id=event.resource_id,
        version=event.version,
    )
