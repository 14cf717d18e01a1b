"""Concurrent callers share one transaction: the one performance idea of the suite.

While a batch is in flight the next one collects; an idle server adds no delay. So nothing needs a cache,
and nothing is ever answered from one. The argument for its safety:

- A batch belongs to the service and not to a caller. It runs in its own task with an empty context; results
  are set only on futures that still wait; whatever happens in the runner, its `finally` answers everybody
  and starts the next one. The obvious implementation, in which the first caller runs the batch, dies with
  that caller.
- A refusal is a value among the results. If the batch itself raises, its transaction was rolled back, and
  its items run once more, singly: one poison item spoils nobody else's call.
- The queue is bounded and filled round robin over tenants; one that sends too much waits behind itself.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from perron.chassis import telemetry
from perron.chassis.errors import DeadlineExceeded, PerronError, ResourceExhausted, Unavailable
from perron.chassis.interceptors import deadline

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

__all__ = ["Batcher"]

Item = TypeVar("Item")
Result = TypeVar("Result")

SECONDS_MAX: Final = 5.0
_RETRY_AFTER_MIN: Final = 0.1
_COMPANY: Final = 10  # so many at once mean that many more are coming


class _Group:
    """Items that one caller handed in together, and the future it waits for."""

    __slots__ = ("future", "missing", "results")

    def __init__(self, size: int) -> None:
        self.future: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        self.results: list[Any] = [None] * size
        self.missing = size

    def set(self, index: int, result: object) -> None:
        if self.results[index] is None:
            self.results[index] = result
            self.missing -= 1
            if not self.missing and not self.future.done():
                self.future.set_result(self.results)


class _Entry(Generic[Item]):
    """One waiting item."""

    __slots__ = ("end", "group", "index", "item", "since_ns", "trace_parent", "weight")

    def __init__(
        self, item: Item, group: _Group, index: int, end: float, weight: int, trace_parent: str, since_ns: int
    ) -> None:
        self.item = item
        self.group = group
        self.index = index
        self.end = end
        self.weight = weight
        self.trace_parent = trace_parent
        self.since_ns = since_ns


class Batcher(Generic[Item, Result]):
    """Runs `run` on batches of what callers submit.

    `run` gets at most `max_items` items, or `max_bytes` by `weigh` (one larger item runs alone), and returns
    as many results in the same order, a refused item's being its PerronError. `tenant` names whom an item is
    for, `trace_parent` the trace it belongs to (empty: the submitting call's own). At most about `queue_max`
    items wait. After a batch of several, the next one collects for up to `gather_seconds` more; an item that
    comes alone waits for nobody. Each item's part becomes a span in its caller's trace, unless the caller
    records one of the same length (`records_items`).
    """

    def __init__(
        self,
        run: Callable[[Sequence[Item]], Awaitable[Sequence[Result | PerronError]]],
        *,
        name: str,
        tenant: Callable[[Item], str] = lambda _item: "",
        weigh: Callable[[Item], int] = lambda _item: 0,
        trace_parent: Callable[[Item], str] = lambda _item: "",
        max_items: int = 128,
        max_bytes: int = 128 * 1024,
        queue_max: int = 4096,
        gather_seconds: float = 0.0,
        records_items: bool = True,
    ) -> None:
        self._run = run
        self._name = name
        self._tenant = tenant
        self._weigh = weigh
        self._trace_parent = trace_parent
        self._max_items = max_items
        self._max_bytes = max_bytes
        self._queue_max = queue_max
        self._gather_seconds = gather_seconds
        self._records_items = records_items
        self._queues: dict[str, deque[_Entry[Item]]] = {}
        self._turns: deque[str] = deque()
        self._waiting = 0
        self._seconds_per_batch = 0.01
        self._runner: asyncio.Task[None] | None = None
        self._closed = False

    async def submit(self, item: Item) -> Result:
        """Run one item and return its result, or raise its refusal.

        Raises ResourceExhausted (OVERLOADED) where too much waits, DeadlineExceeded where the call's time
        runs out first.
        """
        (result,) = await self.submit_many((item,))
        if isinstance(result, PerronError):
            raise result
        return result

    async def submit_many(self, items: Sequence[Item]) -> list[Result | PerronError]:
        """Run items and return each one's result or refusal, in their order."""
        group = _Group(len(items))
        if not items:
            return []
        end = deadline.instant() or asyncio.get_running_loop().time() + SECONDS_MAX
        own_trace = telemetry.current_trace_parent()
        since_ns = telemetry.now_ns()
        for index, item in enumerate(items):
            tenant = self._tenant(item)
            queue = self._queues.get(tenant)
            if self._closed or not self._has_room(len(queue) if queue else 0):
                group.set(index, self._overloaded())
                continue
            if queue is None:
                queue = self._queues[tenant] = deque()
                self._turns.append(tenant)
            trace_parent = self._trace_parent(item) or own_trace
            queue.append(_Entry(item, group, index, end, self._weigh(item), trace_parent, since_ns))
            self._waiting += 1
        if self._waiting and self._runner is None:
            self._start()
        return await group.future

    async def aclose(self) -> None:
        """Take nothing new; return when everything that waits has been answered."""
        self._closed = True
        while self._runner is not None:
            await asyncio.wait({self._runner})

    def _has_room(self, own: int) -> bool:
        if self._waiting < self._queue_max:
            return True
        fair_share = self._queue_max // (len(self._turns) + 1)
        return own < fair_share and self._waiting < 2 * self._queue_max

    def _overloaded(self) -> ResourceExhausted:
        seconds = max(_RETRY_AFTER_MIN, self._waiting / self._max_items * self._seconds_per_batch)
        return ResourceExhausted(
            "OVERLOADED", "too much work waits here; come back later", retry_after=timedelta(seconds=seconds)
        )

    def _start(self) -> None:
        self._runner = asyncio.get_running_loop().create_task(
            self._drain(), name=f"batch {self._name}", context=contextvars.Context()
        )

    async def _drain(self) -> None:
        try:
            while batch := self._take():
                await self._answer(batch)
                if self._gather_seconds and len(batch) > 1:
                    await asyncio.sleep(self._gather_seconds * min(1.0, len(batch) / _COMPANY))
        finally:
            self._runner = None
            if self._waiting:  # the runner was ended from outside; the service goes on
                self._start()

    def _take(self) -> list[_Entry[Item]]:
        """The next batch, a turn for each tenant in order; what nobody waits for any more is left out."""
        batch: list[_Entry[Item]] = []
        weight = 0
        now = asyncio.get_running_loop().time()
        while self._turns and len(batch) < self._max_items:
            tenant = self._turns[0]
            queue = self._queues[tenant]
            entry = queue[0]
            wanted = not entry.group.future.done() and entry.end > now
            if wanted and batch and weight + entry.weight > self._max_bytes:
                break
            queue.popleft()
            self._waiting -= 1
            if queue:
                self._turns.rotate(-1)
            else:
                self._turns.popleft()
                del self._queues[tenant]
            if wanted:
                batch.append(entry)
                weight += entry.weight
            else:
                entry.group.set(
                    entry.index,
                    DeadlineExceeded("DEADLINE_PASSED", "the deadline passed before the work began"),
                )
        return batch

    async def _answer(self, batch: list[_Entry[Item]]) -> None:
        loop = asyncio.get_running_loop()
        start, start_ns = loop.time(), telemetry.now_ns()
        interrupted = Unavailable("OVERLOADED", "the batch was interrupted; the outcome is not known")
        results: Sequence[object] = [interrupted] * len(batch)
        scope = telemetry.batch_scope(self._name, [entry.trace_parent for entry in batch])
        try:
            with scope as span:
                results = await self._results(
                    batch, min(max(entry.end for entry in batch), start + SECONDS_MAX)
                )
        finally:
            for entry, result in zip(batch, results, strict=True):
                entry.group.set(entry.index, result)
        self._seconds_per_batch = 0.8 * self._seconds_per_batch + 0.2 * (loop.time() - start)
        telemetry.measure_batch(self._name, len(batch), (start_ns - batch[0].since_ns) / 1e9)
        if self._records_items and len(batch) > 1 and span.get_span_context().is_valid:
            for entry, result in zip(batch, results, strict=True):
                telemetry.record_item(self._name, entry.trace_parent, span, start_ns, result)

    async def _results(self, batch: list[_Entry[Item]], end: float) -> Sequence[Result | PerronError]:
        deadline.set_instant(end)
        try:
            async with asyncio.timeout_at(end):
                return await self._checked([entry.item for entry in batch])
        except PerronError as error:
            return [error] * len(batch)
        except TimeoutError:
            return [
                DeadlineExceeded("DEADLINE_PASSED", "the deadline passed before the work was done")
            ] * len(batch)
        except Exception as error:  # noqa: BLE001 (a defect in one item must not answer for the others)
            if len(batch) == 1:
                return [telemetry.defect(error, self._name)]
            return [(await self._results([entry], end))[0] for entry in batch]

    async def _checked(self, items: list[Item]) -> Sequence[Result | PerronError]:
        results = await self._run(items)
        if len(results) != len(items):
            message = f"{self._name} answered {len(results)} of {len(items)} items"
            raise RuntimeError(message)
        return results
