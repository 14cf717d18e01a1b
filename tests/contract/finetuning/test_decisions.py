"""The governance decision behind every model: made when its job is created, and asked for nothing else."""

import uuid
from typing import Any

import grpc
import pytest

from perron.api.finetuning.v1 import job_service_pb2, model_service_pb2
from perron.chassis import status
from perron.chassis.errors import PerronError
from perron.chassis.testing import BOTH
from tests.contract.finetuning.stand_in import Running, bearer, identifier

pytestmark = pytest.mark.parametrize("database_url", BOTH, indirect=True)


async def refused(call: Any) -> PerronError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return status.from_rpc_error(caught.value)


async def decision_of(finetuning: Running, model_id: str) -> str:
    request = model_service_pb2.GetModelRequest(model_id=model_id)
    return str((await finetuning.models.GetModel(request, metadata=bearer("ada"))).model.decision_id)


async def jobs(finetuning: Running) -> list[Any]:
    response = await finetuning.jobs.ListJobs(job_service_pb2.ListJobsRequest(), metadata=bearer("ada"))
    return list(response.jobs)


async def test_a_model_and_its_checkpoints_are_kept_under_the_decision_of_their_job(
    finetuning: Running,
) -> None:
    file = await finetuning.upload("ada")
    job = await finetuning.create_job("ada", [file.file_id])
    worker = await finetuning.lease()
    assert worker is not None
    blobs = await worker.write_model()
    await worker.report(checkpoint={"step": 4, "blob_ids": blobs})
    model_id = await worker.complete(await worker.write_model())
    request = job_service_pb2.ListCheckpointsRequest(job_id=job.job_id)
    (checkpoint,) = (await finetuning.jobs.ListCheckpoints(request, metadata=bearer("ada"))).checkpoints

    assert job.decision_id == identifier("dec", 101)
    assert await decision_of(finetuning, model_id) == job.decision_id
    assert await decision_of(finetuning, checkpoint.model_id) == job.decision_id
    assert finetuning.rules.decided == 1


async def test_nothing_is_decided_about_a_job_that_is_refused_only_planned_or_created_already(
    finetuning: Running,
) -> None:
    file = await finetuning.upload("ada")
    planned = await finetuning.create_job("ada", [file.file_id], dry_run=True)
    error = await refused(finetuning.create_job("ada", [identifier("file", 9)]))
    assert (error.reason, planned.decision_id) == ("RESOURCE_NOT_FOUND", "")
    assert finetuning.rules.decided == 0

    once = str(uuid.uuid4())
    first, second = [await finetuning.create_job("ada", [file.file_id], request_id=once) for _ in range(2)]
    assert (first.job_id, first.decision_id) == (second.job_id, second.decision_id)
    assert finetuning.rules.decided == 1


async def test_without_governance_no_job_is_created(finetuning: Running) -> None:
    file = await finetuning.upload("ada")
    finetuning.rules.is_down = True

    error = await refused(finetuning.create_job("ada", [file.file_id]))

    assert error.reason == "PEER_UNAVAILABLE"
    assert not await jobs(finetuning)
