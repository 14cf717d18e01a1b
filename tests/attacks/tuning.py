"""What fine-tuning keeps of a tenant, each thing made over the wire when it is first asked for.

Its jobs are really lent, to a worker that trains nothing: it hands in weights of a few bytes.
"""

import hashlib
import json
import uuid
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from perron.api.finetuning.v1 import file_service_pb2 as files
from perron.api.finetuning.v1 import job_pb2, model_pb2
from perron.api.finetuning.v1 import job_service_pb2 as jobs
from perron.api.finetuning.v1 import model_service_pb2 as models
from perron.api.finetuning.v1 import worker_service_pb2 as workers
from tests.attacks.people import Tenant
from tests.attacks.wire import named

if TYPE_CHECKING:
    from tests.attacks.world import World

BASE_MODEL: Final = "tiny"
DISTRIBUTOR: Final = "cloud"

ENVIRONMENT: Final = {
    "PERRON_FINETUNING_DISTRIBUTORS_FILE": str(Path(__file__).with_name("distributors.yaml")),
    "PERRON_FINETUNING_LEASE_SECONDS": "3600",
}
"""What an attacked suite is told: whom models may go to, and to leave jobs to workers that rarely report."""

_OPEN: Final = frozenset({job_pb2.Job.STATE_VALIDATED, job_pb2.Job.STATE_STARTED})
_BYTES: Final = 32
_HOLDS: Final = {"dtype": "U8", "shape": [_BYTES], "data_offsets": [0, _BYTES]}


class Tuning:
    """Files, jobs, models and disclosures of one tenant."""

    def __init__(self, world: "World", tenant: Tenant) -> None:
        self._world = world
        self._tenant = tenant

    @cached_property
    def upload_id(self) -> str:
        """An upload of which nothing has come yet."""
        return str(self._announced(_lines()).upload_id)

    @cached_property
    def file_id(self) -> str:
        """A training file."""
        return self._uploaded()

    @cached_property
    def validation_file_id(self) -> str:
        """A file to validate with."""
        return self._uploaded()

    @cached_property
    def job_id(self) -> str:
        """A job that has ended, with two checkpoints and a model."""
        lease = self._lent()
        for step in (1, 2):
            written = workers.CheckpointWritten(step=step, blob_ids=[self._written(lease)])
            self._work("Report", workers.ReportRequest(lease=_reference(lease), checkpoint=written))
        self._completed(lease)
        return str(lease.job.job_id)

    @cached_property
    def waiting_job_id(self) -> str:
        """A job that waits for StartJob."""
        return self._created(auto_start=False)

    @cached_property
    def lease_id(self) -> str:
        """The lease of a job that runs; its fencing token is 1."""
        return str(self._lease.lease_id)

    @cached_property
    def blob_id(self) -> str:
        """What the worker of that lease may read."""
        return str(self._lease.inputs[0].blob_id)

    @cached_property
    def artifact_id(self) -> str:
        """What that worker has written."""
        return self._written(self._lease)

    @cached_property
    def model_id(self) -> str:
        """A model."""
        return self._completed(self._lent())

    @cached_property
    def model_name(self) -> str:
        """What that model is called in a request."""
        request = models.GetModelRequest(model_id=self.model_id)
        return str(self._ask("ModelService.GetModel", request).model.name)

    @cached_property
    def holding_id(self) -> str:
        """A copy of the model that is there for good."""
        request = models.DownloadModelRequest(model_id=self._tenant.ids["model_id"])
        return str(self._ask("ModelService.DownloadModel", request).holding.holding_id)

    @cached_property
    def transfer_id(self) -> str:
        """The disclosure of the model that is there for good, to a distributor."""
        return str(self._transfer.transfer.transfer_id)

    @cached_property
    def transfer_secret(self) -> str:
        """The key that the distributor was given."""
        return str(self._transfer.secret)

    def end_jobs(self) -> None:
        """Ends what takes the place of other jobs: a lease of these things, and jobs that no worker has."""
        if "_lease" in vars(self):
            self._given_back(self._lease)
        self._end_waiting()

    @cached_property
    def _lease(self) -> Any:
        return self._lent()

    @cached_property
    def _transfer(self) -> Any:
        model_id = self._tenant.ids["model_id"]
        request = models.AuthorizeTransferRequest(model_id=model_id, distributor=DISTRIBUTOR)
        request.expire_time.GetCurrentTime()
        request.expire_time.seconds += 3600
        return self._ask("ModelService.AuthorizeTransfer", request)

    def _end_waiting(self) -> None:
        for job in self._ask("JobService.ListJobs", jobs.ListJobsRequest()).jobs:
            if job.state in _OPEN:
                self._ask("JobService.CancelJob", jobs.CancelJobRequest(job_id=job.job_id))

    def _uploaded(self) -> str:
        content = _lines()
        upload = self._announced(content)
        start = files.UploadFileRequest(start=files.UploadStart(upload_id=upload.upload_id))
        sent = [start, files.UploadFileRequest(chunk=content)]
        answer = self._world.wire.send("FileService.UploadFile", sent, self._tenant.admin.secret)
        return str(answer.file.file_id)

    def _announced(self, content: bytes) -> Any:
        request = files.CreateUploadRequest(
            display_name="examples",
            bytes=len(content),
            sha256=hashlib.sha256(content).hexdigest(),
            rights_attested=True,
        )
        return self._ask("FileService.CreateUpload", request).upload

    def _created(self, *, auto_start: bool) -> str:
        request = jobs.CreateJobRequest(
            base_model=BASE_MODEL, training_file_ids=[self._tenant.ids["file_id"]], auto_start=auto_start
        )
        rpc = named("JobService.CreateJob")
        answer = self._world.wire.call(rpc, request, self._tenant.admin.secret)
        if answer.reason == "JOBS_TOO_MANY":
            self._end_waiting()
            answer = self._world.wire.call(rpc, request, self._tenant.admin.secret)
        assert answer.code == "OK", str(answer)
        return jobs.CreateJobResponse.FromString(answer.body).job.job_id

    def _lent(self) -> Any:
        """Lends a new job; whatever else waits for a worker is given back first."""
        job_id = self._created(auto_start=True)
        able = workers.Capabilities(
            device=workers.DEVICE_CPU, methods=[job_pb2.TRAINING_METHOD_LORA], base_models=[BASE_MODEL]
        )
        while True:
            request = workers.LeaseJobRequest(worker="idle", capabilities=able)
            lease = self._work("LeaseJob", request).lease
            assert lease.lease_id, "no job waits"
            if lease.job.job_id == job_id:
                return lease
            self._given_back(lease)

    def _given_back(self, lease: Any) -> None:
        request = workers.FailJobRequest(
            lease=_reference(lease), reason=job_pb2.JobFailure.REASON_TRAINER_FAILED, scratch_wiped=True
        )
        answer = self._world.wire.call(
            named("WorkerService.FailJob"), request, self._world.services["trainer"].secret
        )
        assert answer.code in {"OK", "ABORTED"}, str(answer)  # an attack may have ended it

    def _written(self, lease: Any) -> str:
        header = json.dumps({"weights": _HOLDS}).encode()
        content = len(header).to_bytes(8, "little") + header + uuid.uuid4().bytes * 2
        start = workers.ArtifactStart(
            lease=_reference(lease),
            kind=model_pb2.ARTIFACT_KIND_WEIGHTS,
            name="weights.safetensors",
            bytes=len(content),
            sha256=hashlib.sha256(content).hexdigest(),
        )
        sent = [workers.WriteArtifactRequest(start=start), workers.WriteArtifactRequest(chunk=content)]
        key = self._world.services["trainer"].secret
        return str(self._world.wire.send("WorkerService.WriteArtifact", sent, key).artifact.blob_id)

    def _completed(self, lease: Any) -> str:
        request = workers.CompleteJobRequest(
            lease=_reference(lease),
            blob_ids=[self._written(lease)],
            progress=job_pb2.Progress(step=3, steps=3, tokens=3),
            scratch_wiped=True,
        )
        return str(self._work("CompleteJob", request).model_id)

    def _ask(self, name: str, request: Any) -> Any:
        return self._world.wire.ask(name, request, self._tenant.admin.secret)

    def _work(self, name: str, request: Any) -> Any:
        return self._world.wire.ask(f"WorkerService.{name}", request, self._world.services["trainer"].secret)


def _reference(lease: Any) -> workers.LeaseReference:
    return workers.LeaseReference(lease_id=lease.lease_id, fencing_token=lease.fencing_token)


def _lines() -> bytes:
    """Two examples that nobody else has."""
    return b"".join(
        json.dumps(
            {
                "messages": [
                    {"role": "user", "content": f"question {uuid.uuid4()}"},
                    {"role": "assistant", "content": "answer"},
                ]
            }
        ).encode()
        + b"\n"
        for _ in range(2)
    )
