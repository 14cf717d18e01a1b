"""What a caller left out of a job's hyperparameters, filled in, and what fits no base model refused.

Their ranges stand in the contract; here is only what depends on something else.
"""

import math
from dataclasses import dataclass, replace
from typing import Final

from perron.finetuning import errors
from perron.finetuning.model import BaseModel, Decay, Hyperparameters, Lora, Method

_RATES: Final = {Method.LORA: 2e-4, Method.FULL: 2e-5}


@dataclass(frozen=True, slots=True)
class Wanted:
    """Hyperparameters as they were asked for: 0, or None where 0 has a meaning, stands for the default."""

    epochs: int = 0
    batch_size: int = 0
    gradient_accumulation: int = 0
    learning_rate: float = 0.0
    decay: Decay = Decay.COSINE
    warmup_ratio: float | None = None
    gradient_norm_max: float | None = None
    weight_decay: float = 0.0
    sequence_tokens_max: int = 0
    packing: bool = False
    seed: int = 0
    evaluation_steps: int = 0
    checkpoint_steps: int = 0
    early_stop_evaluations: int = 0
    lora: Lora | None = None


def filled(wanted: Wanted, base: BaseModel, method: Method, *, has_validation: bool) -> Hyperparameters:
    """Returns every value; raises InvalidArgument (FIELD_INVALID) for what does not fit base or method."""
    if wanted.lora is not None and method is not Method.LORA:
        raise errors.field_invalid("hyperparameters.lora", "Adapters are for the method LORA alone.")
    if wanted.sequence_tokens_max > base.sequence_tokens_max:
        raise errors.field_invalid(
            "hyperparameters.sequence_tokens_max",
            f"The base model reads at most {base.sequence_tokens_max} tokens.",
        )
    if wanted.early_stop_evaluations and not has_validation:
        raise errors.field_invalid(
            "hyperparameters.early_stop_evaluations", "An early stop needs validation files."
        )
    return Hyperparameters(
        epochs=wanted.epochs or 3,
        batch_size=wanted.batch_size or 8,
        gradient_accumulation=wanted.gradient_accumulation or 1,
        learning_rate=wanted.learning_rate or _RATES[method],
        decay=wanted.decay,
        warmup_ratio=0.03 if wanted.warmup_ratio is None else wanted.warmup_ratio,
        gradient_norm_max=1.0 if wanted.gradient_norm_max is None else wanted.gradient_norm_max,
        weight_decay=wanted.weight_decay,
        sequence_tokens_max=wanted.sequence_tokens_max or base.sequence_tokens_max,
        packing=wanted.packing,
        seed=wanted.seed,
        evaluation_steps=wanted.evaluation_steps,
        checkpoint_steps=wanted.checkpoint_steps,
        early_stop_evaluations=wanted.early_stop_evaluations,
        lora=_lora(wanted.lora) if method is Method.LORA else None,
    )


def steps_per_epoch(parameters: Hyperparameters, examples: int, tokens: int) -> int:
    """Returns the optimizer steps of one epoch; packed, as many sequences as the tokens fill."""
    sequences = math.ceil(tokens / parameters.sequence_tokens_max) if parameters.packing else examples
    return max(1, math.ceil(sequences / (parameters.batch_size * parameters.gradient_accumulation)))


def _lora(wanted: Lora | None) -> Lora:
    found = wanted or Lora(rank=0, alpha=0)
    rank = found.rank or 8
    return replace(found, rank=rank, alpha=found.alpha or 2 * rank)
