"""Which examples meet in which step, settled before the first one is trained.

The order is a function of seed and epoch alone, so a resumed run skips the steps that are done and goes on
with exactly those that were to come. What a newcomer gets wrong: a random stream that is drawn from as
training goes would stand elsewhere in the resumed process.
"""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from perron.trainer.model import Hyperparameters

Row = tuple[int, ...]
"""The examples, by index, that share one row of a batch; without packing, one."""

Batch = tuple[Row, ...]
"""The rows that go through the network together."""


@dataclass(frozen=True, slots=True)
class Step:
    """One update of the weights, and whether an epoch ends with it."""

    batches: tuple[Batch, ...]
    ends_epoch: bool


def plan(lengths: Sequence[int], hyperparameters: Hyperparameters) -> list[Step]:
    """Returns every step of a job whose examples have these lengths in tokens, each at most `length_max`."""
    rows_per_step = hyperparameters.batch_size * hyperparameters.accumulation_steps
    steps: list[Step] = []
    for epoch in range(hyperparameters.epochs):
        order = shuffled(len(lengths), hyperparameters.seed, epoch)
        rows = (
            packed(lengths, order, hyperparameters.length_max) if hyperparameters.packing else _single(order)
        )
        for start in range(0, len(rows), rows_per_step):
            of_step = rows[start : start + rows_per_step]
            last = start + rows_per_step >= len(rows)
            steps.append(Step(batches(of_step, hyperparameters.batch_size), last))
    return steps


def batches(rows: Sequence[Row], size: int) -> tuple[Batch, ...]:
    """Cuts rows into batches of `size`; the last may be smaller."""
    return tuple(tuple(rows[start : start + size]) for start in range(0, len(rows), size))


def shuffled(count: int, seed: int, epoch: int) -> list[int]:
    """Returns the order of one epoch: the same for the same seed, on every machine."""
    order = list(range(count))
    random.Random(f"{seed}/{epoch}").shuffle(order)  # noqa: S311 (an order is no secret)
    return order


def packed(lengths: Sequence[int], order: Iterable[int], length_max: int) -> list[Row]:
    """Fills rows with whole examples, in order: an example that no longer fits begins the next row."""
    rows: list[Row] = []
    row: list[int] = []
    used = 0
    for index in order:
        if row and used + lengths[index] > length_max:
            rows.append(tuple(row))
            row, used = [], 0
        row.append(index)
        used += lengths[index]
    return [*rows, tuple(row)] if row else rows


def _single(order: Iterable[int]) -> list[Row]:
    return [(index,) for index in order]
