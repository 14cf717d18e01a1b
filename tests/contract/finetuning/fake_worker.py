"""A worker process that trains nothing: it leases, reports, writes checkpoints and completes, if let."""

import asyncio
import contextlib
import hashlib
import sys
from collections.abc import AsyncIterator
from typing import Any

import grpc

from perron.api.finetuning.v1 import job_pb2, worker_service_pb2_grpc
from perron.api.finetuning.v1 import worker_service_pb2 as pb

STEPS = 4
WEIGHTS, STATE = 1, 4


async def main(target: str, key: str) -> None:
    metadata = (("authorization", f"Bearer {key}"),)
    async with grpc.aio.insecure_channel(target) as channel:
        stub: Any = worker_service_pb2_grpc.WorkerServiceStub(channel)
        while True:
            request = pb.LeaseJobRequest(
                worker="fake",
                capabilities=pb.Capabilities(
                    device=pb.DEVICE_CPU, methods=[job_pb2.TRAINING_METHOD_LORA], base_models=["tiny"]
                ),
            )
            # Connections age and servers restart: whatever is under way is lost then, and its lease runs out.
            with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
                response = await stub.LeaseJob(request, metadata=metadata, wait_for_ready=True)
                if response.HasField("lease"):
                    await work(stub, metadata, response.lease)


async def work(stub: Any, metadata: Any, lease: pb.Lease) -> None:
    """One job; each checkpoint holds what the step before it made, so a lost one shows in the weights."""
    reference = pb.LeaseReference(lease_id=lease.lease_id, fencing_token=lease.fencing_token)
    made = b""
    for artifact in lease.resume.artifacts:
        if artifact.kind == STATE:
            request = pb.ReadInputRequest(lease=reference, blob_id=artifact.blob_id)
            content = b"".join([part.chunk async for part in stub.ReadInput(request, metadata=metadata)])
            made = content[-32:]
    report = stub.Report(metadata=metadata)
    try:
        for step in range(lease.resume.step + 1, STEPS + 1):
            made = await asyncio.to_thread(hashed, made, 20_000)
            blobs = [
                await write(stub, metadata, reference, "weights.safetensors", WEIGHTS, made),
                await write(stub, metadata, reference, "state.safetensors", STATE, made),
            ]
            told = pb.ReportRequest(
                lease=reference,
                progress=job_pb2.Progress(step=step, steps=STEPS, tokens=step),
                metrics=[job_pb2.Metrics(source=job_pb2.Metrics.SOURCE_TRAINING, step=step, loss=1 / step)],
                checkpoint=pb.CheckpointWritten(step=step, blob_ids=blobs),
            )
            await report.write(told)
            await report.read()
        final = await write(stub, metadata, reference, "weights.safetensors", WEIGHTS, made)
        progress = job_pb2.Progress(step=STEPS, steps=STEPS, tokens=STEPS)
        await stub.CompleteJob(
            pb.CompleteJobRequest(lease=reference, blob_ids=[final], progress=progress, scratch_wiped=True),
            metadata=metadata,
        )
    finally:
        report.cancel()


async def write(stub: Any, metadata: Any, lease: Any, name: str, kind: int, made: bytes) -> str:
    content = safetensors(made)

    async def parts() -> AsyncIterator[pb.WriteArtifactRequest]:
        sha256 = hashlib.sha256(content).hexdigest()
        yield pb.WriteArtifactRequest(
            start=pb.ArtifactStart(lease=lease, kind=kind, name=name, bytes=len(content), sha256=sha256)  # type: ignore[arg-type]
        )
        yield pb.WriteArtifactRequest(chunk=content)

    return str((await stub.WriteArtifact(parts(), metadata=metadata)).artifact.blob_id)


def safetensors(made: bytes) -> bytes:
    """Weights of 32 bytes."""
    header = b'{"w":{"dtype":"U8","shape":[32],"data_offsets":[0,32]}}'
    return len(header).to_bytes(8, "little") + header + made


def hashed(made: bytes, times: int) -> bytes:
    """What so much work makes of what was made before."""
    for _ in range(times):
        made = hashlib.sha256(made).digest()
    return made


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
