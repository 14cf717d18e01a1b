"""A lease as the worker holds it: what it reads and writes under it, and the reports that keep it.

Everything is repeated while finetuning does not answer, as long as the lease can last; a refusal is final.
What a newcomer gets wrong: a worker that hears nothing must end by itself before its ttl does, because from
then on somebody else may be training the same job.
"""

from __future__ import annotations

import asyncio
import hashlib
from typing import TYPE_CHECKING, Any, Final

import grpc

from perron.api.finetuning.v1 import job_pb2, worker_service_pb2_grpc
from perron.api.finetuning.v1 import worker_service_pb2 as pb2
from perron.chassis import status
from perron.chassis.errors import DeadlineExceeded, PerronError, Unavailable
from perron.trainer.convert import artifact_kind
from perron.trainer.model import Reason, TrainingFailedError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from perron.chassis.channels import Peer

_CHUNK_BYTES: Final = 1024 * 1024
_METRICS_MAX: Final = 256
_PAUSE_SECONDS: Final = 0.2
_REPORTS_PER_TTL: Final = 3
_GATHER_SECONDS: Final = 0.05  # what comes together is told together: steps may be very short
_SILENCE_SECONDS_MAX: Final = 10.0  # a cancellation is learned with the answer to a report


class LeaseLostError(Exception):
    """The job is another worker's, or nobody's: nothing may be written any more."""


class JobCancelledError(Exception):
    """The job is to end; finetuning knows why."""

    def __init__(self, reason: pb2.ReportResponse.CancelReason.ValueType) -> None:
        super().__init__(f"cancel reason {reason}")
        self.reason = reason


class HeldLease:
    """One lease; its reports begin when `keep` runs."""

    def __init__(self, peer: Peer, lease: pb2.Lease) -> None:
        self._peer = peer
        self._stub = worker_service_pb2_grpc.WorkerServiceStub(peer.channel)
        self._reference = pb2.LeaseReference(lease_id=lease.lease_id, fencing_token=lease.fencing_token)
        self._ttl_seconds = lease.ttl.ToTimedelta().total_seconds()
        self._renewed = _now()
        self._progress: job_pb2.Progress | None = None
        self._metrics: list[job_pb2.Metrics] = []
        self._checkpoints: list[pb2.CheckpointWritten] = []
        self._news = asyncio.Event()
        self._told = asyncio.Event()

    # What is told.

    def tell(self, progress: job_pb2.Progress | None = None, metrics: job_pb2.Metrics | None = None) -> None:
        """Leaves progress and a measurement for the next report, which goes out as soon as it can."""
        if progress is not None:
            self._progress = progress
        if metrics is not None:
            self._metrics.append(metrics)
        self._wake()

    def tell_checkpoint(self, step: int, blob_ids: list[str]) -> None:
        """Leaves a checkpoint for the next report."""
        self._checkpoints.append(pb2.CheckpointWritten(step=step, blob_ids=blob_ids))
        self._wake()

    async def told(self) -> None:
        """Returns when everything that was left has been taken."""
        await self._told.wait()

    async def keep(self) -> None:
        """Reports until it is cancelled: at once where there is news, else to show that we are alive.

        Raises JobCancelledError, LeaseLostError, or what finetuning refuses of a report.
        """
        call: Any = None
        try:
            while True:
                request = self._next_report()
                call = call or self._peer.stream(self._stub.Report, None)
                sent = _now()
                while (response := await self._exchange(call, request)) is None:
                    call.cancel()
                    await self._pause()
                    call = self._peer.stream(self._stub.Report, None)
                    sent = _now()
                self._renewed = sent  # the lease was prolonged after that, not after the answer came
                if response.instruction == pb2.ReportResponse.INSTRUCTION_CANCEL:
                    raise JobCancelledError(response.cancel_reason)
                await self._wait_for_news()
        finally:
            if call is not None:
                call.cancel()

    # What is read and written.

    async def fetch(self, blob_id: str, size: int, sha256: str, path: Path) -> None:
        """Brings an input into a file, going on where a stream broke off; raises what finetuning refuses.

        What is not what the lease says is TrainingFailedError (INPUT_CORRUPT).
        """
        digest = hashlib.sha256()
        with path.open("xb") as file:

            async def read() -> None:
                request = pb2.ReadInputRequest(lease=self._reference, blob_id=blob_id, offset=file.tell())
                call = self._peer.stream(self._stub.ReadInput, request)
                try:
                    async for part in call:
                        file.write(part.chunk)
                        digest.update(part.chunk)
                finally:
                    call.cancel()

            await self._insist(read)
            length = file.tell()
        if (length, digest.hexdigest()) != (size, sha256):
            raise TrainingFailedError(Reason.INPUT_CORRUPT, "an input did not arrive as it was stored")

    async def store(self, folder: Path) -> list[str]:
        """Writes the files of a checkpoint or model and returns their blobs, weights first."""
        return [await self._store(path, size) for path, size in _files(folder)]

    async def complete(self, blob_ids: list[str], progress: job_pb2.Progress) -> str:
        """Ends the job with its model and returns that; call it when the scratch folder is wiped."""
        request = pb2.CompleteJobRequest(
            lease=self._reference, blob_ids=blob_ids, progress=progress, scratch_wiped=True
        )
        response = await self._insist(lambda: self._peer.call(self._stub.CompleteJob, request))
        return str(response.model_id)

    async def fail(
        self, reason: job_pb2.JobFailure.Reason.ValueType, *, retriable: bool, description: str
    ) -> None:
        """Gives the job back; call it when the scratch folder is wiped."""
        request = pb2.FailJobRequest(
            lease=self._reference,
            reason=reason,
            retriable=retriable,
            description=description,
            scratch_wiped=True,
        )
        await self._insist(lambda: self._peer.call(self._stub.FailJob, request))

    # Details.

    def _wake(self) -> None:
        self._told.clear()
        self._news.set()

    async def _wait_for_news(self) -> None:
        if not (self._metrics or self._checkpoints or self._progress):
            self._told.set()
            self._news.clear()
        try:
            async with asyncio.timeout(min(self._ttl_seconds / _REPORTS_PER_TTL, _SILENCE_SECONDS_MAX)):
                await self._news.wait()
        except TimeoutError:
            return
        await asyncio.sleep(_GATHER_SECONDS)

    def _next_report(self) -> pb2.ReportRequest:
        report = pb2.ReportRequest(
            lease=self._reference, progress=self._progress, metrics=self._metrics[:_METRICS_MAX]
        )
        if self._checkpoints:
            report.checkpoint.CopyFrom(self._checkpoints.pop(0))
        self._progress = None
        del self._metrics[:_METRICS_MAX]
        return report

    async def _exchange(self, call: Any, request: pb2.ReportRequest) -> Any:
        """One report and its answer; None where the stream is gone and a new one has to be tried."""
        try:
            async with asyncio.timeout(self._left_seconds()):
                await call.write(request)
                response = await call.read()
        except grpc.aio.AioRpcError as error:
            _raise_if_final(status.from_rpc_error(error))
            return None
        except (TimeoutError, asyncio.InvalidStateError):  # over already: the next stream says why
            return None
        return None if response is grpc.aio.EOF else response

    async def _store(self, path: Path, size: int) -> str:
        start = pb2.ArtifactStart(
            lease=self._reference,
            kind=artifact_kind(path.name),
            name=path.name,
            bytes=size,
            sha256=await asyncio.to_thread(_sha256, path),
        )

        async def parts() -> AsyncIterator[pb2.WriteArtifactRequest]:
            yield pb2.WriteArtifactRequest(start=start)
            with path.open("rb") as file:
                while chunk := file.read(_CHUNK_BYTES):
                    yield pb2.WriteArtifactRequest(chunk=chunk)

        async def write() -> Any:
            call = self._peer.stream(self._stub.WriteArtifact, parts())
            try:
                return await call
            finally:
                call.cancel()

        try:
            response = await self._insist(write)
        except PerronError as refused:
            if refused.reason == "WEIGHTS_REFUSED":
                raise TrainingFailedError(Reason.WEIGHTS_REFUSED, refused.message) from None
            raise
        return str(response.artifact.blob_id)

    async def _insist(self, attempt: Callable[[], Awaitable[Any]]) -> Any:
        """Repeats a call until it is answered; gives up when the lease cannot hold any more."""
        while True:
            try:
                return await attempt()
            except grpc.aio.AioRpcError as error:
                _raise_if_final(status.from_rpc_error(error))
            except PerronError as refused:
                _raise_if_final(refused)
            await self._pause()

    async def _pause(self) -> None:
        """Waits before a repetition; raises LeaseLostError where the lease may have passed on by then."""
        await asyncio.sleep(_PAUSE_SECONDS)
        if self._left_seconds() <= 0:
            raise LeaseLostError

    def _left_seconds(self) -> float:
        return self._renewed + self._ttl_seconds - _now()


def _raise_if_final(refused: PerronError) -> None:
    """Raises what no repetition can change; what carries no reason of ours came from the way between."""
    if refused.reason == "LEASE_LOST":
        raise LeaseLostError from None
    passing = isinstance(refused, Unavailable | DeadlineExceeded) or refused.retry_after is not None
    if refused.reason and not passing:
        raise refused


def _files(folder: Path) -> list[tuple[Path, int]]:
    """The files of a folder with their sizes; weights come first, and state last."""
    paths = sorted(folder.iterdir(), key=lambda path: (artifact_kind(path.name), path.name))
    return [(path, path.stat().st_size) for path in paths]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _now() -> float:
    return asyncio.get_running_loop().time()
