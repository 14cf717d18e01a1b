"""The real trainer under the real service: killed, it loses nothing; cancelled, it lets go."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from perron.api.finetuning.v1 import job_pb2, job_service_pb2, model_service_pb2
from perron.chassis.testing import empty_store
from tests.contract.finetuning.stand_in import Running, bearer, secret, serving, stamped
from tests.suite.trainers import ASKED, PATIENCE_SECONDS, gone, longer
from tests.unit.trainer.chats_of_tests import lines, sums


async def test_a_trainer_that_is_killed_ends_with_the_weights_of_an_undisturbed_run(
    tmp_path: Path, tiny_base: Path, undisturbed: dict[str, str]
) -> None:
    """With the real service, and the trainer as a process of its own, killed at its first checkpoint."""
    async with running(tmp_path) as finetuning:
        job_id = await created(finetuning)
        first = trainer(finetuning, tmp_path, tiny_base)
        events = aiter(watched(finetuning, job_id))
        async for event in events:
            if event.HasField("checkpoint"):
                break
        child = only_child(first.pid)
        first.kill()
        first.wait()
        await gone(child)
        second = trainer(finetuning, tmp_path, tiny_base)
        checkpoints = [event.checkpoint.step async for event in events if event.HasField("checkpoint")]
        second.terminate()
        status = second.wait(PATIENCE_SECONDS)
        job = await finetuning.job("ada", job_id)
        made = await finetuning.models.GetModel(
            model_service_pb2.GetModelRequest(model_id=job.model_id), metadata=bearer("ada")
        )

    assert job.state == job_pb2.Job.STATE_SUCCEEDED
    assert job.attempts == 2
    assert checkpoints[-1] == 40
    assert status == 0
    assert {one.name: one.sha256 for one in made.model.artifacts} == undisturbed


async def test_a_job_that_its_owner_cancels_is_given_up_by_its_trainer(
    tmp_path: Path, tiny_base: Path
) -> None:
    endless = longer()
    endless.ClearField("lora")
    async with running(tmp_path) as finetuning:
        job_id = await created(finetuning, endless, job_pb2.TRAINING_METHOD_FULL)
        worker = trainer(finetuning, tmp_path, tiny_base)
        events = aiter(watched(finetuning, job_id))
        async for event in events:
            if event.HasField("metrics") and event.metrics.source == job_pb2.Metrics.SOURCE_TRAINING:
                break
        child = only_child(worker.pid)
        await finetuning.jobs.CancelJob(
            job_service_pb2.CancelJobRequest(job_id=job_id), metadata=bearer("ada")
        )
        after = [event async for event in events]
        await gone(child)
        worker.terminate()
        assert worker.wait(PATIENCE_SECONDS) == 0

    assert [event.job.state for event in after if event.HasField("job")] == [
        job_pb2.Job.STATE_CANCELLATION_REQUESTED,
        job_pb2.Job.STATE_CANCELLED,
    ]
    assert sorted(path.name for path in (tmp_path / "scratch").iterdir()) == ["lock"]


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[Running]:
    store = stamped(empty_store("sqlite", "finetuning", folder))
    async with serving(store, folder, None, LEASE_SECONDS="2") as finetuning:
        finetuning.person("ada")
        yield finetuning


def trainer(finetuning: Running, folder: Path, base: Path) -> subprocess.Popen[bytes]:
    """A trainer as a process of its own."""
    (folder / "trainer.key").write_text(secret("trainer"), encoding="ascii")
    (folder / "bases.yaml").write_text(
        f"models: [{{name: tiny, trainable: true, folder: {base}}}]\n", encoding="utf-8"
    )
    environment = os.environ | {
        "PERRON_TRAINER_FINETUNING_TARGET": f"127.0.0.1:{finetuning.application.port}",
        "PERRON_TRAINER_KEY_FILE": str(folder / "trainer.key"),
        "PERRON_TRAINER_MODELS_FILE": str(folder / "bases.yaml"),
        "PERRON_TRAINER_SCRATCH_FOLDER": str(folder / "scratch"),
        "PERRON_TRAINER_DEVICE": "cpu",
    }
    return subprocess.Popen([sys.executable, "-m", "perron.trainer"], env=environment)


def only_child(pid: int) -> int:
    (child,) = Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()
    return int(child)


async def created(
    finetuning: Running,
    hyperparameters: job_pb2.Hyperparameters = ASKED,
    method: job_pb2.TrainingMethod.ValueType = job_pb2.TRAINING_METHOD_LORA,
) -> str:
    """The id of a job of the real service over the files of these tests."""
    training = await finetuning.upload("ada", lines(sums(64)))
    validation = await finetuning.upload("ada", lines(sums(12, start=3)))
    job = await finetuning.create_job(
        "ada",
        [training.file_id],
        validation_file_ids=[validation.file_id],
        method=method,
        hyperparameters=hyperparameters,
        auto_start=True,
    )
    return str(job.job_id)


async def watched(finetuning: Running, job_id: str) -> AsyncIterator[job_pb2.JobEvent]:
    """Everything that happens to a job, until it ends."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        call = finetuning.jobs.WatchJob(
            job_service_pb2.WatchJobRequest(job_id=job_id), metadata=bearer("ada")
        )
        async for response in call:
            for event in response.events:
                yield event
