"""A worker from lease to wiped folder: real child processes, finetuning over a real channel."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from perron.api.finetuning.v1 import job_pb2, model_pb2
from perron.api.finetuning.v1 import worker_service_pb2 as pb2
from perron.chassis.channels import Peer
from perron.chassis.server import Application
from perron.trainer import confinement
from perron.trainer.bases import Base
from perron.trainer.scratch import Scratch
from perron.trainer.worker import Worker
from tests.suite.trainers import ASKED, gone, longer, within
from tests.unit.trainer.chats_of_tests import lines, sums
from tests.unit.trainer.stand_in import KEY, Finetuning, application


class House:
    """Finetuning, and a worker that may be started beside it."""

    def __init__(self, folder: Path, base: Path) -> None:
        self.folder = folder
        self.base = base
        self.finetuning = Finetuning(folder / "scratch")
        self.application: Application = application(self.finetuning)
        self.target = ""
        self.worker: Worker | None = None
        self._stop = asyncio.Event()
        self.running: asyncio.Task[None] | None = None
        self._closers: list[Callable[[], Any]] = []

    async def start(self) -> None:
        await self.application.start()
        self.target = f"127.0.0.1:{self.application.port}"

    def work(self, **options: Any) -> Worker:
        """A worker within this process, whose child is a process all the same."""
        peer = Peer("finetuning", self.target, KEY)
        scratch = Scratch(self.folder / "scratch")
        cpu = pb2.Capabilities(device=pb2.DEVICE_CPU)
        bases = {"tiny": Base("tiny", self.base)}
        self.worker = Worker(peer, "test", bases, scratch, cpu, device="cpu", poll_seconds=0.05, **options)
        self.running = asyncio.create_task(self.worker.run(self._stop))
        self._closers += [peer.aclose, scratch.close]
        return self.worker

    def lend(self, hyperparameters: job_pb2.Hyperparameters = ASKED, base: str = "tiny") -> None:
        specification = pb2.JobSpecification(
            job_id="job_1",
            base_model=base,
            method=job_pb2.TRAINING_METHOD_LORA,
            hyperparameters=hyperparameters,
        )
        self.finetuning.lend(specification, lines(sums(64)), lines(sums(12, start=3)))

    async def child(self) -> int:
        """The process of the child, once it trains."""
        await within(self.finetuning.reported.wait())
        assert self.worker is not None
        assert self.worker.child is not None
        return self.worker.child.pid

    async def end_work(self) -> None:
        self._stop.set()
        if self.running is not None:
            await within(self.running)

    async def stop(self) -> None:
        await self.end_work()
        for close in self._closers:
            closing = close()
            if closing is not None:
                await closing
        await self.application.stop(grace_seconds=0.1)


@pytest.fixture
async def house(tmp_path: Path, tiny_base: Path) -> AsyncIterator[House]:
    house = House(tmp_path, tiny_base)
    await house.start()
    yield house
    await house.stop()


async def test_a_job_is_trained_handed_over_and_wiped(house: House, undisturbed: dict[str, str]) -> None:
    house.finetuning.breaks = 3  # streams of inputs that break off are taken up where they were
    house.lend()
    house.work()
    await within(house.finetuning.ended.wait())
    done = house.finetuning

    assert done.completed is not None
    assert done.completed.scratch_wiped
    assert done.scratch_at_end == ["lock"]
    assert done.files(done.completed.blob_ids) == undisturbed
    assert (done.completed.progress.step, done.completed.progress.steps) == (48, 48)
    assert [one.step for one in done.checkpoints] == [8, 16, 24, 32, 40]
    assert {done.artifacts[blob].kind for blob in done.checkpoints[0].blob_ids} == {
        model_pb2.ARTIFACT_KIND_WEIGHTS,
        model_pb2.ARTIFACT_KIND_CONFIG,
        model_pb2.ARTIFACT_KIND_STATE,
    }
    losses = [one.loss for one in done.metrics if one.source == job_pb2.Metrics.SOURCE_VALIDATION]
    steps = [one.step for one in done.metrics if one.source == job_pb2.Metrics.SOURCE_TRAINING]
    assert steps == list(range(1, 49))
    assert losses[-1] < losses[0] / 2
    assert list(done.asked[0].capabilities.base_models) == ["tiny"]
    assert done.breaks == 0


async def test_a_child_has_neither_key_nor_network_nor_environment(house: House) -> None:
    house.lend(longer())
    house.work()
    pid = await house.child()
    environ, connections, devices = looked_at(Path(f"/proc/{pid}"))

    assert b"prn_" not in environ
    assert b"PERRON" not in environ
    assert b"/scratch/job" in environ
    if confinement_here() == confinement.NAMESPACE:
        assert (connections, devices) == ([], ["lo"])
        assert looked_at(Path("/proc/self"))[1] != []  # where our own channel is seen, for one


def looked_at(process: Path) -> tuple[bytes, list[str], list[str]]:
    """The environment of a process, the TCP connections that it can see, and its network devices."""
    connections = (process / "net" / "tcp").read_text("utf-8").splitlines()[1:]
    devices = (process / "net" / "dev").read_text("utf-8").splitlines()[2:]
    return (process / "environ").read_bytes(), connections, [line.split(":")[0].strip() for line in devices]


def confinement_here() -> str:
    code = "from perron.trainer import confinement; print(confinement.leave_network())"
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()


async def test_a_cancelled_job_ends_with_the_next_report(house: House) -> None:
    house.lend(longer())
    house.work()
    pid = await house.child()
    house.finetuning.answer = pb2.ReportResponse(
        instruction=pb2.ReportResponse.INSTRUCTION_CANCEL,
        cancel_reason=pb2.ReportResponse.CANCEL_REASON_FILE_GONE,
    )
    before = len(house.finetuning.metrics)
    await within(house.finetuning.ended.wait())
    (failed,) = house.finetuning.failed

    assert (failed.reason, failed.retriable) == (job_pb2.JobFailure.REASON_FILE_GONE, False)
    assert failed.scratch_wiped
    assert house.finetuning.scratch_at_end == ["lock"]
    assert len(house.finetuning.metrics) <= before + 256  # one report
    await gone(pid)


async def test_a_worker_without_a_job_ends_when_it_was_asked_to(house: House) -> None:
    house.work(idle_seconds=0.1)

    await within(house.running)

    assert house.finetuning.asked


async def test_a_lost_lease_ends_the_child_and_says_nothing(house: House) -> None:
    house.lend(longer())
    house.work()
    pid = await house.child()
    house.finetuning.specification = None
    house.finetuning.lost = True
    await gone(pid)
    house.finetuning.asks.clear()
    await within(house.finetuning.asks.wait())

    assert (house.finetuning.failed, house.finetuning.completed) == ([], None)
    assert not (house.folder / "scratch" / "job").exists()


async def test_a_worker_outlives_a_restart_of_finetuning(house: House, undisturbed: dict[str, str]) -> None:
    house.lend()
    house.work()
    await house.child()
    await house.application.stop(grace_seconds=0)
    house.application = application(house.finetuning, house.target)
    await house.application.start()
    await within(house.finetuning.ended.wait())

    assert house.finetuning.completed is not None
    assert house.finetuning.token == 1
    assert house.finetuning.files(house.finetuning.completed.blob_ids) == undisturbed


async def test_a_worker_that_hears_nothing_ends_its_child_when_the_lease_may_have_passed_on(
    house: House,
) -> None:
    house.lend(longer())
    house.work()
    pid = await house.child()
    await house.application.stop(grace_seconds=0)

    await gone(pid)
    await house.end_work()

    assert not (house.folder / "scratch" / "job").exists()


@pytest.mark.parametrize(
    "fault", ["killed child", "corrupt input", "unknown base", "gone base", "stopped worker", "no room"]
)
async def test_what_goes_wrong_is_said_after_the_folder_is_wiped(fault: str, house: House) -> None:
    house.finetuning.corrupt = fault == "corrupt input"
    house.finetuning.full = fault == "no room"
    house.lend(ASKED if fault == "no room" else longer(), "other" if fault == "unknown base" else "tiny")
    if fault == "gone base":
        house.base = house.folder / "gone"
    worker = house.work()
    expected = (job_pb2.JobFailure.REASON_TRAINER_FAILED, True)
    match fault:
        case "killed child":
            os.kill(await house.child(), signal.SIGKILL)
        case "no room":
            expected = (job_pb2.JobFailure.REASON_TRAINER_FAILED, False)
        case "unknown base" | "gone base":
            expected = (job_pb2.JobFailure.REASON_BASE_MODEL_MISSING, False)
        case "stopped worker":
            await house.child()
            house._stop.set()
            expected = (job_pb2.JobFailure.REASON_WORKER_STOPPED, True)
    await within(house.finetuning.ended.wait())
    (failed,) = house.finetuning.failed

    assert (failed.reason, failed.retriable) == expected
    assert failed.scratch_wiped
    assert house.finetuning.scratch_at_end == ["lock"]
    assert worker.child is None
