"""The training loop: written out over torch, because two promises need every line of it.

*The same seed gives the same weights*, and *a resumed run ends with the weights of an undisturbed one*, bit
for bit on a CPU. Both follow from one rule: whatever a step uses is a function of (seed, step): its
examples (`plan`), its learning rate (`schedule`), its dropout (seeded anew at each step). So a checkpoint is
the weights, the optimizer's moments and a count, and no state of a random stream has to be carried. General
trainers keep such streams in loaders, accelerators and callbacks, and differ in the last bit after a resume.

The loss of a step is the weighted mean over all its trained tokens, however they fall into batches; so
accumulating gradients changes nothing but memory.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch.nn.functional import cross_entropy

from perron.trainer import checkpoints, schedule
from perron.trainer.chats import Example
from perron.trainer.model import (
    MODEL_FOLDER,
    Evaluated,
    Event,
    Finished,
    Hyperparameters,
    Reason,
    Saved,
    Stepped,
    TrainingFailedError,
    checkpoint_folder,
)
from perron.trainer.networks import Network
from perron.trainer.plan import Batch, Step, batches

_BETAS: Final = (0.9, 0.999)
_IMPROVEMENT_MIN: Final = 1e-4


@dataclass(slots=True)
class Standing:
    """How far a run is, and what early stopping remembers; it travels in every checkpoint."""

    step: int = 0
    tokens: int = 0
    validation_loss: float | None = None
    best_loss: float | None = None
    evaluations_without_gain: int = 0


@dataclass(frozen=True, slots=True)
class _Sums:
    """What one batch added up: weighted loss, weight, right guesses, guesses, tokens read."""

    loss: Any
    right: int
    trained: int
    tokens: int


class Training:
    """One job: its network, its examples, and every step of it."""

    def __init__(
        self,
        network: Network,
        hyperparameters: Hyperparameters,
        steps: Sequence[Step],
        training: Sequence[Example],
        validation: Sequence[Example],
        *,
        output: Path,
        report: Callable[[Event], None],
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._network = network
        self._asked = hyperparameters
        self._steps = steps
        self._training = training
        self._validation = validation
        self._output = output
        self._report = report
        self._clock = clock
        self.standing = Standing()
        self._optimizer = torch.optim.AdamW(
            [parameter for _, parameter in network.trained()],
            lr=hyperparameters.learning_rate,
            betas=_BETAS,
            weight_decay=hyperparameters.weight_decay,
        )

    def resume(self, folder: Path) -> None:
        """Takes up a run at a checkpoint that `run` reported."""
        self.standing = checkpoints.load(folder, self._network, self._optimizer, Standing)

    def run(self) -> Finished:
        """Trains to the end; raises TrainingFailedError where the loss is no number any more."""
        if self._validation and not self.standing.step:
            self._evaluate()
        stopped = self._is_enough()
        while self.standing.step < len(self._steps) and not stopped:
            step = self._steps[self.standing.step]
            self._learn(step)
            last = self.standing.step == len(self._steps)
            if self._validation and (last or self._due(self._asked.evaluation_steps, step)):
                self._evaluate()
                stopped = self._is_enough()
            if self._due(self._asked.checkpoint_steps, step) and not (last or stopped):
                self._save()
        self._network.save(self._output / MODEL_FOLDER)
        return Finished(self.standing.step, self.standing.tokens, stopped)

    def _save(self) -> None:
        folder = self._output / checkpoint_folder(self.standing.step)
        self._network.save(folder)
        checkpoints.save(folder, self._network, self._optimizer, self.standing)
        self._report(Saved(self.standing.step))

    def _learn(self, step: Step) -> None:
        """Updates the weights once."""
        began = self._clock()
        number = self.standing.step
        rate = schedule.learning_rate(
            number,
            len(self._steps),
            peak=self._asked.learning_rate,
            warmup_ratio=self._asked.warmup_ratio,
            decay=self._asked.decay,
        )
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        torch.manual_seed(_seed(self._asked.seed, number))
        self._network.module.train()
        weight = sum(
            sum(self._training[index].weights) for batch in step.batches for row in batch for index in row
        )
        loss, right, trained, tokens = 0.0, 0, 0, 0
        for batch in step.batches:
            sums = self._read(batch, self._training)
            (sums.loss / weight).backward()
            loss += float(sums.loss.detach()) / weight
            right, trained, tokens = right + sums.right, trained + sums.trained, tokens + sums.tokens
        if not math.isfinite(loss):
            raise TrainingFailedError(
                Reason.LOSS_NOT_FINITE, f"the loss of step {number + 1} is no number; lower the learning rate"
            )
        norm = torch.nn.utils.clip_grad_norm_(
            [parameter for _, parameter in self._network.trained()],
            self._asked.gradient_norm_max or math.inf,
        )
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self.standing.step += 1
        self.standing.tokens += tokens
        self._report(
            Stepped(
                step=self.standing.step,
                loss=loss,
                token_accuracy=right / trained,
                learning_rate=rate,
                gradient_norm=float(norm),
                tokens=self.standing.tokens,
                tokens_per_second=tokens / max(self._clock() - began, 1e-9),
            )
        )

    def _evaluate(self) -> None:
        """Looks at the validation files, each chat in a row of its own, without changing a weight."""
        self._network.module.eval()
        loss, right, trained, weight = 0.0, 0, 0, 0.0
        rows = [(index,) for index in range(len(self._validation))]
        with torch.no_grad():
            for batch in batches(rows, self._asked.batch_size):
                sums = self._read(batch, self._validation)
                loss, right, trained = loss + float(sums.loss), right + sums.right, trained + sums.trained
                weight += sum(sum(self._validation[index].weights) for row in batch for index in row)
        standing = self.standing
        standing.validation_loss = loss / weight
        if standing.best_loss is None or standing.validation_loss < standing.best_loss - _IMPROVEMENT_MIN:
            standing.best_loss, standing.evaluations_without_gain = standing.validation_loss, 0
        else:
            standing.evaluations_without_gain += 1
        self._report(Evaluated(standing.step, standing.validation_loss, right / trained, trained))

    def _read(self, batch: Batch, examples: Sequence[Example]) -> _Sums:
        """Sends one batch through the network and adds up the loss of its trained tokens."""
        tokens, positions, weights = (part.to(self._network.device) for part in collated(batch, examples))
        scores = self._network.logits(tokens, positions)[:, :-1]
        wanted, weights = tokens[:, 1:], weights[:, 1:]
        trained = weights != 0
        picked, targets = scores[trained].float(), wanted[trained]
        loss = (cross_entropy(picked, targets, reduction="none") * weights[trained]).sum()
        right = int((picked.argmax(-1) == targets).sum())
        read = sum(len(examples[index].tokens) for row in batch for index in row)
        return _Sums(loss, right, len(targets), read)

    def _due(self, every: int, step: Step) -> bool:
        return self.standing.step % every == 0 if every else step.ends_epoch

    def _is_enough(self) -> bool:
        patience = self._asked.patience_evaluations
        return bool(patience) and self.standing.evaluations_without_gain >= patience


def collated(batch: Batch, examples: Sequence[Example]) -> tuple[Any, Any, Any]:
    """Lays the examples of each row side by side: tokens, positions within each chat, weights, padded."""
    width = max(sum(len(examples[index].tokens) for index in row) for row in batch)
    tokens = torch.zeros((len(batch), width), dtype=torch.long)
    positions = torch.arange(width).repeat(len(batch), 1)
    weights = torch.zeros((len(batch), width))
    for line, row in enumerate(batch):
        start = 0
        for index in row:
            length = len(examples[index].tokens)
            tokens[line, start : start + length] = torch.frombuffer(examples[index].tokens, dtype=torch.int32)
            weights[line, start : start + length] = torch.frombuffer(
                examples[index].weights, dtype=torch.float32
            )
            positions[line, start : start + length] = torch.arange(length)
            start += length
        positions[line, start:] = torch.arange(width - start)  # the padding is a chat of its own
    return tokens, positions, weights


def _seed(seed: int, step: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}/{step}".encode()).digest()[:8], "big") >> 1
