import asyncio
import itertools
import threading
from collections.abc import Callable

import pytest
from sqlalchemy import text

from perron.chassis import audit, events, numbering
from perron.chassis.clock import SystemClock
from perron.chassis.database import Database, Transaction
from perron.chassis.testing import BOTH, customer_call


def append(tx: Transaction, kind: str) -> None:
    events.append(tx, kind, organization_id="org_a")


_sequence = itertools.count(1)


def number_at_once(tx: Transaction, kind: str) -> None:
    """The racy variant: takes its number when the event happens, as a sequence would give it."""
    number = next(_sequence)
    tx.execute(numbering._FIRST, {"generation": "gen_1"})
    tx.execute(
        events._INSERT,
        {
            "number": number,
            "kind": kind,
            "create_time": 0,
            "organization_id": "",
            "workspace_id": "",
            "resource_id": "",
            "version": 0,
        },
    )


@pytest.mark.parametrize(
    ("database_url", "write", "lost"),
    [("sqlite", append, []), ("postgresql", append, []), ("postgresql", number_at_once, ["slow"])],
    ids=["sqlite", "postgresql", "a racy variant is caught"],
    indirect=["database_url"],
)
async def test_a_reader_that_goes_by_the_highest_number_misses_nothing(
    database_url: str, write: Callable[[Transaction, str], None], lost: list[str]
) -> None:
    database = Database(database_url, clock=SystemClock())
    # Not a part of the race: on the first event ever, writers wait for the row of the head.
    await database.write(lambda tx: tx.execute(numbering._FIRST, {"generation": "gen_1"}))
    written, overtaken = threading.Event(), threading.Event()

    def slow(tx: Transaction) -> None:
        write(tx, "slow")
        written.set()
        overtaken.wait(5 if database.dialect == "postgresql" else 0.1)  # SQLite has one writer

    running = asyncio.create_task(database.write(slow))
    await asyncio.to_thread(written.wait)
    await database.write(lambda tx: write(tx, "fast"))
    seen = await database.read(lambda tx: events.after(tx, 0))
    overtaken.set()
    await running
    seen += await database.read(lambda tx: events.after(tx, max(event.number for event in seen)))
    await database.aclose()

    assert {"slow", "fast"} - {event.kind for event in seen} == set(lost)


@pytest.mark.parametrize("database_url", BOTH, indirect=True)
async def test_numbers_have_no_gaps_whatever_fails(database_url: str) -> None:
    database = Database(database_url, clock=SystemClock())
    call = customer_call()

    def work(tx: Transaction, number: int) -> None:
        events.append(tx, f"thing.made_{number}", organization_id="org_a")
        audit.append(tx, call, resource_id=f"thing_{number}", organization_id="org_a")
        events.append(tx, f"thing.seen_{number}", organization_id="org_a")
        if number % 3 == 0:
            raise LookupError

    results = await asyncio.gather(
        *(database.write(lambda tx, n=number: work(tx, n)) for number in range(30)), return_exceptions=True
    )
    assert sum(isinstance(result, LookupError) for result in results) == 10

    found = await database.read(lambda tx: events.after(tx, 0))
    audited = await database.read(
        lambda tx: tx.execute(text("SELECT number FROM audit_entries ORDER BY number")).scalars().all()
    )
    await database.aclose()
    assert [event.number for event in found] == list(range(1, 41))
    assert list(audited) == list(range(1, 21))
    assert [event.create_time_us for event in found] == sorted(event.create_time_us for event in found)


@pytest.mark.parametrize("database", BOTH, indirect=True)
async def test_events_of_a_transaction_keep_their_order(database: Database) -> None:
    def work(tx: Transaction) -> None:
        for number in range(5):
            append(tx, f"thing.number_{number}")

    await database.write(work)
    found = await database.read(lambda tx: events.after(tx, 0))
    assert [event.kind for event in found] == [f"thing.number_{number}" for number in range(5)]


@pytest.mark.parametrize("database", BOTH, indirect=True)
async def test_a_restore_opens_a_new_generation_and_numbers_on(database: Database) -> None:
    assert await database.read(numbering.head) == ("", 0)
    await database.write(lambda tx: append(tx, "thing.made"))
    generation, number = await database.read(numbering.head)
    assert (generation.startswith("gen_"), number) == (True, 1)

    renewed = await database.write(numbering.new_generation)

    assert renewed != generation
    assert await database.read(numbering.head) == (renewed, 1)
