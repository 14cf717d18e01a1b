import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic_settings import SettingsConfigDict
from sqlalchemy import text

from perron.api.common.v1.event_service_pb2_grpc import add_EventServiceServicer_to_server
from perron.chassis import credentials, events, numbering, tombstones
from perron.chassis.channels import Peer
from perron.chassis.clock import SystemClock
from perron.chassis.consumer import Consumer
from perron.chassis.database import Database, Transaction
from perron.chassis.event_servicer import EventServicer
from perron.chassis.events import Event
from perron.chassis.interceptors.access import Caller, CallerKind, Verified
from perron.chassis.leases import Leases
from perron.chassis.paging import Pages
from perron.chassis.server import Application
from perron.chassis.settings import ServiceSettings
from perron.chassis.testing import BOTH, migrated

pytestmark = pytest.mark.parametrize("database_url", BOTH, indirect=True)

KEY = credentials.with_checksum("test", "0" * 43)


class Settings(ServiceSettings):
    model_config = SettingsConfigDict(env_prefix="PERRON_SOURCE_")


class Keys:
    async def verify(self, credential: str, *, peer_network: str, want_passport: bool) -> Verified:
        return Verified("VALID", Caller(CallerKind.SERVICE, key_id="key_q", name="quotas"))


class Source:
    """A service whose events are followed; it can be stopped and started on the same port."""

    def __init__(self, url: str) -> None:
        self.database = Database(url)
        self._application: Application | None = None
        self.port = 0

    async def start(self) -> None:
        self._application = Application(
            "source",
            Settings.read({"PERRON_SOURCE_LISTEN_ADDRESS": f"127.0.0.1:{self.port}"}),
            servicers=[
                (
                    add_EventServiceServicer_to_server,
                    EventServicer(self.database, Pages(b"secret")),
                    "perron.api.common.v1.EventService",
                )
            ],
            verifier=Keys(),
        )
        await self._application.start()
        self.port = self._application.port

    async def stop(self) -> None:
        if self._application is not None:
            await self._application.stop(grace_seconds=1)
        self._application = None

    async def publish(self, *kinds: str) -> None:
        def work(tx: Transaction) -> None:
            for kind in kinds:
                events.append(tx, kind, organization_id="org_a")

        await self.database.write(work)


@pytest.fixture
async def source(tmp_path: Path) -> AsyncIterator[Source]:
    made = Source(migrated(f"sqlite:///{tmp_path / 'source.db'}", "chassis"))
    await made.start()
    yield made
    await made.stop()
    await made.database.aclose()


class Sink:
    """A store in which each consumed event leaves an event of the same kind."""

    def __init__(
        self, url: str, source: Source, apply: Callable[[Transaction, Event], None] | None = None
    ) -> None:
        self.database = Database(url, clock=SystemClock())
        self._source = source
        self._apply = apply or self.copy
        self._running: list[tuple[asyncio.Task[Any], Peer]] = []

    @staticmethod
    def copy(tx: Transaction, event: Event) -> None:
        events.append(tx, event.kind, organization_id=event.organization_id)

    def start(self) -> None:
        peer = Peer("source", f"127.0.0.1:{self._source.port}", KEY)
        consumer = Consumer(self.database, Leases(self.database), peer, self._apply)
        self._running.append((asyncio.create_task(consumer.run()), peer))

    async def kinds(self, count: int) -> list[str]:
        """Waits for that many effects, and tells them all."""
        with events.new_ones() as flag:
            async with asyncio.timeout(10):
                while len(found := await self.database.read(lambda tx: events.after(tx, 0))) < count:
                    await flag.wait()
                    flag.clear()  # before the next look, so that nothing new goes unseen
        return [event.kind for event in found]

    async def stop(self) -> None:
        for task, peer in self._running:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await peer.aclose()
        self._running.clear()


@pytest.fixture
async def sink(source: Source, database_url: str) -> AsyncIterator[Sink]:
    made = Sink(database_url, source)
    yield made
    await made.stop()
    await made.database.aclose()


async def test_events_have_their_effect_in_order_stored_ones_first(sink: Sink, source: Source) -> None:
    await source.publish("a.1", "a.2")
    sink.start()
    assert await sink.kinds(2) == ["a.1", "a.2"]
    await source.publish("a.3")
    assert await sink.kinds(3) == ["a.1", "a.2", "a.3"]


async def test_a_new_process_goes_on_where_the_last_one_stopped(sink: Sink, source: Source) -> None:
    sink.start()
    await source.publish("a.1")
    await sink.kinds(1)
    await sink.stop()
    await source.publish("a.2")
    sink.start()
    assert await sink.kinds(2) == ["a.1", "a.2"]


async def test_of_many_replicas_each_event_has_one_effect(sink: Sink, source: Source) -> None:
    for _ in range(3):
        sink.start()
    await source.publish(*(f"a.{number}" for number in range(50)))
    assert await sink.kinds(50) == [f"a.{number}" for number in range(50)]


async def test_a_source_that_restarts_is_followed_again(sink: Sink, source: Source) -> None:
    sink.start()
    await source.publish("a.1")
    await sink.kinds(1)
    await source.stop()
    await source.publish("a.2")
    await source.start()
    assert await sink.kinds(2) == ["a.1", "a.2"]


async def test_an_effect_that_fails_holds_the_cursor(source: Source, database_url: str) -> None:
    failures = 2

    def apply(tx: Transaction, event: Event) -> None:
        nonlocal failures
        Sink.copy(tx, event)
        if event.kind == "a.2" and failures:
            failures -= 1
            raise LookupError

    sink = Sink(database_url, source, apply)
    sink.start()
    await source.publish("a.1", "a.2", "a.3")
    assert await sink.kinds(3) == ["a.1", "a.2", "a.3"], "nothing twice, nothing missing"
    await sink.stop()
    await sink.database.aclose()


async def test_the_source_learns_how_far_its_consumer_has_come(sink: Sink, source: Source) -> None:
    sink.start()
    await source.publish("a.1", "a.2")
    await sink.kinds(2)
    await source.publish("a.3")
    await sink.kinds(3)  # what came before was acknowledged before this was read
    query = text("SELECT consumer, number FROM event_consumers")
    rows = await source.database.read(lambda tx: tx.execute(query).all())
    assert rows[0].consumer == "quotas"
    assert rows[0].number >= 2


@pytest.mark.parametrize("lost", [0, 1], ids=["a new generation", "a head below the cursor"])
async def test_after_a_restore_of_the_source_nothing_is_missed_and_tombstones_stay(
    sink: Sink, source: Source, lost: int
) -> None:
    sink.start()
    await source.publish("a.1", "a.2")
    await sink.kinds(2)
    await sink.database.write(lambda tx: tombstones.bury(tx, organization_id="org_dead"))

    def restore(tx: Transaction) -> None:
        tx.execute(text("DELETE FROM events WHERE number > :head"), {"head": 2 - lost})
        tx.execute(text("UPDATE log_head SET event_number = :head"), {"head": 2 - lost})
        numbering.new_generation(tx)

    await source.stop()
    await source.database.write(restore)
    await source.publish("b.1", "b.2")
    await source.start()

    kinds = await sink.kinds(2 + 4 - lost)
    assert kinds[2:] == [*["a.1", "a.2"][: 2 - lost], "b.1", "b.2"], "the new generation from its beginning"
    assert await sink.database.write(lambda tx: tombstones.buried(tx, ["org_dead"])) == {("org_dead", "")}
