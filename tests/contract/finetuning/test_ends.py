"""A workspace that ends takes every open stream, lease and download along."""

from pathlib import Path
from typing import Any

import grpc
import pytest

from perron.api.finetuning.v1 import job_service_pb2, model_service_pb2
from perron.api.finetuning.v1 import worker_service_pb2 as pb
from perron.chassis import status
from perron.chassis.database import Database
from perron.chassis.events import Event
from perron.chassis.ids import new_id
from perron.chassis.testing import BOTH, FakeClock
from perron.chassis.vault import Vault
from perron.finetuning.base_models import BaseModels
from perron.finetuning.blobs import Blobs
from perron.finetuning.following import of_identity
from perron.finetuning.job_agents import JobAgents
from perron.finetuning.jobs import Jobs
from perron.finetuning.models import Models
from tests.contract.finetuning.stand_in import Running, bearer, safetensors

pytestmark = pytest.mark.parametrize("database_url", BOTH, indirect=True)
LARGE = safetensors(8 << 20)


@pytest.mark.parametrize("kind", ["workspace.deleted", "organization.terminated"])
async def test_what_is_open_ends_with_its_workspace(
    finetuning: Running, database_url: str, clock: FakeClock, tmp_path: Path, kind: str
) -> None:
    ada = finetuning.person("ada")
    file = await finetuning.upload("ada")
    await finetuning.create_job("ada", [file.file_id])
    trained = await finetuning.lease()
    assert trained is not None
    model_id = await trained.complete(await trained.write_model(weights=LARGE))
    job = await finetuning.create_job("ada", [file.file_id])
    worker = await finetuning.lease()
    assert worker is not None
    watch = finetuning.jobs.WatchJob(
        job_service_pb2.WatchJobRequest(job_id=job.job_id), metadata=bearer("ada")
    )
    download = finetuning.models.DownloadModel(
        model_service_pb2.DownloadModelRequest(model_id=model_id), metadata=bearer("ada")
    )
    await watch.read()
    await download.read()

    workspace_id = ada.workspace_id if kind == "workspace.deleted" else ""
    await end(database_url, clock, tmp_path, Event(1, kind, 0, ada.organization_id, workspace_id))

    assert await ended(watch) == "RESOURCE_NOT_FOUND"
    assert await ended(download) in {"RESOURCE_NOT_FOUND", "MODEL_DELETED"}
    answer = await worker.report()
    told = pb.ReportResponse.CANCEL_REASON_WORKSPACE_ENDED
    assert (answer.instruction, answer.cancel_reason) == (2, told)
    for late in (
        worker.read(worker.lease.inputs[0].blob_id),
        worker.write_model(),
        worker.complete([new_id("blob")]),
    ):
        assert await refused(late) == "LEASE_LOST"
    assert await finetuning.lease(seconds=1.2) is None
    assert await refused(finetuning.create_job("ada", [file.file_id])) == "RESOURCE_NOT_FOUND"


async def end(database_url: str, clock: FakeClock, folder: Path, event: Event) -> None:
    """Applies an event of identity, as the consumer would."""
    database = Database(database_url, clock=clock)
    nothing_sealed = JobAgents(Blobs(Vault(folder, b"r" * 32), new_id))
    follow = of_identity(Jobs(BaseModels([]), new_id, nothing_sealed), Models(new_id))
    await database.write(lambda tx: follow(tx, event))
    await database.aclose()


async def ended(call: Any) -> str:
    """The reason with which a stream ends."""
    return await refused(drained(call))


async def drained(call: Any) -> None:
    while await call.read() is not grpc.aio.EOF:
        pass


async def refused(call: Any) -> str:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return status.from_rpc_error(caught.value).reason
