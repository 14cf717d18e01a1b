"""The learning rate of each step: a straight warm-up, then the decay that was asked for.

A pure function of the step, so a resumed run needs no memory of it.
"""

import math

from perron.trainer.model import Decay


def learning_rate(step: int, steps: int, *, peak: float, warmup_ratio: float, decay: Decay) -> float:
    """Returns the rate of `step` (from 0) of `steps`; the warm-up reaches the peak at its last step.

    The decay ends just above zero at the last step: a step at rate 0 would learn nothing.
    """
    warmup = min(round(warmup_ratio * steps), steps - 1)
    if step < warmup:
        return peak * (step + 1) / (warmup + 1)
    progress = (step - warmup) / (steps - warmup)
    match decay:
        case Decay.COSINE:
            return peak * (1 + math.cos(math.pi * progress)) / 2
        case Decay.LINEAR:
            return peak * (1 - progress)
