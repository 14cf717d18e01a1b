"""EventService: the outbox of this service as other services see it.

A Watch ends with its client, with the server, or when the store leaves the generation it began in; the
consumer then asks again with the cursor that it kept.
"""

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from typing import Any, Final

import grpc
from sqlalchemy import select, text, tuple_

from perron.api.common.v1 import event_service_pb2 as pb
from perron.api.common.v1 import event_service_pb2_grpc
from perron.chassis import events, numbering
from perron.chassis.database import Database, Transaction
from perron.chassis.errors import FailedPrecondition
from perron.chassis.events import Event
from perron.chassis.interceptors import access
from perron.chassis.paging import Pages
from perron.chassis.tables import OWN

KEEPALIVE_SECONDS: Final = 20.0
# New events of this process wake a Watch at once; those of other replicas are found by looking.
POLL_SECONDS: Final = 0.25

_TOMBSTONES: Final = OWN.tombstones
_ACKNOWLEDGE: Final = text(
    "INSERT INTO event_consumers (consumer, generation, number, update_time) "
    "VALUES (:consumer, :generation, :number, :now) ON CONFLICT (consumer) DO UPDATE SET "
    "generation = excluded.generation, number = excluded.number, update_time = excluded.update_time "
    "WHERE event_consumers.generation <> excluded.generation OR event_consumers.number <= excluded.number"
)


class EventServicer(event_service_pb2_grpc.EventServiceServicer):
    """Serves the events and tombstones of one store."""

    def __init__(
        self,
        database: Database,
        pages: Pages,
        *,
        poll_seconds: float = POLL_SECONDS,
        keepalive_seconds: float = KEEPALIVE_SECONDS,
    ) -> None:
        self._database = database
        self._pages = pages
        self._poll_seconds = poll_seconds
        self._keepalive_seconds = keepalive_seconds
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Ends every Watch, as the server is about to."""
        self._stopping.set()
        events.wake()

    async def Watch(
        self, request: pb.WatchRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[pb.WatchResponse]:
        """Streams events after the cursor, and a message without events every 20 seconds."""
        generation, number = await self._start(request.cursor)
        loop = asyncio.get_running_loop()
        with events.new_ones() as flag:
            yield pb.WatchResponse(generation=generation)
            spoken = loop.time()
            while not self._stopping.is_set():
                flag.clear()  # before the look, so that what commits during it wakes the next
                now_in, found = await self._database.read(partial(_look, number=number))
                if generation and now_in != generation:
                    raise _cursor_unknown()
                generation = now_in
                if found:
                    number = found[-1].number
                    yield pb.WatchResponse(generation=generation, events=map(_convert, found))
                    spoken = loop.time()
                elif loop.time() - spoken >= self._keepalive_seconds:
                    yield pb.WatchResponse(generation=generation)
                    spoken = loop.time()
                if len(found) < events.EVENTS_PER_PAGE and not self._stopping.is_set():
                    await self._sleep(flag)

    async def Acknowledge(
        self, request: pb.AcknowledgeRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.AcknowledgeResponse:
        """Records how far a consumer has come; an older cursor than the recorded one changes nothing."""
        consumer = access.current_call().caller.name
        cursor = request.cursor

        def acknowledge(tx: Transaction) -> None:
            generation, head = numbering.head(tx)
            if cursor.generation != generation or cursor.number > head:
                raise _cursor_unknown()
            values = {"consumer": consumer, "generation": generation, "number": cursor.number}
            tx.execute(_ACKNOWLEDGE, values | {"now": tx.now_us()})

        await self._database.write(acknowledge)
        return pb.AcknowledgeResponse()

    async def GetSnapshot(
        self, request: pb.GetSnapshotRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.GetSnapshotResponse:
        """Returns the head of the log."""
        generation, number = await self._database.read(numbering.head)
        return pb.GetSnapshotResponse(cursor=pb.EventCursor(generation=generation, number=number))

    async def ListTombstones(
        self, request: pb.ListTombstonesRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.ListTombstonesResponse:
        """Lists tombstones, oldest first."""
        size = self._pages.size(request.page_size)
        after = self._pages.cursor(request.page_token, caller_scope="", filter_text="tombstones")
        rows = await self._database.read(lambda tx: _tombstones_after(tx, after, size + 1))
        page = rows[:size]
        token = ""
        if len(rows) > size:
            last = page[-1]
            token = self._pages.token(
                (last.create_time, last.organization_id, last.workspace_id),
                caller_scope="",
                filter_text="tombstones",
            )
        return pb.ListTombstonesResponse(tombstones=map(_convert_tombstone, page), next_page_token=token)

    async def _start(self, cursor: pb.EventCursor) -> tuple[str, int]:
        generation, head = await self._database.read(numbering.head)
        if cursor.number > head or (cursor.generation or generation) != generation:
            raise _cursor_unknown()
        return generation, cursor.number

    async def _sleep(self, flag: asyncio.Event) -> None:
        try:
            async with asyncio.timeout(self._poll_seconds):
                await flag.wait()
        except TimeoutError:
            return


def _look(tx: Transaction, number: int) -> tuple[str, list[Event]]:
    generation, head = numbering.head(tx)
    if number > head:
        raise _cursor_unknown()
    return generation, events.after(tx, number) if number < head else []


def _tombstones_after(tx: Transaction, cursor: list[str | int] | None, rows: int) -> list[Any]:
    order = (_TOMBSTONES.c.create_time, _TOMBSTONES.c.organization_id, _TOMBSTONES.c.workspace_id)
    statement = select(_TOMBSTONES).order_by(*order).limit(rows)
    if cursor is not None:
        statement = statement.where(tuple_(*order) > tuple_(*cursor))
    return list(tx.execute(statement))


def _convert(event: Event) -> pb.Event:
    converted = pb.Event(
        number=event.number,
        kind=event.kind,
        organization_id=event.organization_id,
        workspace_id=event.workspace_id,
        resource_id=event.resource_id,
        version=event.version,
    )
    converted.create_time.FromMicroseconds(event.create_time_us)
    return converted


def _convert_tombstone(row: Any) -> pb.Tombstone:
    converted = pb.Tombstone(organization_id=row.organization_id, workspace_id=row.workspace_id)
    converted.create_time.FromMicroseconds(row.create_time)
    return converted


def _cursor_unknown() -> FailedPrecondition:
    return FailedPrecondition(
        "CURSOR_UNKNOWN", "the cursor is of another generation of this store, or beyond its last event"
    )
