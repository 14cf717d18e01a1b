import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import text

from perron.api.common.v1 import event_service_pb2 as pb
from perron.chassis import events, numbering, tombstones
from perron.chassis.database import Database, Transaction
from perron.chassis.errors import FailedPrecondition, InvalidArgument
from perron.chassis.event_servicer import EventServicer
from perron.chassis.interceptors import access
from perron.chassis.interceptors.access import Call, Caller, CallerKind
from perron.chassis.mutations import Mutations
from perron.chassis.paging import Pages
from perron.chassis.testing import BOTH, FakeClock, customer_call

pytestmark = pytest.mark.parametrize("database", BOTH, indirect=True)

NEVER = 3600.0


def servicer(database: Database, **times: float) -> EventServicer:
    return EventServicer(
        database, Pages(b"secret"), **{"poll_seconds": NEVER, "keepalive_seconds": NEVER, **times}
    )


async def publish(database: Database, count: int = 1) -> None:
    def work(tx: Transaction) -> None:
        for number in range(count):
            Mutations(tx).publish("thing.made", organization_id="org_a", resource_id=f"thing_{number}")

    await database.write(work)


async def place(database: Database) -> pb.EventCursor:
    return (await servicer(database).GetSnapshot(pb.GetSnapshotRequest(), None)).cursor


@contextlib.asynccontextmanager
async def watching(server: EventServicer, cursor: pb.EventCursor | None = None) -> AsyncIterator[Any]:
    stream: Any = server.Watch(pb.WatchRequest(cursor=cursor), None)
    async with asyncio.timeout(5):
        try:
            yield stream
        finally:
            await stream.aclose()


async def numbers(stream: Any, count: int) -> list[int]:
    found: list[int] = []
    while len(found) < count:
        found += [event.number for event in (await anext(stream)).events]
    return found


async def test_a_watch_begins_with_what_is_stored_and_goes_on_with_what_commits(database: Database) -> None:
    await publish(database, 3)
    async with watching(servicer(database)) as stream:
        assert await numbers(stream, 3) == [1, 2, 3]
        reading = asyncio.create_task(numbers(stream, 2))
        await asyncio.sleep(0)
        await publish(database, 2)
        assert await reading == [4, 5], "woken by the commit: the poll comes in an hour"


async def test_a_watch_resumes_behind_its_cursor(database: Database) -> None:
    await publish(database, 3)
    cursor = await place(database)
    cursor.number = 2
    async with watching(servicer(database), cursor) as stream:
        assert await numbers(stream, 1) == [3]


async def test_an_event_tells_ids_only(database: Database, clock: FakeClock) -> None:
    await database.write(
        lambda tx: Mutations(tx).publish(
            "key.revoked", organization_id="org_a", workspace_id="ws_1", resource_id="key_1", version=7
        )
    )
    async with watching(servicer(database)) as stream:
        await anext(stream)
        (event,) = (await anext(stream)).events
    assert event.create_time.ToDatetime(tzinfo=clock.now().tzinfo) == clock.now()
    event.ClearField("create_time")
    assert event == pb.Event(
        number=1,
        kind="key.revoked",
        organization_id="org_a",
        workspace_id="ws_1",
        resource_id="key_1",
        version=7,
    )


async def test_events_of_other_replicas_are_found_by_looking(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with watching(servicer(database, poll_seconds=0.01)) as stream:
        await anext(stream)
        monkeypatch.setattr(events, "_waiting", set())  # as if it committed in another process
        await publish(database)
        assert await numbers(stream, 1) == [1]


async def test_a_message_holds_500_events_at_most(database: Database) -> None:
    await publish(database, 501)
    async with watching(servicer(database)) as stream:
        await anext(stream)
        assert [len((await anext(stream)).events) for _ in range(2)] == [500, 1]


async def test_a_silent_log_gives_signs_of_life(database: Database) -> None:
    async with watching(servicer(database, poll_seconds=0.001, keepalive_seconds=0.01)) as stream:
        for _ in range(3):
            assert not (await anext(stream)).events


async def test_a_watch_ends_when_the_server_stops(database: Database) -> None:
    server = servicer(database)
    async with watching(server) as stream:
        await anext(stream)
        reading = asyncio.create_task(numbers(stream, 1))
        await asyncio.sleep(0.01)
        server.stop()
        with pytest.raises(StopAsyncIteration):
            await reading


async def test_a_watch_that_ends_leaves_nothing_behind(database: Database) -> None:
    before = len(events._waiting)
    async with watching(servicer(database)) as stream:
        await anext(stream)
        assert len(events._waiting) == before + 1
    assert len(events._waiting) == before


@pytest.mark.parametrize(
    "cursor",
    [{"number": 3}, {"generation": "gen_of_before", "number": 1}],
    ids=["beyond the head", "restored"],
)
async def test_a_cursor_of_another_store_is_refused(database: Database, cursor: dict[str, Any]) -> None:
    await publish(database, 2)
    with pytest.raises(FailedPrecondition) as caught:
        async with watching(servicer(database), pb.EventCursor(**cursor)) as stream:
            await anext(stream)
    assert caught.value.reason == "CURSOR_UNKNOWN"


async def test_a_store_that_is_restored_under_a_watch_ends_it(database: Database) -> None:
    await publish(database)
    async with watching(servicer(database)) as stream:
        await numbers(stream, 1)
        await database.write(numbering.new_generation)
        events.wake()
        with pytest.raises(FailedPrecondition):
            await anext(stream)


async def acknowledge(database: Database, cursor: pb.EventCursor) -> None:
    access._call.set(Call(caller=Caller(CallerKind.SERVICE, name="quotas"), method="x.Y/Z"))
    await servicer(database).Acknowledge(pb.AcknowledgeRequest(cursor=cursor), None)


async def acknowledged(database: Database) -> list[tuple[str, int]]:
    query = text("SELECT consumer, number FROM event_consumers")
    return [tuple(row) for row in await database.read(lambda tx: tx.execute(query).all())]


async def test_an_acknowledgement_only_moves_forward(database: Database) -> None:
    await publish(database, 3)
    cursor = await place(database)
    for number in (2, 1):
        cursor.number = number
        await acknowledge(database, cursor)
    assert await acknowledged(database) == [("quotas", 2)]


async def test_nobody_acknowledges_what_never_was(database: Database) -> None:
    await publish(database)
    cursor = await place(database)
    for wrong in ({"number": 2}, {"generation": "gen_of_before"}):
        with pytest.raises(FailedPrecondition):
            await acknowledge(
                database,
                pb.EventCursor(**{"generation": cursor.generation, "number": cursor.number, **wrong}),
            )
    assert await acknowledged(database) == []


async def test_pages_hold_every_tombstone_once_oldest_first(database: Database) -> None:
    for number in range(5):
        await database.write(
            lambda tx, n=number: tombstones.bury(tx, organization_id="org_a", workspace_id=f"ws_{n}")
        )
    server = servicer(database)
    pages, token = [], ""
    while True:
        page = await server.ListTombstones(pb.ListTombstonesRequest(page_size=2, page_token=token), None)
        pages.append([tombstone.workspace_id for tombstone in page.tombstones])
        token = page.next_page_token
        if not token:
            break
    assert pages == [["ws_0", "ws_1"], ["ws_2", "ws_3"], ["ws_4"]]
    with pytest.raises(InvalidArgument):
        await server.ListTombstones(pb.ListTombstonesRequest(page_token="x"), None)


async def test_a_store_does_all_of_a_mutation_in_one_transaction(database: Database) -> None:
    def create(tx: Transaction) -> None:
        store = Mutations(tx)
        store.refuse_buried("org_a", "ws_1")
        assert store.once(customer_call(), "thing_1") is None
        store.audit(customer_call(), "thing_1", "org_a")
        store.publish("thing.made", organization_id="org_a")

    def fail(tx: Transaction) -> None:
        create(tx)
        raise LookupError

    with pytest.raises(LookupError):
        await database.write(fail)
    await database.write(create)

    count = text("SELECT (SELECT count(*) FROM events), (SELECT count(*) FROM audit_entries)")
    assert tuple(await database.read(lambda tx: tx.execute(count).one())) == (1, 1)
