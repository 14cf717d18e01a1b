"""The batcher's promises: nobody's trouble becomes somebody else's."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from perron.chassis.batcher import Batcher
from perron.chassis.errors import DeadlineExceeded, Internal, NotFound, PerronError, ResourceExhausted
from perron.chassis.interceptors import deadline

if TYPE_CHECKING:
    from collections.abc import Sequence


class Store:
    """Doubles numbers; remembers the batches it saw, and stops where a test wants it to."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.poison: set[int] = set()

    async def run(self, items: Sequence[int]) -> list[int | PerronError]:
        self.batches.append(list(items))
        await self.gate.wait()
        if self.poison & set(items):
            message = "a text that nobody outside may read"
            raise ValueError(message)
        return [NotFound("RESOURCE_NOT_FOUND", "negative") if item < 0 else item * 2 for item in items]


async def test_an_idle_batcher_runs_the_first_item_at_once() -> None:
    store = Store()
    batcher = Batcher(store.run, name="double")
    assert await batcher.submit(1) == 2
    assert store.batches == [[1]]


async def test_items_that_arrive_while_a_batch_is_in_flight_share_the_next_one() -> None:
    store = Store()
    store.gate.clear()
    batcher = Batcher(store.run, name="double")
    first = asyncio.create_task(batcher.submit(1))
    await asyncio.sleep(0.01)
    others = [asyncio.create_task(batcher.submit(item)) for item in (2, 3, 4)]
    await asyncio.sleep(0.01)
    store.gate.set()
    assert await asyncio.gather(first, *others) == [2, 4, 6, 8]
    assert store.batches == [[1], [2, 3, 4]]


async def test_after_company_the_next_batch_waits_for_more_and_a_lone_item_never_waits() -> None:
    store = Store()
    batcher = Batcher(store.run, name="double", gather_seconds=0.1)
    await batcher.submit_many([1, 2, 3, 4])
    late = [asyncio.create_task(batcher.submit(5))]
    await asyncio.sleep(0.01)
    late.append(asyncio.create_task(batcher.submit(6)))
    await asyncio.gather(*late)
    assert store.batches == [[1, 2, 3, 4], [5, 6]]

    begin = asyncio.get_running_loop().time()
    await batcher.submit(7)
    await batcher.submit(8)
    assert asyncio.get_running_loop().time() - begin < 0.05


async def test_a_refusal_is_one_items_own() -> None:
    batcher = Batcher(Store().run, name="double")
    results = await batcher.submit_many([1, -1, 3])
    assert results[0] == 2
    assert results[2] == 6
    assert isinstance(results[1], NotFound)
    with pytest.raises(NotFound):
        await batcher.submit(-1)


async def test_a_poison_item_spoils_nobody_elses_answer() -> None:
    store = Store()
    store.poison = {13}
    batcher = Batcher(store.run, name="double")
    results = await batcher.submit_many([1, 13, 3])
    assert [results[0], results[2]] == [2, 6]
    assert isinstance(results[1], Internal)
    assert "text" not in results[1].message
    assert store.batches == [[1, 13, 3], [1], [13], [3]]


@pytest.mark.parametrize("victim", range(8))
@pytest.mark.parametrize("turns", range(6))
async def test_cancelling_any_caller_at_any_await_leaves_the_others_answered(victim: int, turns: int) -> None:
    store = Store()
    store.gate.clear()
    batcher = Batcher(store.run, name="double")
    tasks = [asyncio.create_task(batcher.submit(item)) for item in range(8)]
    for _ in range(turns):
        await asyncio.sleep(0)
    tasks[victim].cancel()
    store.gate.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    expected = [item * 2 for item in range(8)]
    assert [r for i, r in enumerate(results) if i != victim] == [
        r for i, r in enumerate(expected) if i != victim
    ]
    assert await batcher.submit(50) == 100


async def test_the_caller_that_started_the_batch_may_leave() -> None:
    """The obvious batcher, run by its first caller, fails here: see `CallerRun`."""
    assert await _survivor(Batcher) == 4
    with pytest.raises(asyncio.CancelledError):
        await _survivor(CallerRun)


class CallerRun(Batcher[int, int]):
    """The deliberately wrong variant: the first caller runs the batch for everybody."""

    async def submit_many(self, items: Sequence[int]) -> list[int | PerronError]:
        leader = not hasattr(self, "_shared")
        if leader:
            self._shared: asyncio.Future[list[int]] = asyncio.get_running_loop().create_future()
            self._collected: list[int] = []
        position = len(self._collected)
        self._collected.extend(items)
        if leader:
            try:
                await asyncio.sleep(0.01)
                self._shared.set_result([r for r in await self._run(self._collected) if isinstance(r, int)])
            except asyncio.CancelledError:
                self._shared.cancel()
                raise
        return [(await self._shared)[position]]


async def _survivor(kind: type[Batcher[int, int]]) -> int:
    store = Store()
    store.gate.clear()
    batcher = kind(store.run, name="double")
    leader = asyncio.create_task(batcher.submit(1))
    await asyncio.sleep(0)
    follower = asyncio.create_task(batcher.submit(2))
    await asyncio.sleep(0)
    leader.cancel()
    store.gate.set()
    return await follower


async def test_a_runner_killed_from_outside_answers_everybody_and_starts_again() -> None:
    store = Store()
    store.gate.clear()
    batcher = Batcher(store.run, name="double")
    tasks = [asyncio.create_task(batcher.submit(item)) for item in (1, 2)]
    await asyncio.sleep(0.01)
    late = asyncio.create_task(batcher.submit(3))
    await asyncio.sleep(0)
    (runner,) = [task for task in asyncio.all_tasks() if task.get_name() == "batch double"]
    runner.cancel()
    store.gate.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result).__name__ for result in results] == ["Unavailable", "Unavailable"]
    assert await late == 6


async def test_an_expired_item_is_answered_without_work() -> None:
    store = Store()
    store.gate.clear()
    batcher = Batcher(store.run, name="double")
    first = asyncio.create_task(batcher.submit(1))
    await asyncio.sleep(0)

    async def hurried() -> int:
        deadline.set_instant(asyncio.get_running_loop().time() + 0.01)
        return await batcher.submit(2)

    second = asyncio.create_task(hurried())
    await asyncio.sleep(0.03)
    store.gate.set()
    assert await first == 2
    with pytest.raises(DeadlineExceeded):
        await second
    assert store.batches == [[1]]


async def test_a_full_queue_refuses_with_a_time_to_come_back() -> None:
    store = Store()
    store.gate.clear()
    batcher = Batcher(store.run, name="double", queue_max=4)
    running = asyncio.create_task(batcher.submit(0))
    await asyncio.sleep(0.01)
    waiting = [asyncio.create_task(batcher.submit(item)) for item in range(1, 5)]
    await asyncio.sleep(0)
    with pytest.raises(ResourceExhausted) as refusal:
        await batcher.submit(9)
    assert refusal.value.reason == "OVERLOADED"
    assert refusal.value.retry_after is not None
    store.gate.set()
    assert await asyncio.gather(running, *waiting) == [0, 2, 4, 6, 8]


async def test_a_greedy_tenant_waits_behind_itself() -> None:
    store = Store()
    store.gate.clear()
    batcher = Batcher(
        store.run, name="double", tenant=lambda item: "greedy" if item < 1000 else "modest", max_items=8
    )
    running = asyncio.create_task(batcher.submit(0))
    await asyncio.sleep(0.01)
    greedy = [asyncio.create_task(batcher.submit(item)) for item in range(1, 200)]
    await asyncio.sleep(0)
    modest = asyncio.create_task(batcher.submit(1000))
    await asyncio.sleep(0)
    store.gate.set()
    assert await modest == 2000
    await asyncio.gather(running, *greedy)
    assert 1000 in store.batches[1], "the newcomer's item is in the next batch, not behind two hundred others"


async def test_a_greedy_tenant_that_fills_the_queue_leaves_room_for_others() -> None:
    store = Store()
    store.gate.clear()
    batcher = Batcher(
        store.run, name="double", tenant=lambda item: "greedy" if item < 1000 else "modest", queue_max=8
    )
    tasks = [asyncio.create_task(batcher.submit(item)) for item in range(40)]
    await asyncio.sleep(0.01)
    modest = asyncio.create_task(batcher.submit(1000))
    await asyncio.sleep(0)
    store.gate.set()
    assert await modest == 2000
    refused = [
        r for r in await asyncio.gather(*tasks, return_exceptions=True) if isinstance(r, ResourceExhausted)
    ]
    assert refused


async def test_a_batch_closes_at_its_bounds() -> None:
    store = Store()
    store.gate.clear()
    batcher = Batcher(store.run, name="double", max_items=3, max_bytes=10, weigh=lambda item: item)
    running = asyncio.create_task(batcher.submit(0))
    await asyncio.sleep(0.01)
    rest = [asyncio.create_task(batcher.submit(item)) for item in (4, 5, 6, 50, 1, 1, 1, 1)]
    await asyncio.sleep(0)
    store.gate.set()
    await asyncio.gather(running, *rest)
    assert store.batches == [[0], [4, 5], [6], [50], [1, 1, 1], [1]]


async def test_closing_answers_what_waits_and_takes_nothing_new() -> None:
    batcher = Batcher(Store().run, name="double")
    waiting = asyncio.create_task(batcher.submit(1))
    await asyncio.sleep(0)
    await batcher.aclose()
    assert await waiting == 2
    with pytest.raises(ResourceExhausted):
        await batcher.submit(2)


async def test_the_runner_inherits_nothing_from_the_caller_that_started_it() -> None:
    seen: list[float | None] = []

    async def run(items: Sequence[int]) -> list[int | PerronError]:
        seen.append(deadline.instant())
        return list(items)

    now = asyncio.get_running_loop().time()
    deadline.set_instant(now + 3600)
    await Batcher(run, name="seen").submit(1)
    assert seen[0] is not None
    assert seen[0] <= now + 6, "a batch is bounded by five seconds, whatever its caller's deadline"
