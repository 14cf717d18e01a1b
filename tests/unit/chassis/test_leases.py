import asyncio
from collections.abc import Callable
from datetime import timedelta

import pytest

from perron.chassis import events
from perron.chassis.database import Database, Transaction
from perron.chassis.leases import TTL, Lease, LeaseLostError, Leases
from perron.chassis.testing import BOTH, FakeClock

pytestmark = pytest.mark.parametrize("database", BOTH, indirect=True)

Work = Callable[[Transaction], object]


def effect(tx: Transaction) -> None:
    events.append(tx, "thing.swept", organization_id="org_a")


async def effects(database: Database) -> int:
    return len(await database.read(lambda tx: events.after(tx, 0)))


async def acquire(leases: Leases, name: str = "sweep") -> Lease:
    lease = await leases.acquire(name)
    assert lease is not None
    return lease


async def test_one_holder_at_a_time(database: Database) -> None:
    one, other = Leases(database, holder="one"), Leases(database, holder="other")
    lease = await acquire(one)
    assert await other.acquire("sweep") is None
    await acquire(other, "another name")
    await one.release(lease)
    assert (await acquire(other)).token > lease.token


async def test_of_many_at_once_one_gets_the_lease(database: Database) -> None:
    taken = await asyncio.gather(*(Leases(database, holder=f"p{n}").acquire("sweep") for n in range(10)))
    assert sum(lease is not None for lease in taken) == 1


async def test_an_overdue_lease_is_taken_over_with_a_higher_token(
    database: Database, clock: FakeClock
) -> None:
    lease = await acquire(Leases(database, holder="one"))
    other = Leases(database, holder="other")
    clock.advance(TTL - timedelta(microseconds=1))
    assert await other.acquire("sweep") is None
    clock.advance(timedelta(microseconds=1))
    assert (await acquire(other)).token == lease.token + 1


async def test_fenced_work_renews_the_lease(database: Database, clock: FakeClock) -> None:
    lease = await acquire(Leases(database, holder="one"))
    clock.advance(TTL / 2)
    await database.write(lease.fence)
    clock.advance(TTL / 2)
    assert await Leases(database, holder="other").acquire("sweep") is None


def fenced(lease: Lease, work: Work) -> Work:
    def both(tx: Transaction) -> object:
        lease.fence(tx)
        return work(tx)

    return both


def trusting(lease: Lease, work: Work) -> Work:
    """The racy variant: it had the lease a moment ago."""
    return work


@pytest.mark.parametrize(
    ("guard", "late"), [(fenced, 0), (trusting, 1)], ids=["fenced", "a racy variant is caught"]
)
async def test_a_holder_that_slept_too_long_changes_nothing(
    database: Database, clock: FakeClock, guard: Callable[[Lease, Work], Work], late: int
) -> None:
    lease = await acquire(Leases(database, holder="sleeper"))
    clock.advance(TTL)
    await acquire(Leases(database, holder="other"))
    try:
        await database.write(guard(lease, effect))
    except LeaseLostError:
        assert guard is fenced
    assert await effects(database) == late


async def test_periodic_work_runs_again_at_once_while_there_is_more(database: Database) -> None:
    done = asyncio.Event()
    loop = asyncio.get_running_loop()
    rounds = 0

    def work(tx: Transaction) -> bool:
        nonlocal rounds
        rounds += 1
        if rounds == 5:
            loop.call_soon_threadsafe(done.set)
        return rounds < 5

    running = asyncio.create_task(Leases(database).run("sweep", timedelta(hours=1), work))
    async with asyncio.timeout(5):
        await done.wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_periodic_work_survives_a_failure(database: Database) -> None:
    done = asyncio.Event()
    loop = asyncio.get_running_loop()
    rounds = 0

    def work(tx: Transaction) -> None:
        nonlocal rounds
        rounds += 1
        effect(tx)
        if rounds == 1:
            raise LookupError
        loop.call_soon_threadsafe(done.set)

    running = asyncio.create_task(Leases(database).run("sweep", timedelta(milliseconds=1), work))
    async with asyncio.timeout(5):
        await done.wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert await effects(database) == rounds - 1, "a failed round has no effect"


async def test_work_that_ends_hands_its_lease_on_at_once(database: Database) -> None:
    began = asyncio.Event()
    loop = asyncio.get_running_loop()
    running = asyncio.create_task(
        Leases(database, holder="one").run(
            "sweep", timedelta(hours=1), lambda _tx: loop.call_soon_threadsafe(began.set)
        )
    )
    async with asyncio.timeout(5):
        await began.wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await acquire(Leases(database, holder="other"))


async def test_two_processes_share_the_work_without_doing_it_twice(database: Database) -> None:
    seen: set[str] = set()
    worked = asyncio.Event()
    loop = asyncio.get_running_loop()

    def work(name: str) -> Work:
        def note(tx: Transaction) -> None:
            seen.add(name)
            loop.call_soon_threadsafe(worked.set)

        return note

    tasks = [
        asyncio.create_task(Leases(database, holder=name).run("sweep", timedelta(milliseconds=5), work(name)))
        for name in ("one", "other")
    ]
    async with asyncio.timeout(5):
        await worked.wait()
    for _ in range(20):
        await database.write(lambda tx: None)
    assert len(seen) == 1
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
