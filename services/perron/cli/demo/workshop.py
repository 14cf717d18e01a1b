"""The customer of the chapter on fine-tuning, and what it asks of files, jobs and models."""

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from perron.api.finetuning.v1 import (
    file_pb2,
    file_service_pb2,
    file_service_pb2_grpc,
    job_pb2,
    job_service_pb2,
    job_service_pb2_grpc,
    model_pb2,
    model_service_pb2,
    model_service_pb2_grpc,
)
from perron.chassis.errors import SetupError
from perron.cli import uploading
from perron.cli.connection import Connection, RefusedError
from perron.cli.demo.customer import Customer

T = TypeVar("T")
BASE: Final = "tiny"
_PATIENCE_SECONDS: Final = 30.0
_PAUSE_SECONDS: Final = 0.2


@dataclass(frozen=True, slots=True)
class Files:
    """What is trained on, and what is only evaluated."""

    training: file_pb2.File
    validation: file_pb2.File


@dataclass(frozen=True, slots=True)
class Workshop:
    """A customer that fine-tunes, as its admin asks."""

    customer: Customer

    @property
    def connection(self) -> Connection:
        """The admin's."""
        return self.customer.admin

    def upload(self, path: Path, *, attested: bool = True) -> file_pb2.File:
        """Uploads a file whole; RefusedError where it is not taken."""

        def unseen(_place: int) -> None:
            """Moves no bar: the files are small."""

        request = file_service_pb2.CreateUploadRequest(
            request_id=str(uuid.uuid4()),
            display_name=path.name,
            bytes=path.stat().st_size,
            sha256=uploading.digest(path, unseen),
            rights_attested=attested,
        )
        stub = self.connection.stub(file_service_pb2_grpc.FileServiceStub)
        upload = self.connection.ask(stub.CreateUpload, request).upload
        return uploading.send(self.connection, upload.upload_id, path, unseen)

    def create_job(self, request: job_service_pb2.CreateJobRequest) -> job_pb2.Job:
        """Asks for a job."""
        return self.connection.ask(self._jobs(self.connection).CreateJob, request).job

    def job(self, job_id: str) -> job_pb2.Job:
        """Reads a job."""
        request = job_service_pb2.GetJobRequest(job_id=job_id)
        return self.connection.ask(self._jobs(self.connection).GetJob, request).job

    def count_jobs(self) -> int:
        """How many jobs the workspace has."""
        request = job_service_pb2.ListJobsRequest()
        return len(self.connection.ask(self._jobs(self.connection).ListJobs, request).jobs)

    def base(self) -> model_pb2.BaseModel:
        """The base model as the operator offers it."""
        stub = self.connection.stub(model_service_pb2_grpc.ModelServiceStub)
        offered = self.connection.ask(
            stub.ListBaseModels, model_service_pb2.ListBaseModelsRequest()
        ).base_models
        found = next((one for one in offered if one.name == BASE), None)
        if found is None:
            raise SetupError(f"finetuning offers no base model named {BASE}")
        return found

    def model(self, model_id: str, connection: Connection | None = None) -> model_pb2.Model:
        """Reads a model, as the admin or over another connection."""
        asking = connection or self.connection
        request = model_service_pb2.GetModelRequest(model_id=model_id)
        return asking.ask(asking.stub(model_service_pb2_grpc.ModelServiceStub).GetModel, request).model

    def delete(self, model_id: str) -> model_pb2.Erasure:
        """Deletes a model."""
        stub = self.connection.stub(model_service_pb2_grpc.ModelServiceStub)
        request = model_service_pb2.DeleteModelRequest(request_id=str(uuid.uuid4()), model_id=model_id)
        return self.connection.ask(stub.DeleteModel, request).erasure

    @contextmanager
    def bounded(self, job_id: str, another: Connection, seconds: float) -> Iterator[None]:
        """Cancels a job that takes too long, so that whoever watches it does not watch for ever.

        `another` is a connection of its own, since it is used beside that of the watcher.
        """

        def cancel() -> None:
            with suppress(RefusedError, SetupError):
                another.ask(self._jobs(another).CancelJob, job_service_pb2.CancelJobRequest(job_id=job_id))

        timer = threading.Timer(seconds, cancel)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    @staticmethod
    def _jobs(connection: Connection) -> job_service_pb2_grpc.JobServiceStub:
        return connection.stub(job_service_pb2_grpc.JobServiceStub)


def awaited(ask: Callable[[], T], is_there: Callable[[T], bool]) -> T:
    """Asks until what is awaited is there, for half a minute at most; returns the last answer."""
    end = time.monotonic() + _PATIENCE_SECONDS
    while not is_there(found := ask()) and time.monotonic() < end:
        time.sleep(_PAUSE_SECONDS)
    return found
