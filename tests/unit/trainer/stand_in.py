"""Finetuning as a worker sees it, over a real channel with the contract's checks: one job, until it ends."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
from pydantic_settings import SettingsConfigDict

from perron.api.finetuning.v1 import job_pb2, model_pb2, worker_service_pb2_grpc
from perron.api.finetuning.v1 import worker_service_pb2 as pb2
from perron.chassis import credentials
from perron.chassis.errors import Aborted, ResourceExhausted
from perron.chassis.ids import from_bytes
from perron.chassis.interceptors.access import Caller, CallerKind, Verified
from perron.chassis.server import Application
from perron.chassis.settings import ServiceSettings

SERVICE = "perron.api.finetuning.v1.WorkerService"
KEY = credentials.with_checksum("test", "trainer".ljust(43, "0"))
TTL_SECONDS = 3.0
CHUNK = 100


class Settings(ServiceSettings):
    model_config = SettingsConfigDict(env_prefix="PERRON_STANDIN_")


class Keys:
    async def verify(self, credential: str, *, peer_network: str, want_passport: bool) -> Verified:
        if credential != KEY:
            return Verified("UNKNOWN")
        return Verified("VALID", Caller(CallerKind.SERVICE, key_id="key_t", name="trainer"))


def new_id(prefix: str, number: int) -> str:
    return from_bytes(prefix, number.to_bytes(16, "big"))


class Finetuning(worker_service_pb2_grpc.WorkerServiceServicer):
    """Lends one job at a time, from the last checkpoint, with a fencing token that grows.

    Tests set `answer` (what reports are told), `corrupt` (inputs arrive damaged), `full` (no artifact is
    taken), `lost` (the lease), and read what came.
    """

    def __init__(self, scratch: Path) -> None:
        self.scratch = scratch
        self.specification: pb2.JobSpecification | None = None
        self.inputs: list[tuple[int, bytes]] = []
        self.token = 0
        self.ended = asyncio.Event()
        self.asks = asyncio.Event()
        self.reported = asyncio.Event()
        self.checkpointed = asyncio.Event()
        self.answer = pb2.ReportResponse(instruction=pb2.ReportResponse.INSTRUCTION_CONTINUE)
        self.lost = False
        self.corrupt = False
        self.full = False
        self.breaks = 0
        self.asked: list[pb2.LeaseJobRequest] = []
        self.blobs: dict[str, bytes] = {}
        self.artifacts: dict[str, model_pb2.Artifact] = {}
        self.checkpoints: list[pb2.CheckpointWritten] = []
        self.metrics: list[job_pb2.Metrics] = []
        self.completed: pb2.CompleteJobRequest | None = None
        self.failed: list[pb2.FailJobRequest] = []
        self.scratch_at_end: list[str] = []

    def lend(self, specification: pb2.JobSpecification, training: bytes, validation: bytes = b"") -> None:
        self.specification = specification
        self.inputs = [(pb2.LeaseInput.ROLE_TRAINING, training)]
        if validation:
            self.inputs.append((pb2.LeaseInput.ROLE_VALIDATION, validation))
        self.ended.clear()

    def reference(self) -> tuple[str, int]:
        return new_id("lse", self.token), self.token

    async def LeaseJob(self, request: pb2.LeaseJobRequest, context: Any) -> pb2.LeaseJobResponse:
        self.asked.append(request)
        self.asks.set()
        if self.specification is None:
            await asyncio.sleep(0.05)
            return pb2.LeaseJobResponse()
        self.token += 1
        lease = pb2.Lease(
            lease_id=self.reference()[0],
            fencing_token=self.token,
            job=self.specification,
        )
        lease.ttl.FromMilliseconds(int(TTL_SECONDS * 1000))
        for number, (role, content) in enumerate(self.inputs):
            blob_id = new_id("blob", 1000 + number)
            self.blobs[blob_id] = content
            lease.inputs.add(
                file_id=new_id("file", number),
                blob_id=blob_id,
                role=role,
                bytes=len(content),
                sha256=hashlib.sha256(content).hexdigest(),
            )
        if self.checkpoints:
            last = self.checkpoints[-1]
            lease.resume.step = last.step
            lease.resume.checkpoint_id = new_id("chk", last.step)
            lease.resume.artifacts.extend(self.artifacts[blob_id] for blob_id in last.blob_ids)
        return pb2.LeaseJobResponse(lease=lease)

    async def ReadInput(self, request: pb2.ReadInputRequest, context: Any) -> AsyncIterator[Any]:
        self._check(request.lease)
        content = self.blobs[request.blob_id]
        if self.corrupt:
            content = b"#" + content[1:]
        for start in range(request.offset, len(content), CHUNK):
            yield pb2.ReadInputResponse(chunk=content[start : start + CHUNK])
            if self.breaks and start:
                self.breaks -= 1
                await context.abort(grpc.StatusCode.UNAVAILABLE, "the way between broke off")

    async def WriteArtifact(self, requests: AsyncIterator[Any], context: Any) -> Any:
        start = (await anext(requests)).start
        self._check(start.lease)
        if self.full:
            raise ResourceExhausted("STORED_BYTES_EXCEEDED", "no room is left")
        content = b"".join([part.chunk async for part in requests])
        assert (len(content), hashlib.sha256(content).hexdigest()) == (start.bytes, start.sha256)
        blob_id = new_id("blob", 2000 + len(self.blobs))
        self.blobs[blob_id] = content
        self.artifacts[blob_id] = model_pb2.Artifact(
            blob_id=blob_id, kind=start.kind, name=start.name, bytes=start.bytes, sha256=start.sha256
        )
        return pb2.WriteArtifactResponse(artifact=self.artifacts[blob_id])

    async def Report(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        async for request in requests:
            self._check(request.lease)
            self.metrics.extend(request.metrics)
            if request.HasField("checkpoint"):
                self.checkpoints.append(request.checkpoint)
                self.checkpointed.set()
            if request.metrics:
                self.reported.set()
            yield self.answer

    async def CompleteJob(self, request: pb2.CompleteJobRequest, context: Any) -> pb2.CompleteJobResponse:
        self._check(request.lease)
        self.completed = request
        self._end()
        return pb2.CompleteJobResponse(model_id=new_id("mdl", 1))

    async def FailJob(self, request: pb2.FailJobRequest, context: Any) -> pb2.FailJobResponse:
        self._check(request.lease)
        self.failed.append(request)
        self._end()
        return pb2.FailJobResponse(state=job_pb2.Job.STATE_FAILED)

    def files(self, blob_ids: Any) -> dict[str, str]:
        """The digests of what was written, by name."""
        return {self.artifacts[blob_id].name: self.artifacts[blob_id].sha256 for blob_id in blob_ids}

    def _check(self, lease: pb2.LeaseReference) -> None:
        if self.lost or (lease.lease_id, lease.fencing_token) != self.reference():
            raise Aborted("LEASE_LOST", "the lease is lost")

    def _end(self) -> None:
        self.scratch_at_end = sorted(path.name for path in self.scratch.iterdir())
        self.specification = None
        self.ended.set()


def application(finetuning: Finetuning, address: str = "127.0.0.1:0") -> Application:
    return Application(
        "standin",
        Settings.read({"PERRON_STANDIN_LISTEN_ADDRESS": address}),
        servicers=[
            (worker_service_pb2_grpc.add_WorkerServiceServicer_to_server, finetuning, SERVICE),
        ],
        verifier=Keys(),
        message_bytes_max=4 * 1024 * 1024,
    )
