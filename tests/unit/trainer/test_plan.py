"""Which examples meet in which step: every one once in an epoch, in an order that only the seed decides."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perron.trainer.model import Decay, Hyperparameters
from perron.trainer.plan import packed, plan, shuffled
from perron.trainer.schedule import learning_rate

ASKED = Hyperparameters(epochs=3, batch_size=4, accumulation_steps=2, length_max=100, packing=True)


@given(st.lists(st.integers(1, 100), min_size=1, max_size=80), st.booleans(), st.integers(0, 5))
def test_every_example_is_seen_once_in_an_epoch(lengths: list[int], packing: bool, seed: int) -> None:
    steps = plan(lengths, replace(ASKED, packing=packing, seed=seed))
    seen = [i for step in steps for batch in step.batches for row in batch for i in row]

    assert sum(step.ends_epoch for step in steps) == 3
    for epoch in range(3):
        assert sorted(seen[epoch * len(lengths) : (epoch + 1) * len(lengths)]) == list(range(len(lengths)))


@given(st.lists(st.integers(1, 100), max_size=80))
def test_no_row_is_longer_than_what_was_asked(lengths: list[int]) -> None:
    rows = packed(lengths, range(len(lengths)), 100)

    assert all(sum(lengths[i] for i in row) <= 100 for row in rows)
    assert [i for row in rows for i in row] == list(range(len(lengths)))


def test_a_step_holds_as_many_batches_of_as_many_rows_as_asked() -> None:
    steps = plan([10] * 20, replace(ASKED, packing=False, epochs=1))

    assert [[len(batch) for batch in step.batches] for step in steps] == [[4, 4], [4, 4], [4]]
    assert [step.ends_epoch for step in steps] == [False, False, True]


def test_the_order_is_a_matter_of_seed_and_epoch_and_the_same_everywhere() -> None:
    assert shuffled(10, 0, 0) == [1, 0, 2, 4, 9, 3, 8, 6, 7, 5]
    assert shuffled(100, 0, 0) != shuffled(100, 0, 1)
    assert shuffled(100, 0, 0) != shuffled(100, 1, 0)


@pytest.mark.parametrize("decay", list(Decay))
@pytest.mark.parametrize("warmup_ratio", [0.0, 0.1, 0.5])
def test_the_learning_rate_rises_to_its_peak_and_falls_to_nearly_nothing(
    decay: Decay, warmup_ratio: float
) -> None:
    rates = [
        learning_rate(step, 100, peak=1.0, warmup_ratio=warmup_ratio, decay=decay) for step in range(100)
    ]
    top = round(warmup_ratio * 100)

    assert rates[top] == 1.0
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert 0 < rates[-1] < 0.05


def test_one_step_alone_is_taken_at_the_peak() -> None:
    assert learning_rate(0, 1, peak=0.5, warmup_ratio=0.5, decay=Decay.LINEAR) == 0.5
