import asyncio
import threading
from collections.abc import Callable

import pytest
from sqlalchemy import text

from perron.chassis import events, tombstones
from perron.chassis.clock import SystemClock
from perron.chassis.database import Database, Transaction
from perron.chassis.errors import NotFound
from perron.chassis.testing import BOTH

both = pytest.mark.parametrize("database", BOTH, indirect=True)


@both
async def test_nothing_is_written_for_a_buried_organization(database: Database) -> None:
    await database.write(lambda tx: tombstones.refuse(tx, organization_id="org_a", workspace_id="ws_1"))
    await database.write(lambda tx: tombstones.bury(tx, organization_id="org_a"))
    for workspace_id in ("", "ws_1", "ws_2"):
        with pytest.raises(NotFound):
            await database.write(
                lambda tx, ws=workspace_id: tombstones.refuse(tx, organization_id="org_a", workspace_id=ws)
            )
    await database.write(lambda tx: tombstones.refuse(tx, organization_id="org_b"))


@both
async def test_a_buried_workspace_leaves_its_organization_alive(database: Database) -> None:
    await database.write(lambda tx: tombstones.bury(tx, organization_id="org_a", workspace_id="ws_1"))
    with pytest.raises(NotFound):
        await database.write(lambda tx: tombstones.refuse(tx, organization_id="org_a", workspace_id="ws_1"))
    await database.write(lambda tx: tombstones.refuse(tx, organization_id="org_a", workspace_id="ws_2"))
    await database.write(lambda tx: tombstones.refuse(tx, organization_id="org_a"))


@both
async def test_a_batch_learns_all_its_graves_at_once(database: Database) -> None:
    await database.write(lambda tx: tombstones.bury(tx, organization_id="org_a", workspace_id="ws_1"))
    await database.write(lambda tx: tombstones.bury(tx, organization_id="org_b"))
    await database.write(lambda tx: tombstones.bury(tx, organization_id="org_c"))
    graves = await database.write(lambda tx: tombstones.buried(tx, ["org_b", "org_a", "org_b", "org_d"]))
    assert graves == {("org_a", "ws_1"), ("org_b", "")}
    assert await database.write(lambda tx: tombstones.buried(tx, [])) == frozenset()


@both
async def test_burying_twice_is_burying_once(database: Database) -> None:
    for _ in range(2):
        await database.write(lambda tx: tombstones.bury(tx, organization_id="org_a"))
    assert await database.write(lambda tx: tombstones.buried(tx, ["org_a"])) == {("org_a", "")}


def plainly_read(tx: Transaction, *, organization_id: str) -> None:
    """The racy variant of refuse: reads the tombstones without holding anything."""
    found = tx.execute(text("SELECT 1 FROM tombstones WHERE organization_id = :id"), {"id": organization_id})
    if found.first() is not None:
        raise NotFound("RESOURCE_NOT_FOUND", "gone")


@pytest.mark.parametrize(
    ("database_url", "refuse"),
    [
        ("sqlite", tombstones.refuse),
        ("postgresql", tombstones.refuse),
        ("postgresql", plainly_read),  # SQLite has one writer: there is nothing to race
    ],
    ids=["sqlite", "postgresql", "a racy variant is caught"],
    indirect=["database_url"],
)
async def test_nothing_late_brings_a_tenant_back(database_url: str, refuse: Callable[..., None]) -> None:
    database = Database(database_url, clock=SystemClock())
    checked, done = threading.Event(), threading.Event()

    def write_late(tx: Transaction) -> None:
        refuse(tx, organization_id="org_a")
        checked.set()
        done.wait(5 if refuse is plainly_read else 0.3)  # held up, the burial waits for this commit
        events.append(tx, "record.written", organization_id="org_a")

    def bury_and_sweep(tx: Transaction) -> int:
        tombstones.bury(tx, organization_id="org_a")
        return tx.execute(text("DELETE FROM events WHERE organization_id = 'org_a'")).rowcount

    writing = asyncio.create_task(database.write(write_late))
    await asyncio.to_thread(checked.wait)
    swept = await database.write(bury_and_sweep)
    done.set()
    await writing
    left = await database.read(lambda tx: events.after(tx, 0))
    await database.aclose()

    if refuse is tombstones.refuse:
        assert (swept, left) == (1, [])
    else:
        assert (swept, len(left)) == (0, 1), "the racy variant brings the tenant back"
