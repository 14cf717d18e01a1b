"""Streams whose other end goes away, or does not read: what they held is given back."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from perron.api.finetuning.v1 import model_service_pb2
from perron.api.finetuning.v1 import worker_service_pb2 as pb
from perron.chassis.testing import BOTH
from tests.contract.finetuning.stand_in import FakeWorker, Running, bearer, safetensors

pytestmark = pytest.mark.parametrize("database_url", BOTH, indirect=True)
PATIENCE_SECONDS = 20.0
WEIGHTS = safetensors(1000)
ENTITLEMENTS = {"fine_tuning": "yes", "fine_tuning_jobs": "1", "fine_tuning_bytes": "7000"}
"""Room for the file of a job and these weights once."""


async def running_job(finetuning: Running) -> FakeWorker:
    file = await finetuning.upload("ada")
    await finetuning.create_job("ada", [file.file_id])
    worker = await finetuning.lease()
    assert worker is not None
    return worker


async def within_patience(is_so: Any) -> None:
    """Returns when something has become so."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not await is_so():
            pass


async def test_a_worker_that_hangs_up_in_a_file_leaves_nothing_of_it(finetuning: Running) -> None:
    finetuning.person("ada", entitlements=ENTITLEMENTS)
    worker = await running_job(finetuning)
    is_sent = asyncio.Event()

    async def half() -> AsyncIterator[pb.WriteArtifactRequest]:
        digest = hashlib.sha256(WEIGHTS).hexdigest()
        start = pb.ArtifactStart(
            lease=worker.reference, kind=1, name="a.safetensors", bytes=len(WEIGHTS), sha256=digest
        )
        yield pb.WriteArtifactRequest(start=start)
        yield pb.WriteArtifactRequest(chunk=WEIGHTS[:2000])
        is_sent.set()
        await asyncio.Event().wait()

    async def written() -> str:
        try:
            await worker.write("b.safetensors", 1, WEIGHTS)
        except grpc.aio.AioRpcError as error:
            return str(error.code().name)
        return "OK"

    async def is_refused() -> bool:
        return await written() == "RESOURCE_EXHAUSTED"

    async def is_taken() -> bool:
        return await written() == "OK"

    call = finetuning.workers.WriteArtifact(half(), metadata=bearer("trainer"))
    await is_sent.wait()
    await within_patience(is_refused)
    call.cancel()

    await within_patience(is_taken)


async def test_a_reader_that_never_reads_and_dies_leaves_no_task(finetuning: Running) -> None:
    worker = await running_job(finetuning)
    large = await worker.write_model(weights=safetensors(4 << 20))
    request = model_service_pb2.DownloadModelRequest(model_id=await worker.complete(large))
    baseline = len(asyncio.all_tasks())

    calls = [finetuning.models.DownloadModel(request, metadata=bearer("ada")) for _ in range(8)]
    for call in calls:
        await call.read()
    assert len(asyncio.all_tasks()) > baseline
    for call in calls:
        call.cancel()

    async def is_quiet() -> bool:
        await asyncio.sleep(0)
        return len(asyncio.all_tasks()) <= baseline

    await within_patience(is_quiet)
