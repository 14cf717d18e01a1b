"""What a job is expected to take, before anything runs: tokens, steps, time and money."""

from collections.abc import Sequence
from typing import Final

from perron.finetuning.hyperparameters import steps_per_epoch
from perron.finetuning.model import BaseModel, Estimate, Hyperparameters, TrainingFile

_MILLION: Final = 1_000_000


def estimate(
    parameters: Hyperparameters, base: BaseModel, files: Sequence[TrainingFile], measured: float
) -> Estimate:
    """Estimates the training on `files`; `measured` tokens per second, 0 where no worker has measured yet.

    The price is rounded up to a millionth, so that no job is free whose base has a price.
    """
    tokens = sum(file.tokens for file in files)
    examples = sum(file.examples for file in files)
    trained = tokens * parameters.epochs
    rate = measured or base.tokens_per_second
    return Estimate(
        tokens=trained,
        steps=steps_per_epoch(parameters, examples, tokens) * parameters.epochs,
        seconds=trained / rate if rate else 0.0,
        cost_micros=-(-trained * base.price_micros // _MILLION),
        currency=base.currency,
    )
