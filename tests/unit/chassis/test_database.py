"""One transaction idiom: all or nothing, whatever happens to the caller."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from perron.chassis.database import Database, Transaction
from perron.chassis.errors import SetupError, Unavailable
from perron.chassis.testing import BOTH

if TYPE_CHECKING:
    from pathlib import Path

    from perron.chassis.testing import FakeClock

pytestmark = pytest.mark.parametrize("database", BOTH, indirect=True)

_BURY = "INSERT INTO tombstones (organization_id, workspace_id, create_time) VALUES ({}, '', 0)"
SECRET = "a prompt among the parameters"


def bury(tx: Transaction, name: str) -> None:
    tx.driver_execute(_BURY.format(f"'{name}'"))


def buried(tx: Transaction) -> list[str]:
    return sorted(tx.execute(text("SELECT organization_id FROM tombstones")).scalars())


async def test_what_was_written_is_read(database: Database) -> None:
    await database.write(lambda tx: bury(tx, "a"))
    assert await database.read(buried) == ["a"]


async def test_an_exception_takes_the_whole_transaction_back(database: Database) -> None:
    def work(tx: Transaction) -> None:
        bury(tx, "a")
        raise ValueError

    with pytest.raises(ValueError, match=r"^$"):
        await database.write(work)
    assert await database.read(buried) == []


async def test_a_cancelled_caller_leaves_and_the_transaction_ends_whole(database: Database) -> None:
    inside, go_on = threading.Event(), threading.Event()

    told: list[str] = []

    def work(tx: Transaction) -> None:
        tx.after_commit(lambda: told.append("after"))
        bury(tx, "a")
        inside.set()
        go_on.wait(5)
        bury(tx, "b")

    caller = asyncio.create_task(database.write(work))
    await asyncio.to_thread(inside.wait, 5)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    go_on.set()
    for _ in range(500):
        if await database.read(buried):
            break
        await asyncio.sleep(0.01)
    assert await database.read(buried) == ["a", "b"]
    assert told == ["after"], "what follows a commit is not the caller's to take away"


async def test_closing_waits_for_what_runs(database: Database) -> None:
    inside = threading.Event()
    ended: list[bool] = []

    def work(tx: Transaction) -> None:
        inside.set()
        threading.Event().wait(0.1)
        bury(tx, "a")
        ended.append(True)

    caller = asyncio.create_task(database.write(work))
    await asyncio.to_thread(inside.wait, 5)
    await database.aclose()
    assert ended == [True]
    await caller


async def test_readers_cannot_write(database: Database) -> None:
    if database.dialect == "postgresql":
        pytest.skip("readers on PostgreSQL are a matter of its roles; their transactions are snapshots here")
    with pytest.raises(Unavailable):
        await database.read(lambda tx: bury(tx, "a"))
    assert await database.read(buried) == []


async def test_a_commit_that_fails_takes_its_own_transaction_back_and_no_other(database: Database) -> None:
    def make(tx: Transaction) -> None:
        tx.driver_execute("CREATE TABLE parents (id INTEGER PRIMARY KEY)")
        tx.driver_execute(
            "CREATE TABLE children (id INTEGER REFERENCES parents (id) DEFERRABLE INITIALLY DEFERRED)"
        )

    await database.write(make)
    try:
        for _ in range(3):
            with pytest.raises(IntegrityError):
                await database.write(lambda tx: tx.driver_execute("INSERT INTO children (id) VALUES (7)"))
            await database.write(lambda tx: bury(tx, "next"))
            await database.write(lambda tx: tx.driver_execute("DELETE FROM tombstones"))
        assert await database.read(lambda tx: tx.driver_execute("SELECT id FROM children").all()) == []
    finally:
        await database.write(lambda tx: tx.driver_execute("DROP TABLE children"))
        await database.write(lambda tx: tx.driver_execute("DROP TABLE parents"))


async def test_a_broken_constraint_comes_out_for_the_store_to_translate(database: Database) -> None:
    await database.write(lambda tx: bury(tx, "a"))
    with pytest.raises(IntegrityError):
        await database.write(lambda tx: bury(tx, "a"))


async def test_no_error_carries_parameters(database: Database) -> None:
    statement = text("INSERT INTO tombstones (organization_id, workspace_id, create_time) VALUES (:o, '', 0)")
    await database.write(lambda tx: tx.execute(statement, {"o": SECRET}))
    with pytest.raises(IntegrityError) as caught:
        await database.write(lambda tx: tx.execute(statement, {"o": SECRET}))
    assert SECRET not in str(caught.value)


async def test_callbacks_run_before_and_after_the_commit_and_never_after_a_rollback(
    database: Database,
) -> None:
    seen: list[str] = []

    def work(tx: Transaction, *, fail: bool) -> None:
        tx.before_commit(lambda: seen.append("before"))
        tx.after_commit(lambda: seen.append("after"))
        if fail:
            raise ValueError

    await database.write(lambda tx: work(tx, fail=False))
    assert seen == ["before", "after"]
    with pytest.raises(ValueError, match=r"^$"):
        await database.write(lambda tx: work(tx, fail=True))
    assert seen == ["before", "after"]


async def test_the_time_is_the_injected_clocks_or_the_stores_own(
    database: Database, clock: FakeClock, database_url: str
) -> None:
    assert await database.read(lambda tx: tx.now_us()) == clock.now_us()
    own = Database(database_url)
    first = await own.read(lambda tx: tx.now_us())
    second = await own.read(lambda tx: tx.now_us())
    assert 0 < first <= second
    await own.aclose()


async def test_concurrent_read_modify_write_loses_nothing(database: Database) -> None:
    """The transaction that reads first and writes then is the one that a deferred BEGIN would break."""
    await database.write(lambda tx: bury(tx, "count"))
    lock = " FOR UPDATE" if database.dialect == "postgresql" else ""

    def increment(tx: Transaction) -> None:
        value = tx.driver_execute(f"SELECT create_time FROM tombstones{lock}").scalar_one()
        tx.execute(text("UPDATE tombstones SET create_time = :v"), {"v": value + 1})

    await asyncio.gather(*(database.write(increment) for _ in range(50)))
    assert (
        await database.read(lambda tx: tx.execute(text("SELECT create_time FROM tombstones")).scalar_one())
        == 50
    )


async def test_a_second_process_does_not_serve_the_same_file(database: Database, tmp_path: Path) -> None:
    del database
    first, second = (Database(f"sqlite:///{tmp_path}/own.db") for _ in range(2))
    first.lock()
    with pytest.raises(SetupError, match="another process"):
        second.lock()
    await first.aclose()
    second.lock()
    await second.aclose()


async def test_a_store_that_is_gone_is_unavailable(database: Database, tmp_path: Path) -> None:
    del database
    gone = Database(f"sqlite:///{tmp_path}/no/such/folder/store.db")
    with pytest.raises(Unavailable):
        await gone.read(buried)
    await gone.aclose()


async def test_a_truncating_checkpoint_empties_the_log(database: Database, tmp_path: Path) -> None:
    if database.dialect == "postgresql":
        assert await database.checkpoint()
        return
    await database.write(lambda tx: bury(tx, "a"))
    assert await database.checkpoint()
    (log,) = list(tmp_path.glob("*.db-wal"))  # noqa: ASYNC240 (a test may wait for its folder)
    assert log.stat().st_size == 0


async def test_readers_see_each_commit_in_a_file_that_grows_under_their_map(database: Database) -> None:
    if database.dialect == "postgresql":
        return
    mapped = await database.read(lambda tx: tx.execute(text("PRAGMA mmap_size")).scalar_one())
    assert mapped > 0
    for number in range(1, 6):
        block = [{"name": f"{number:02}{place:04}{'x' * 500}"} for place in range(200)]
        await database.write(lambda tx, block=block: tx.execute(text(_BURY.format(":name")), block))
        assert await database.checkpoint()
        assert len(await database.read(buried)) == 200 * number
    await database.write(lambda tx: tx.driver_execute("DELETE FROM tombstones WHERE organization_id > '02'"))
    assert await database.checkpoint()
    assert len(await database.read(buried)) == 200


async def test_calls_one_after_the_other_meet_the_same_thread_and_calls_at_once_do_not(
    database: Database,
) -> None:
    assert len({await database.read(lambda _: threading.get_ident()) for _ in range(20)}) == 1
    together = threading.Barrier(4, timeout=10)

    def meet(_tx: Transaction) -> int:
        together.wait()
        return threading.get_ident()

    assert len(set(await asyncio.gather(*(database.read(meet) for _ in range(4))))) == 4
