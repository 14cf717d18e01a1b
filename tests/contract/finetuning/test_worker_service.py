import pickle
import uuid
from datetime import timedelta
from typing import Any

import grpc
import pytest

from perron.api.finetuning.v1 import file_service_pb2, job_pb2, job_service_pb2
from perron.api.finetuning.v1 import model_service_pb2 as models_pb
from perron.api.finetuning.v1 import worker_service_pb2 as pb
from perron.chassis import status
from perron.chassis.errors import PerronError
from perron.chassis.testing import BOTH, FakeClock
from perron.finetuning.file_model import Directives
from tests.contract.finetuning.stand_in import FakeWorker, Running, bearer, safetensors

pytestmark = pytest.mark.parametrize("database_url", BOTH, indirect=True)
TTL = timedelta(seconds=31)
TRAINING = job_pb2.Metrics.SOURCE_TRAINING


async def refused(call: Any) -> PerronError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return status.from_rpc_error(caught.value)


async def running_job(finetuning: Running, **fields: Any) -> tuple[Any, FakeWorker]:
    """A job with the worker that trains it."""
    file = await finetuning.upload("ada")
    job = await finetuning.create_job("ada", [file.file_id], **fields)
    return job, await leased(finetuning)


async def leased(finetuning: Running) -> FakeWorker:
    worker = await finetuning.lease()
    assert worker is not None
    return worker


async def checkpoints(finetuning: Running, job_id: str) -> list[Any]:
    request = job_service_pb2.ListCheckpointsRequest(job_id=job_id)
    return list((await finetuning.jobs.ListCheckpoints(request, metadata=bearer("ada"))).checkpoints)


async def test_a_lost_workers_job_goes_on_from_its_checkpoint_and_its_late_word_is_refused(
    finetuning: Running, clock: FakeClock
) -> None:
    job, lost = await running_job(finetuning)
    blobs = await lost.write_model(state=True)
    written = await lost.report(
        metrics=[job_pb2.Metrics(source=TRAINING, step=4, loss=2.0)],
        checkpoint=pb.CheckpointWritten(step=4, blob_ids=blobs),
    )
    clock.advance(TTL)

    other = await leased(finetuning)

    assert other.lease.job.job_id == job.job_id
    assert other.lease.fencing_token == lost.lease.fencing_token + 1
    assert (other.lease.resume.checkpoint_id, other.lease.resume.step) == (written.checkpoint_id, 4)
    states = [one for one in other.lease.resume.artifacts if one.kind == 4]
    assert await other.read(states[0].blob_id) == safetensors(32)
    for late in (
        lost.report(),
        lost.write("adapter_config.json", 2, b"{}"),
        lost.read(blobs[0]),
        lost.complete(blobs),
        lost.fail(),
    ):
        error = await refused(late)
        assert (error.code, error.reason) == ("ABORTED", "LEASE_LOST")
    await other.report(metrics=[job_pb2.Metrics(source=TRAINING, step=n, loss=2.0) for n in (4, 5)])
    await other.complete(await other.write_model())
    request = job_service_pb2.WatchJobRequest(job_id=job.job_id)
    events = [
        event
        async for message in finetuning.jobs.WatchJob(request, metadata=bearer("ada"))
        for event in message.events
    ]
    assert [event.metrics.step for event in events if event.HasField("metrics")] == [4, 5]
    assert sum(event.job.state == job_pb2.Job.STATE_SUCCEEDED for event in events) == 1


async def test_a_job_whose_workers_are_lost_too_often_fails_with_the_reason(
    finetuning: Running, clock: FakeClock
) -> None:
    job, _ = await running_job(finetuning)
    for _ in range(4):
        clock.advance(TTL)
        await leased(finetuning)
    clock.advance(TTL)

    assert await finetuning.lease(seconds=1.2) is None

    ended = await finetuning.job("ada", job.job_id)
    assert (ended.state, ended.attempts) == (job_pb2.Job.STATE_FAILED, 5)
    assert ended.failure.reason == job_pb2.JobFailure.REASON_WORKER_LOST


async def test_reports_keep_a_lease(finetuning: Running, clock: FakeClock) -> None:
    _, worker = await running_job(finetuning)
    for _ in range(5):
        clock.advance(timedelta(seconds=20))
        assert (await worker.report()).instruction == 1

    assert await finetuning.lease(seconds=1.2) is None


async def test_a_checkpoint_is_a_model_once_and_outlives_a_failed_job(finetuning: Running) -> None:
    job, worker = await running_job(finetuning)
    blobs = await worker.write_model(state=True)
    loss = job_pb2.Metrics(source=job_pb2.Metrics.SOURCE_VALIDATION, step=4, loss=1.5)
    later = job_pb2.Metrics(source=job_pb2.Metrics.SOURCE_VALIDATION, step=8, loss=0.5)
    await worker.report(metrics=[loss, later])  # it trains on while it stores
    written = pb.CheckpointWritten(step=4, blob_ids=blobs)
    once = await worker.report(checkpoint=written)
    again = await worker.report(checkpoint=written)
    assert once.checkpoint_id == again.checkpoint_id

    await worker.fail()

    (found,) = await checkpoints(finetuning, job.job_id)
    assert (found.checkpoint_id, found.step, found.validation_loss) == (once.checkpoint_id, 4, 1.5)
    request = models_pb.GetModelRequest(model_id=found.model_id)
    model = (await finetuning.models.GetModel(request, metadata=bearer("ada"))).model
    assert sorted(one.name for one in model.artifacts) == ["adapter_config.json", "adapter_model.safetensors"]
    assert model.provenance.checkpoint_id == found.checkpoint_id


@pytest.mark.parametrize(
    ("name", "kind", "content", "reason"),
    [
        ("weights.safetensors", 1, pickle.dumps({"w": [1.0]}), "WEIGHTS_REFUSED"),
        ("weights.safetensors", 1, b"\xff" * 64, "WEIGHTS_REFUSED"),
        ("weights.safetensors", 1, safetensors(8)[:-1], "WEIGHTS_REFUSED"),
        ("state.safetensors", 4, pickle.dumps([1]), "WEIGHTS_REFUSED"),
        ("weights.bin", 1, safetensors(8), "FIELD_INVALID"),
        ("code.py", 2, b"{}", "FIELD_INVALID"),
        ("../evil.json", 2, b"{}", "FIELD_INVALID"),
    ],
)
async def test_what_is_no_safe_weights_is_refused(
    finetuning: Running, name: str, kind: int, content: bytes, reason: str
) -> None:
    job, worker = await running_job(finetuning)

    error = await refused(worker.write(name, kind, content))

    assert (error.code, error.reason) == ("INVALID_ARGUMENT", reason)
    assert (await worker.report()).instruction == 1
    assert await checkpoints(finetuning, job.job_id) == []


async def test_a_model_needs_weights_that_this_job_wrote(finetuning: Running) -> None:
    _, worker = await running_job(finetuning)
    config = await worker.write("adapter_config.json", 2, b"{}")

    assert (await refused(worker.complete([config.blob_id]))).reason == "WEIGHTS_REFUSED"
    foreign = await refused(worker.complete([config.blob_id, "blob_00000000000000000000000001"]))
    assert foreign.reason == "RESOURCE_NOT_FOUND"


async def test_a_job_given_back_is_lent_again_or_fails_with_the_workers_reason(finetuning: Running) -> None:
    job, worker = await running_job(finetuning)
    stopped = job_pb2.JobFailure.REASON_WORKER_STOPPED
    assert (await worker.fail(stopped, retriable=True)).state == job_pb2.Job.STATE_STARTED
    assert (await refused(worker.report())).reason == "LEASE_LOST"

    other = await leased(finetuning)
    await other.fail(job_pb2.JobFailure.REASON_DIVERGED)

    assert (await other.fail()).state == job_pb2.Job.STATE_FAILED
    ended = await finetuning.job("ada", job.job_id)
    assert ended.failure.reason == job_pb2.JobFailure.REASON_DIVERGED
    assert ended.failure.description == "it failed"


async def test_a_deleted_file_ends_the_job_and_its_worker_is_told(finetuning: Running) -> None:
    job, worker = await running_job(finetuning)
    request = file_service_pb2.DeleteFileRequest(
        file_id=job.training_file_ids[0], request_id=str(uuid.uuid4())
    )
    await finetuning.files.DeleteFile(request, metadata=bearer("ada"))

    answer = await worker.report()

    gone = pb.ReportResponse.CANCEL_REASON_FILE_GONE
    assert (answer.instruction, answer.cancel_reason) == (2, gone)
    ended = await finetuning.job("ada", job.job_id)
    assert ended.failure.reason == job_pb2.JobFailure.REASON_FILE_GONE
    assert (await worker.fail()).state == job_pb2.Job.STATE_FAILED


async def test_a_report_under_zero_retention_binds_the_files_to_jobs(finetuning: Running) -> None:
    job, worker = await running_job(finetuning)
    finetuning.rules.present = Directives(zero_retention=True, held=False)

    await worker.report()

    request = file_service_pb2.GetFileRequest(file_id=job.training_file_ids[0])
    file = (await finetuning.files.GetFile(request, metadata=bearer("ada"))).file
    assert file.HasField("expire_time")


async def test_nothing_is_lent_while_governance_cannot_be_asked(finetuning: Running) -> None:
    file = await finetuning.upload("ada")
    job = await finetuning.create_job("ada", [file.file_id])
    finetuning.rules.is_down = True

    assert (await refused(finetuning.lease())).reason == "PEER_UNAVAILABLE"

    assert (await finetuning.job("ada", job.job_id)).attempts == 0
    finetuning.rules.is_down = False
    assert await finetuning.lease() is not None


async def test_a_worker_reaches_the_files_of_its_lease_alone(finetuning: Running) -> None:
    _, worker = await running_job(finetuning)
    other = await finetuning.upload("ada")
    _, second = await running_job(finetuning)

    blob_id = second.lease.inputs[0].blob_id

    assert other.file_id
    assert (await refused(worker.read(blob_id))).reason == "RESOURCE_NOT_FOUND"


async def test_an_artifact_counts_against_what_the_plan_stores(finetuning: Running) -> None:
    finetuning.person(
        "ada",
        entitlements={"fine_tuning": "yes", "fine_tuning_jobs": "1", "fine_tuning_bytes": "4000"},
    )
    _, worker = await running_job(finetuning)

    error = await refused(worker.write("weights.safetensors", 1, safetensors(1000)))

    assert (error.code, error.reason) == ("RESOURCE_EXHAUSTED", "STORED_BYTES_EXCEEDED")


async def test_customers_are_no_workers(finetuning: Running) -> None:
    _, worker = await running_job(finetuning)
    request = pb.ReadInputRequest(lease=worker.reference, blob_id=worker.lease.inputs[0].blob_id)

    call = finetuning.workers.ReadInput(request, metadata=bearer("ada"))

    assert (await refused(call.read())).reason == "CALLER_NOT_ALLOWED"
