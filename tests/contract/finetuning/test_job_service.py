from typing import Any

import grpc
import pytest

from perron.api.finetuning.v1 import job_pb2
from perron.api.finetuning.v1 import job_service_pb2 as pb
from perron.chassis import status
from perron.chassis.errors import PerronError
from perron.chassis.testing import BOTH
from tests.contract.finetuning.stand_in import Running, bearer

pytestmark = pytest.mark.parametrize("database_url", BOTH, indirect=True)
State = job_pb2.Job.State


async def refused(call: Any) -> PerronError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return status.from_rpc_error(caught.value)


async def test_a_job_is_validated_started_trained_and_ends_with_a_model(finetuning: Running) -> None:
    training, validation = await finetuning.upload("ada"), await finetuning.upload("ada", first=18)
    job = await finetuning.create_job(
        "ada", [training.file_id], validation_file_ids=[validation.file_id], suffix="support"
    )
    assert job.state == job_pb2.Job.STATE_QUEUED
    assert job.estimate.steps == 9
    assert job.estimate.tokens == 3 * training.statistics.tokens
    assert job.estimate.cost_micros > 0

    worker = await finetuning.lease()
    assert worker is not None
    assert {one.role for one in worker.lease.inputs} == {1, 2}
    content = await worker.read(worker.lease.inputs[0].blob_id)
    assert len(content) == worker.lease.inputs[0].bytes
    assert await worker.read(worker.lease.inputs[0].blob_id, offset=10) == content[10:]
    answer = await worker.report(
        progress=job_pb2.Progress(step=3, steps=9, tokens=50),
        metrics=[job_pb2.Metrics(source=job_pb2.Metrics.SOURCE_TRAINING, step=3, loss=2.5)],
    )
    assert answer.instruction == 1
    model_id = await worker.complete(await worker.write_model())
    assert await worker.complete(["blob_00000000000000000000000001"]) == model_id

    done = await finetuning.job("ada", job.job_id)
    assert (done.state, done.model_id) == (job_pb2.Job.STATE_SUCCEEDED, model_id)
    assert [(one.kind, one.count) for one in done.warnings] == [(1, 2)]
    events = [event async for event in watch(finetuning, job.job_id)]
    assert [event.number for event in events] == list(range(1, len(events) + 1))
    assert [state_of(event) for event in events] == [
        "QUEUED", "VALIDATING", "warning", "VALIDATED", "STARTED", "RUNNING", "metrics", "SUCCEEDED"
    ]  # fmt: skip


async def test_a_watch_goes_on_from_any_point_and_sees_what_comes(finetuning: Running) -> None:
    file = await finetuning.upload("ada")
    job = await finetuning.create_job("ada", [file.file_id])
    call = finetuning.jobs.WatchJob(
        pb.WatchJobRequest(job_id=job.job_id, after_number=2), metadata=bearer("ada")
    )
    first = await call.read()
    assert [state_of(event) for event in first.events] == ["VALIDATED", "STARTED"]

    await cancel(finetuning, job.job_id)

    assert [state_of(event) for event in (await call.read()).events] == ["CANCELLED"]
    assert await call.read() is grpc.aio.EOF
    assert [state_of(event) async for event in watch(finetuning, job.job_id, after=4)] == ["CANCELLED"]


async def test_a_dry_run_says_what_a_job_would_take_and_changes_nothing(finetuning: Running) -> None:
    file = await finetuning.upload("ada")

    dry = await finetuning.create_job("ada", [file.file_id], dry_run=True)

    assert dry.job_id == ""
    assert dry.estimate.steps == 9
    listed = await finetuning.jobs.ListJobs(pb.ListJobsRequest(), metadata=bearer("ada"))
    assert list(listed.jobs) == []


async def test_a_repeated_request_makes_one_job(finetuning: Running) -> None:
    file = await finetuning.upload("ada")
    twice = {"request_id": "0192f0c1-7d0b-7c3f-9f0a-5d1c6a8e2b47"}

    one = await finetuning.create_job("ada", [file.file_id], **twice)
    other = await finetuning.create_job("ada", [file.file_id], **twice)

    assert one.job_id == other.job_id


async def test_a_job_that_does_not_start_by_itself_waits_for_its_owner(finetuning: Running) -> None:
    file = await finetuning.upload("ada")
    job = await finetuning.create_job("ada", [file.file_id], auto_start=False)
    assert (await finetuning.job("ada", job.job_id)).state == job_pb2.Job.STATE_VALIDATED
    assert await finetuning.lease(seconds=1.2) is None

    started = await finetuning.jobs.StartJob(pb.StartJobRequest(job_id=job.job_id), metadata=bearer("ada"))

    assert started.job.state == job_pb2.Job.STATE_STARTED
    assert await finetuning.lease() is not None
    await cancel(finetuning, job.job_id)
    error = await refused(
        finetuning.jobs.StartJob(pb.StartJobRequest(job_id=job.job_id), metadata=bearer("ada"))
    )
    assert (error.reason, error.metadata["state"]) == ("JOB_NOT_STARTABLE", "CANCELLATION_REQUESTED")


async def test_a_cancellation_reaches_a_running_worker_with_its_next_report(finetuning: Running) -> None:
    file = await finetuning.upload("ada")
    job = await finetuning.create_job("ada", [file.file_id])
    worker = await finetuning.lease()
    assert worker is not None

    assert (await cancel(finetuning, job.job_id)).state == job_pb2.Job.STATE_CANCELLATION_REQUESTED
    answer = await worker.report()

    assert (answer.instruction, answer.cancel_reason) == (2, 1)
    assert (await worker.fail()).state == job_pb2.Job.STATE_CANCELLED
    assert (await cancel(finetuning, job.job_id)).state == job_pb2.Job.STATE_CANCELLED


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"base_model": "served-only"}, "BASE_MODEL_NOT_TRAINABLE"),
        ({"base_model": "unheard-of"}, "BASE_MODEL_NOT_TRAINABLE"),
        ({"agent": job_pb2.JobAgent(display_name="Ada's")}, "AGENT_NOT_AVAILABLE"),
        ({"hyperparameters": job_pb2.Hyperparameters(sequence_tokens_max=4096)}, "FIELD_INVALID"),
        ({"hyperparameters": job_pb2.Hyperparameters(early_stop_evaluations=2)}, "FIELD_INVALID"),
        (
            {"method": 2, "hyperparameters": job_pb2.Hyperparameters(lora=job_pb2.LoraParameters(rank=4))},
            "FIELD_INVALID",
        ),
        ({"hyperparameters": job_pb2.Hyperparameters(epochs=101)}, "FIELD_INVALID"),
        ({"training_file_ids": ["file_00000000000000000000000009"]}, "RESOURCE_NOT_FOUND"),
        ({"suffix": "-x"}, "FIELD_INVALID"),
    ],
)
async def test_what_cannot_be_trained_is_refused_with_its_reason(
    finetuning: Running, fields: dict[str, Any], reason: str
) -> None:
    file = await finetuning.upload("ada")

    error = await refused(finetuning.create_job("ada", [file.file_id], **fields))

    assert error.reason == reason
    listed = await finetuning.jobs.ListJobs(pb.ListJobsRequest(), metadata=bearer("ada"))
    assert list(listed.jobs) == []


async def test_a_file_with_errors_trains_nothing(finetuning: Running) -> None:
    file = await finetuning.upload("ada", b'{"messages": []}\n')

    assert (await refused(finetuning.create_job("ada", [file.file_id]))).reason == "FILE_NOT_VALID"


async def test_the_plan_bounds_the_jobs_under_way(finetuning: Running) -> None:
    finetuning.person(
        "ada", entitlements={"fine_tuning": "yes", "fine_tuning_jobs": "1", "fine_tuning_bytes": "9999"}
    )
    file = await finetuning.upload("ada")
    job = await finetuning.create_job("ada", [file.file_id])
    error = await refused(finetuning.create_job("ada", [file.file_id]))
    assert (error.code, error.reason) == ("RESOURCE_EXHAUSTED", "JOBS_TOO_MANY")

    await cancel(finetuning, job.job_id)

    await finetuning.create_job("ada", [file.file_id])


async def test_a_plan_without_fine_tuning_takes_no_job_but_lets_cancel(finetuning: Running) -> None:
    file = await finetuning.upload("ada")
    job = await finetuning.create_job("ada", [file.file_id], auto_start=False)
    finetuning.person("ada", entitlements={})

    error = await refused(finetuning.create_job("ada", [file.file_id]))

    assert (error.reason, error.metadata["entitlement"]) == ("ENTITLEMENT_MISSING", "fine_tuning")
    start = finetuning.jobs.StartJob(pb.StartJobRequest(job_id=job.job_id), metadata=bearer("ada"))
    assert (await refused(start)).reason == "ENTITLEMENT_MISSING"
    assert (await cancel(finetuning, job.job_id)).state == job_pb2.Job.STATE_CANCELLED


async def test_another_workspaces_job_does_not_exist(finetuning: Running) -> None:
    finetuning.person("bob", workspace=2, key=2)
    file = await finetuning.upload("ada")
    job = await finetuning.create_job("ada", [file.file_id])

    seen = await refused(finetuning.job("bob", job.job_id))
    absent = await refused(finetuning.job("bob", "job_00000000000000000000000009"))

    assert (seen.code, seen.message) == (absent.code, absent.message) == ("NOT_FOUND", absent.message)
    assert (await refused(finetuning.create_job("bob", [file.file_id]))).code == "NOT_FOUND"


async def cancel(finetuning: Running, job_id: str) -> Any:
    response = await finetuning.jobs.CancelJob(pb.CancelJobRequest(job_id=job_id), metadata=bearer("ada"))
    return response.job


async def watch(finetuning: Running, job_id: str, after: int = 0) -> Any:
    request = pb.WatchJobRequest(job_id=job_id, after_number=after)
    async for message in finetuning.jobs.WatchJob(request, metadata=bearer("ada")):
        for event in message.events:
            yield event


def state_of(event: Any) -> str:
    if event.WhichOneof("kind") == "job":
        return str(State.Name(event.job.state)).removeprefix("STATE_")
    return str(event.WhichOneof("kind"))
