"""The worker: asks for a job, has a child train it, hands over what was made, and asks again.

One job at a time, and always in this order: the child is dead, the scratch folder is wiped, and only then is
the job completed or given back. Whoever reads the answer knows that nothing of the job is left here.
"""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec

from perron.api.finetuning.v1 import job_pb2, model_pb2, worker_service_pb2_grpc
from perron.api.finetuning.v1 import worker_service_pb2 as pb2
from perron.chassis import telemetry
from perron.chassis.errors import PerronError
from perron.trainer import convert
from perron.trainer.bases import UnfitBaseError, examine
from perron.trainer.leases import HeldLease, JobCancelledError, LeaseLostError
from perron.trainer.model import (
    MODEL_FOLDER,
    RETRIABLE,
    STATE,
    Evaluated,
    Failed,
    Finished,
    Reason,
    Saved,
    Started,
    Stepped,
    Task,
    TrainingFailedError,
    checkpoint_folder,
)
from perron.trainer.process import Child

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from perron.chassis.channels import Peer
    from perron.trainer.bases import Base
    from perron.trainer.scratch import Scratch

_DESCRIPTION_MAX: Final = 200
_DEFECT: Final = job_pb2.JobFailure.REASON_TRAINER_FAILED
_STOPPED: Final = TrainingFailedError(Reason.WORKER_STOPPED, "the worker was stopped")

_log = telemetry.logger("worker")


@dataclass(frozen=True, slots=True)
class Made:
    """What a training made, as it lies in finetuning's storage."""

    blob_ids: list[str]
    progress: job_pb2.Progress


class Worker:
    """Trains what finetuning lends it, until it is stopped."""

    def __init__(
        self,
        peer: Peer,
        name: str,
        bases: Mapping[str, Base],
        scratch: Scratch,
        capabilities: pb2.Capabilities,
        *,
        device: str = "auto",
        threads: int = 0,
        poll_seconds: float = 1.0,
        idle_seconds: float = 0.0,
    ) -> None:
        self._peer = peer
        self._stub = worker_service_pb2_grpc.WorkerServiceStub(peer.channel)
        self._bases = bases
        self._scratch = scratch
        self._request = pb2.LeaseJobRequest(worker=name, capabilities=capabilities)
        self._request.capabilities.methods.extend(convert.METHODS)
        self._request.capabilities.base_models.extend(bases)
        self._device = device
        self._threads = threads
        self._poll_seconds = poll_seconds
        self._idle_seconds = idle_seconds
        self._unanswered = False
        self.child: Child | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Works until `stop` is set; a job at hand is then given back, for another worker to go on with.

        Without a job it ends by itself after `idle_seconds`, if there are any.
        """
        stopped: asyncio.Future[Any] = asyncio.ensure_future(stop.wait())
        loop = asyncio.get_running_loop()
        busy = loop.time()
        try:
            while not stop.is_set() and not 0 < self._idle_seconds <= loop.time() - busy:
                asked = asyncio.ensure_future(self._ask())
                await asyncio.wait({asked, stopped}, return_when=asyncio.FIRST_COMPLETED)
                lease = asked.result() if asked.done() else None
                asked.cancel()
                if lease is not None:
                    await self._serve(lease, stopped)
                    busy = loop.time()
                elif not stop.is_set():
                    await asyncio.wait({stopped}, timeout=self._poll_seconds)
        finally:
            stopped.cancel()

    async def _ask(self) -> pb2.Lease | None:
        try:
            response = await self._peer.call(self._stub.LeaseJob, self._request)
        except PerronError as error:
            if not self._unanswered:  # once, not every second
                _log.warning("finetuning lends nothing for now", code=error.code, reason=error.reason)
            self._unanswered = True
            return None
        self._unanswered = False
        return response.lease if response.HasField("lease") else None

    async def _serve(self, lease: pb2.Lease, stopped: asyncio.Future[Any]) -> None:
        """One lease from its first input to its last word."""
        held = HeldLease(self._peer, lease)
        _log.info("leased", job=lease.job.job_id, resume_step=lease.resume.step)
        training: asyncio.Future[Made] = asyncio.ensure_future(self._train(held, lease))
        keeping: asyncio.Future[Any] = asyncio.ensure_future(held.keep())
        try:
            await asyncio.wait((training, keeping, stopped), return_when=asyncio.FIRST_COMPLETED)
        finally:
            training.cancel()
            keeping.cancel()
            ended = await asyncio.gather(training, keeping, return_exceptions=True)
            if self.child is not None:
                await self.child.kill()
                self.child = None
            self._scratch.wipe()
        made = next((one for one in ended if not isinstance(one, asyncio.CancelledError)), _STOPPED)
        try:
            await self._say(held, made)
        except (LeaseLostError, PerronError) as error:
            _log.warning("job left", job=lease.job.job_id, type=type(error).__name__)

    async def _say(self, held: HeldLease, made: Made | BaseException) -> None:
        """Tells finetuning how a job ended."""
        match made:
            case Made():
                model_id = await held.complete(made.blob_ids, made.progress)
                _log.info("completed", model=model_id)
            case LeaseLostError():
                _log.warning("lease lost")
            case JobCancelledError():
                _log.info("cancelled", reason=made.reason)
                reason = convert.CANCELS.get(made.reason, job_pb2.JobFailure.REASON_WORKER_STOPPED)
                await held.fail(reason, retriable=False, description="the job was cancelled")
            case TrainingFailedError():
                _log.warning("failed", reason=made.reason, why=made.message)
                reason = convert.FAILURES.get(made.reason, _DEFECT)
                retriable = made.reason in RETRIABLE
                await held.fail(reason, retriable=retriable, description=made.message[:_DESCRIPTION_MAX])
            case PerronError():  # what finetuning refuses, it refuses again: room in storage, for instance
                _log.warning("refused", reason=made.reason)
                await held.fail(_DEFECT, retriable=False, description=made.message[:_DESCRIPTION_MAX])
            case _:
                telemetry.defect(made, "worker")
                await held.fail(_DEFECT, retriable=True, description="the trainer has a defect; see its log")

    async def _train(self, held: HeldLease, lease: pb2.Lease) -> Made:
        """Starts the child, brings it the inputs, and passes on what it says and writes."""
        folder = self._scratch.take()
        self.child = await Child.start(folder)
        self.child.begin(await self._task(held, lease, folder))
        steps = 0
        async for event in self.child.events():
            match event:
                case Started():
                    steps = event.steps
                    held.tell(job_pb2.Progress(step=event.steps_done, steps=steps, tokens=event.tokens_done))
                    _log.info("training", job=lease.job.job_id, **msgspec.to_builtins(event))
                case Stepped():
                    progress = job_pb2.Progress(step=event.step, steps=steps, tokens=event.tokens)
                    held.tell(progress, convert.metrics(event))
                case Evaluated():
                    held.tell(metrics=convert.metrics(event))
                case Saved():
                    written = folder / "output" / checkpoint_folder(event.step)
                    held.tell_checkpoint(event.step, await held.store(written))
                    shutil.rmtree(written)
                case Finished():
                    blob_ids = await held.store(folder / "output" / MODEL_FOLDER)
                    await held.told()
                    return Made(blob_ids, job_pb2.Progress(step=event.step, steps=steps, tokens=event.tokens))
                case Failed():
                    _log.warning("child failed", reason=event.reason, frames=event.frames)
                    raise TrainingFailedError(event.reason, event.message)
        raise AssertionError  # the last event is always one of these two

    async def _task(self, held: HeldLease, lease: pb2.Lease, folder: Path) -> Task:
        """Fetches what the job needs and says what to do with it."""
        job = lease.job
        base = self._bases.get(job.base_model)
        if base is None or job.base_model_revision not in {"", base.revision}:
            raise TrainingFailedError(Reason.BASE_MODEL_MISSING, "the worker lacks the base model")
        try:
            examine(base.folder)
        except UnfitBaseError:
            raise TrainingFailedError(Reason.BASE_MODEL_MISSING, "the worker's base model is gone") from None
        files: dict[int, list[str]] = {pb2.LeaseInput.ROLE_TRAINING: [], pb2.LeaseInput.ROLE_VALIDATION: []}
        for number, given in enumerate(lease.inputs):
            path = folder / "inputs" / f"{number}.jsonl"
            await held.fetch(given.blob_id, given.bytes, given.sha256, path)
            files[given.role].append(str(path))
        states = [one for one in lease.resume.artifacts if one.kind == model_pb2.ARTIFACT_KIND_STATE]
        for state in states:
            await held.fetch(state.blob_id, state.bytes, state.sha256, folder / "resume" / STATE)
        return Task(
            base_folder=str(base.folder),
            base_name=base.name,
            training_files=tuple(files[pb2.LeaseInput.ROLE_TRAINING]),
            validation_files=tuple(files[pb2.LeaseInput.ROLE_VALIDATION]),
            output_folder=str(folder / "output"),
            hyperparameters=convert.hyperparameters(job.method, job.hyperparameters),
            resume_folder=str(folder / "resume") if states else "",
            device=self._device,
            threads=self._threads,
        )
