"""WorkerService on the wire: jobs out, reports and artifacts in, each message in a transaction of its own."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final

import grpc

from perron.api.finetuning.v1 import worker_service_pb2 as pb
from perron.api.finetuning.v1 import worker_service_pb2_grpc
from perron.chassis import events as outbox
from perron.chassis.database import Database, Transaction
from perron.chassis.interceptors.access import current_call
from perron.finetuning import convert, errors
from perron.finetuning.artifacts import Artifacts, WriteCommand, Writing
from perron.finetuning.file_model import OpenBlob
from perron.finetuning.model import Artifact, Capabilities, Job, Progress
from perron.finetuning.pace import paced
from perron.finetuning.peers import Governance
from perron.finetuning.sealed_blobs import read
from perron.finetuning.storage import Storage
from perron.finetuning.store import Store
from perron.finetuning.worker_leases import Answer, Cancel, LeaseReference, Lent, WorkerLeases
from perron.finetuning.worker_leases import Report as Told

_LONG_POLL_SECONDS: Final = 25.0
_SPARED_SECONDS: Final = 1.0
_POLL_SECONDS: Final = 0.25
_CANCELS: Final = {
    one: pb.ReportResponse.CancelReason.Value(f"CANCEL_REASON_{one.value or 'UNSPECIFIED'}") for one in Cancel
}
_Context = grpc.aio.ServicerContext[Any, Any]


class WorkerServicer(worker_service_pb2_grpc.WorkerServiceServicer):
    """Serves WorkerService."""

    def __init__(
        self,
        database: Database,
        storage: Storage,
        leases: WorkerLeases,
        artifacts: Artifacts,
        governance: Governance,
        *,
        poll_seconds: float = _POLL_SECONDS,
    ) -> None:
        self._database = database
        self._storage = storage
        self._leases = leases
        self._artifacts = artifacts
        self._governance = governance
        self._poll_seconds = poll_seconds
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Ends every wait for a job, as the server is about to."""
        self._stopping.set()
        outbox.wake()

    async def LeaseJob(self, request: pb.LeaseJobRequest, context: _Context) -> pb.LeaseJobResponse:
        """Waits for a job and lends it."""
        capabilities = Capabilities(
            worker=request.worker,
            methods=[convert.METHODS_BACK[method] for method in request.capabilities.methods],
            base_models=request.capabilities.base_models,
        )
        left: Any = context.time_remaining()  # typed as a float; None where the caller names no deadline
        seconds = _LONG_POLL_SECONDS if left is None else min(_LONG_POLL_SECONDS, left - _SPARED_SECONDS)
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        with outbox.new_ones() as flag:
            while True:
                flag.clear()  # before the look, so that what commits during it wakes the next
                lent = await self._lend(capabilities)
                if lent is not None:
                    return pb.LeaseJobResponse(lease=self._lease(lent))
                left = min(self._poll_seconds, end - loop.time())
                if left <= 0 or self._stopping.is_set():
                    return pb.LeaseJobResponse()
                try:
                    async with asyncio.timeout(left):
                        await flag.wait()
                except TimeoutError:
                    pass

    async def ReadInput(
        self, request: pb.ReadInputRequest, context: _Context
    ) -> AsyncIterator[pb.ReadInputResponse]:
        """Streams an input of a leased job."""
        lease = _reference(request.lease)
        blob = await self._input(lease, request.blob_id)
        if request.offset > blob.blob.bytes:
            raise errors.field_invalid("offset", "The content ends before.")
        async for piece in read(self._storage, blob, request.offset):
            await self._input(lease, request.blob_id)
            yield pb.ReadInputResponse(chunk=piece)

    async def WriteArtifact(
        self, request_iterator: AsyncIterator[pb.WriteArtifactRequest], context: _Context
    ) -> pb.WriteArtifactResponse:
        """Takes one file."""
        messages = paced(aiter(request_iterator))
        first = await anext(messages, pb.WriteArtifactRequest())
        if not first.HasField("start"):
            raise errors.field_invalid("start", "The first message says what follows.")
        start = first.start
        command = WriteCommand(
            lease=_reference(start.lease),
            kind=convert.KINDS_BACK[start.kind],
            name=start.name,
            bytes=start.bytes,
            sha256=start.sha256,
        )
        blob = await self._database.write(lambda tx: self._artifacts.begin(Store(tx), command))
        try:
            written = await self._write(command, blob, messages)
        except BaseException:
            await self._database.write(lambda tx: Store(tx).drop_blobs([blob.blob.blob_id]))
            raise
        return pb.WriteArtifactResponse(artifact=convert.artifact(written))

    async def Report(
        self, request_iterator: AsyncIterator[pb.ReportRequest], context: _Context
    ) -> AsyncIterator[pb.ReportResponse]:
        """Answers each report by whether to go on."""
        async for request in _in_time(aiter(request_iterator), self._leases.ttl.total_seconds()):
            lease = _reference(request.lease)
            job = await self._database.read(_last_of(lease))
            scope = (job.organization_id, job.workspace_id, job.job_id)
            (directives,) = await self._governance.directives([scope])
            told = Told(
                lease=lease,
                progress=_progress(request.progress) if request.HasField("progress") else None,
                metrics=convert.metrics(request.metrics),
                checkpoint_step=request.checkpoint.step,
                checkpoint_blobs=tuple(request.checkpoint.blob_ids),
                zero_retention=directives.zero_retention,
            )
            yield _answer(await self._report(told))

    async def CompleteJob(self, request: pb.CompleteJobRequest, context: _Context) -> pb.CompleteJobResponse:
        """Ends a job with its model."""
        call, lease = current_call(), _reference(request.lease)
        blob_ids, progress = tuple(request.blob_ids), _progress(request.progress)
        metrics = convert.metrics(request.metrics)
        model_id = await self._database.write(
            lambda tx: self._leases.complete(Store(tx), call, lease, blob_ids, progress, metrics)
        )
        return pb.CompleteJobResponse(model_id=model_id)

    async def FailJob(self, request: pb.FailJobRequest, context: _Context) -> pb.FailJobResponse:
        """Takes a job back."""
        call, lease = current_call(), _reference(request.lease)
        reason = convert.REASONS_BACK[request.reason]
        job = await self._database.write(
            lambda tx: self._leases.give_back(
                Store(tx),
                call,
                lease,
                reason,
                retriable=request.retriable,
                description=request.description,
            )
        )
        return pb.FailJobResponse(state=convert.STATES[job.state])

    async def _lend(self, capabilities: Capabilities) -> Lent | None:
        """Looks without a lock first: workers that wait cost no writes.

        Nothing is lent while governance cannot be asked: no report could be answered, and the lease would
        run out. Raises Unavailable.
        """
        scope = await self._database.read(lambda tx: Store(tx).waiting(capabilities))
        if scope is None:
            return None
        await self._governance.directives([scope])
        return await self._database.write(lambda tx: self._leases.lend(Store(tx), capabilities))

    async def _input(self, lease: LeaseReference, blob_id: str) -> OpenBlob:
        return await self._database.read(lambda tx: self._artifacts.input(Store(tx), lease, blob_id))

    async def _write(
        self, command: WriteCommand, blob: OpenBlob, messages: AsyncIterator[pb.WriteArtifactRequest]
    ) -> Artifact:
        writing = Writing(self._storage, command, blob)
        async for message in messages:
            if not message.HasField("chunk"):
                raise errors.field_invalid("start", "Only the first message says what follows.")
            await writing.take(message.chunk)
        await writing.finish()
        return await self._database.write(
            lambda tx: self._artifacts.finish(Store(tx), command, blob, writing.runs)
        )

    async def _report(self, told: Told) -> Answer:
        return await self._database.write(lambda tx: self._leases.report(Store(tx), told))

    def _lease(self, lent: Lent) -> pb.Lease:
        job = lent.job
        lease = pb.Lease(
            lease_id=job.lease.lease_id,
            fencing_token=job.lease.fencing_token,
            ttl=convert.duration(self._leases.ttl.total_seconds()),
            job=pb.JobSpecification(
                job_id=job.job_id,
                base_model=job.base_model,
                base_model_revision=job.base_model_revision,
                method=convert.METHODS[job.method],
                hyperparameters=convert.hyperparameters(job.hyperparameters),
            ),
            inputs=[
                pb.LeaseInput(
                    file_id=file.file_id,
                    blob_id=file.blob_id,
                    role=pb.LeaseInput.ROLE_VALIDATION if file.validation else pb.LeaseInput.ROLE_TRAINING,
                    bytes=file.bytes,
                    sha256=file.sha256,
                )
                for file in job.files
            ],
        )
        if lent.resume is not None:
            lease.resume.checkpoint_id = lent.resume.checkpoint_id
            lease.resume.step = lent.resume.step
            lease.resume.artifacts.extend(map(convert.artifact, lent.resume.artifacts))
        return lease


async def _in_time(
    messages: AsyncIterator[pb.ReportRequest], seconds: float
) -> AsyncIterator[pb.ReportRequest]:
    """Yields reports until a worker is silent for as long as its lease lasts."""
    while True:
        try:
            async with asyncio.timeout(seconds):
                message = await anext(messages)
        except (StopAsyncIteration, TimeoutError):
            return
        yield message


def _last_of(lease: LeaseReference) -> Any:
    def find(tx: Transaction) -> Job:
        job = Store(tx).leased(lease.lease_id)
        if job is None:
            raise errors.lease_lost()
        return job

    return find


def _reference(message: pb.LeaseReference) -> LeaseReference:
    return LeaseReference(message.lease_id, message.fencing_token)


def _progress(message: Any) -> Progress:
    return Progress(message.step, message.steps, message.tokens)


def _answer(answer: Answer) -> pb.ReportResponse:
    return pb.ReportResponse(
        instruction=pb.ReportResponse.INSTRUCTION_CANCEL
        if answer.cancel
        else pb.ReportResponse.INSTRUCTION_CONTINUE,
        cancel_reason=_CANCELS[answer.cancel],
        checkpoint_id=answer.checkpoint_id,
    )
