"""What tests of trainers share: a job, a longer one, and patience."""

import asyncio
import contextlib
import os
from typing import Any

from perron.api.finetuning.v1 import job_pb2

PATIENCE_SECONDS = 120.0
ASKED = job_pb2.Hyperparameters(
    epochs=3,
    batch_size=4,
    gradient_accumulation=1,
    learning_rate=5e-3,
    warmup_ratio=0.1,
    gradient_norm_max=1,
    sequence_tokens_max=256,
    seed=7,
    checkpoint_steps=8,
    evaluation_steps=8,
    lora={"rank": 4, "alpha": 8, "dropout": 0.1},
)


def longer() -> job_pb2.Hyperparameters:
    """A job that does not end by itself while a test looks on."""
    asked = job_pb2.Hyperparameters()
    asked.CopyFrom(ASKED)
    asked.epochs = 100
    asked.checkpoint_steps = asked.evaluation_steps = 100_000
    return asked


async def within(waiting: Any) -> Any:
    async with asyncio.timeout(PATIENCE_SECONDS):
        return await waiting


async def gone(pid: int) -> None:
    """Returns when a process has ended."""
    with contextlib.suppress(ProcessLookupError):
        process = os.pidfd_open(pid)
        ended = asyncio.Event()
        asyncio.get_running_loop().add_reader(process, ended.set)
        await within(ended.wait())
        asyncio.get_running_loop().remove_reader(process)
        os.close(process)
