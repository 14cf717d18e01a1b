"""Jobs under workers that are killed with SIGKILL: none is lost, none has its effect twice."""

import asyncio
import contextlib
import random
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from perron.api.finetuning.v1 import job_pb2, job_service_pb2
from perron.api.finetuning.v1 import model_service_pb2 as models_pb
from perron.chassis.testing import BOTH
from tests.contract.finetuning.fake_worker import STEPS, hashed, safetensors
from tests.contract.finetuning.stand_in import Running, bearer, secret, serving, stamped
from tests.scale import IS_SOAK, record, times

LEASE_SECONDS = 2.0
RECLAIMED_SECONDS_MAX = LEASE_SECONDS + 5
KILLED_SHARE = 0.4
KILL_SECONDS = 2.0 if IS_SOAK else 0.0
WATCHED_AT_ONCE = 24
State = job_pb2.Job.State


class Workers:
    """Worker processes, of which one may be killed and is replaced, in a soak every two seconds."""

    def __init__(self, target: str, count: int, chance: random.Random) -> None:
        self._chance = chance
        self._command = [
            sys.executable,
            "-m",
            "tests.contract.finetuning.fake_worker",
            target,
            secret("trainer"),
        ]
        self.processes = [self._start() for _ in range(count)]
        self.kills = 0
        self.began = self._killed = time.monotonic()

    def perhaps_kill_one(self) -> None:
        now = time.monotonic()
        if now - self._killed < KILL_SECONDS or (not IS_SOAK and self._chance.random() >= KILLED_SHARE):
            return
        self._killed = now
        victim = self._chance.choice(self.processes)
        victim.kill()
        victim.wait()
        self.kills += 1
        self.processes[self.processes.index(victim)] = self._start()

    def close(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()

    def _start(self) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(self._command)


@pytest.mark.parametrize("database_url", BOTH, indirect=True)
async def test_no_job_is_lost_or_done_twice_when_workers_are_killed(
    database_url: str, tmp_path: Path
) -> None:
    chance, jobs = random.Random(4), times(12, 1_000)
    environ = {"LEASE_SECONDS": str(LEASE_SECONDS), "LEASE_ATTEMPTS_MAX": "100"}
    async with serving(stamped(database_url), tmp_path, None, **environ) as finetuning:
        given = {"fine_tuning": "yes", "fine_tuning_jobs": "2000", "fine_tuning_bytes": str(1 << 40)}
        finetuning.person("ada", entitlements=given)
        file = await finetuning.upload("ada")
        made = [await finetuning.create_job("ada", [file.file_id]) for _ in range(jobs)]
        workers = Workers(f"127.0.0.1:{finetuning.application.port}", times(3, 8), chance)
        watching = asyncio.Semaphore(WATCHED_AT_ONCE)
        try:
            histories = await asyncio.gather(
                *(followed(finetuning, job.job_id, workers, watching) for job in made)
            )
            took = time.monotonic() - workers.began
        finally:
            workers.close()

        gaps = []
        for job, events in zip(made, histories, strict=True):
            states = [event.job.state for event in events if event.HasField("job")]
            assert states.count(State.STATE_SUCCEEDED) == 1
            assert states[-1] == State.STATE_SUCCEEDED
            steps = [event.metrics.step for event in events if event.HasField("metrics")]
            assert steps == list(range(1, STEPS + 1))
            assert [event.number for event in events] == list(range(1, len(events) + 1))
            gaps += reclaims(events)
            await shows_one_model_of_undisturbed_work(finetuning, job.job_id)
    assert workers.kills
    assert gaps
    if IS_SOAK:
        assert max(gaps, default=0.0) <= RECLAIMED_SECONDS_MAX
    record(
        "no job is lost or doubled when workers are killed",
        dialect=database_url.partition(":")[0],
        jobs=jobs,
        kills=workers.kills,
        seconds=round(took, 1),
        reclaims=len(gaps),
        slowest_reclaim_s=round(max(gaps, default=0.0), 2),
    )


async def followed(
    finetuning: Running, job_id: str, workers: Workers, watching: asyncio.Semaphore
) -> list[Any]:
    """The events of a job to its end; when it is first seen to run (in a soak: at any), a worker may die."""
    events: list[Any] = []
    async with watching:
        while not events or not events[-1].job.HasField("end_time"):
            with contextlib.suppress(grpc.aio.AioRpcError):  # connections age; whoever watches goes on
                async for event in watched(finetuning, job_id, events[-1].number if events else 0):
                    events.append(event)
                    if IS_SOAK or (event.job.state == State.STATE_RUNNING and event.job.attempts == 1):
                        workers.perhaps_kill_one()
    return events


async def watched(finetuning: Running, job_id: str, after: int) -> AsyncIterator[Any]:
    request = job_service_pb2.WatchJobRequest(job_id=job_id, after_number=after)
    async for message in finetuning.jobs.WatchJob(request, metadata=bearer("ada"), wait_for_ready=True):
        for event in message.events:
            yield event


def reclaims(events: list[Any]) -> list[float]:
    """How long it took each time from the last sign of a worker until its job was taken back."""
    found, last = [], 0.0
    for event in events:
        at = event.create_time.ToMicroseconds() / 1e6
        if event.job.state == State.STATE_STARTED and event.job.attempts:
            found.append(at - last)
        last = at
    return found


async def shows_one_model_of_undisturbed_work(finetuning: Running, job_id: str) -> None:
    response = await finetuning.models.ListModels(
        models_pb.ListModelsRequest(job_id=job_id), metadata=bearer("ada")
    )
    models = [one for one in response.models if not one.provenance.checkpoint_id]
    steps = sorted(one.provenance.step for one in response.models if one.provenance.checkpoint_id)
    assert (len(models), steps) == (1, list(range(1, STEPS + 1)))
    request = models_pb.DownloadModelRequest(model_id=models[0].model_id)
    parts = [part async for part in finetuning.models.DownloadModel(request, metadata=bearer("ada"))]
    work = b""
    for _ in range(STEPS):
        work = hashed(work, 20_000)
    assert b"".join(part.chunk for part in parts) == safetensors(work)
