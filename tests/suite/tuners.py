"""Members who fine-tune, as the tests of a running suite meet them."""

import hashlib
import json
import os
import sqlite3
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from perron.api.common.v1 import roles_pb2
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
from perron.api.identity.v1 import api_key_pb2, api_key_pb2_grpc
from perron.cli.connection import Connection, UnreachableError
from perron.cli.demo.customer import Customer, refusal
from perron.cli.demo.team import join
from perron.cli.suite import Suite
from tests.suite.customers import Customers

BASE = "tiny"
DISTRIBUTOR = "cloud-1"
GONE = "NOT_FOUND RESOURCE_NOT_FOUND"
DELETED = "FAILED_PRECONDITION MODEL_DELETED"
PIECE_BYTES = 256 * 1024
PATIENCE_SECONDS = 60.0
DAY_US = 25 * 3_600_000_000
AGES = {
    "files": ("job_bound_time", "expire_time", "create_time"),
    "jobs": ("create_time", "start_time", "end_time"),
}
SCOPES = (
    roles_pb2.SCOPE_INFERENCE,
    roles_pb2.SCOPE_FINE_TUNING_READ,
    roles_pb2.SCOPE_FINE_TUNING_WRITE,
    roles_pb2.SCOPE_AGENTS_READ,
    roles_pb2.SCOPE_AGENTS_WRITE,
)


@dataclass(frozen=True, slots=True)
class Tuner:
    """A member of a workspace who fine-tunes in it."""

    secret: str = field(repr=False)
    connection: Connection = field(repr=False)
    member_id: str = ""

    @property
    def files(self) -> file_service_pb2_grpc.FileServiceStub:
        """Files, as this member asks for them."""
        return self.connection.stub(file_service_pb2_grpc.FileServiceStub)

    @property
    def jobs(self) -> job_service_pb2_grpc.JobServiceStub:
        """Jobs, as this member asks for them."""
        return self.connection.stub(job_service_pb2_grpc.JobServiceStub)

    @property
    def models(self) -> model_service_pb2_grpc.ModelServiceStub:
        """Models, as this member asks for them."""
        return self.connection.stub(model_service_pb2_grpc.ModelServiceStub)

    def announce(self, content: bytes, **more: Any) -> file_pb2.Upload:
        """Begins an upload."""
        request = file_service_pb2.CreateUploadRequest(
            display_name="examples",
            bytes=more.get("bytes", len(content)),
            sha256=hashlib.sha256(content).hexdigest(),
            rights_attested=True,
        )
        return self.connection.ask(self.files.CreateUpload, request).upload

    def send(self, upload_id: str, content: bytes, offset: int = 0) -> file_pb2.File:
        """Sends what an upload lacks from a place on."""
        return self.connection.send_stream(self.files.UploadFile, messages(upload_id, content, offset)).file

    def upload(self, content: bytes = b"") -> file_pb2.File:
        """Uploads a file; examples of this module's own where there is no content."""
        content = content or examples(20)
        return self.send(self.announce(content).upload_id, content)

    def received(self, upload_id: str) -> int:
        """How much of an upload is stored for good."""
        request = file_service_pb2.GetUploadRequest(upload_id=upload_id)
        return self.connection.ask(self.files.GetUpload, request).upload.received_bytes

    def file(self, file_id: str) -> file_pb2.File:
        """Reads a file without its content."""
        request = file_service_pb2.GetFileRequest(file_id=file_id)
        return self.connection.ask(self.files.GetFile, request).file

    def pieces_of(self, file_id: str) -> Iterator[bytes]:
        """Reads the content of a file piece by piece."""
        request = file_service_pb2.DownloadFileRequest(file_id=file_id)
        return (part.chunk for part in self.connection.ask_stream(self.files.DownloadFile, request))

    def content(self, file_id: str) -> bytes:
        """Reads the content of a file."""
        return b"".join(self.pieces_of(file_id))

    def create_job(self, file_ids: Sequence[str], **more: Any) -> job_pb2.Job:
        """Creates a job over files."""
        request = job_service_pb2.CreateJobRequest(
            request_id=str(uuid.uuid4()), base_model=BASE, training_file_ids=file_ids
        )
        request.MergeFrom(job_service_pb2.CreateJobRequest(**more))
        return self.connection.ask(self.jobs.CreateJob, request).job

    def job(self, job_id: str) -> job_pb2.Job:
        """Reads a job."""
        return self.connection.ask(self.jobs.GetJob, job_service_pb2.GetJobRequest(job_id=job_id)).job

    def cancel(self, job_id: str) -> job_pb2.Job:
        """Cancels a job."""
        return self.connection.ask(self.jobs.CancelJob, job_service_pb2.CancelJobRequest(job_id=job_id)).job

    def watch(self, job_id: str, after: int = 0) -> Iterator[job_pb2.JobEvent]:
        """What happened to a job, and what happens, until it ends."""
        request = job_service_pb2.WatchJobRequest(job_id=job_id, after_number=after)
        asked = self.connection.ask_stream(self.jobs.WatchJob, request, timeout=3 * PATIENCE_SECONDS)
        for response in asked:
            yield from response.events

    def model(self, model_id: str) -> model_pb2.Model:
        """Reads a model."""
        request = model_service_pb2.GetModelRequest(model_id=model_id)
        return self.connection.ask(self.models.GetModel, request).model

    def delete(self, model_id: str) -> model_pb2.Erasure:
        """Deletes a model."""
        request = model_service_pb2.DeleteModelRequest(model_id=model_id, request_id=str(uuid.uuid4()))
        return self.connection.ask(self.models.DeleteModel, request).erasure

    def download(self, model_id: str) -> Iterator[model_service_pb2.DownloadModelResponse]:
        """Streams a model."""
        request = model_service_pb2.DownloadModelRequest(model_id=model_id)
        return self.connection.ask_stream(self.models.DownloadModel, request, timeout=PATIENCE_SECONDS)


def tuner(made: Customers, customer: Customer) -> Tuner:
    """The customer's admin, who fine-tunes."""
    return Tuner(customer.secret, made.connect(customer.secret))


def colleague(made: Customers, customer: Customer, name: str, workspace_id: str = "") -> Tuner:
    """A new member of the customer's workspace who fine-tunes, or with a workspace named, the admin there."""
    member_id = "" if workspace_id else join(customer, name)[0]
    request = api_key_pb2.CreateApiKeyRequest(
        display_name=name,
        workspace_id=workspace_id or customer.workspace_id,
        owner_member_id=member_id,
        scopes=SCOPES,
    )
    keys = customer.admin.stub(api_key_pb2_grpc.ApiKeyServiceStub)
    secret = customer.admin.ask(keys.CreateApiKey, request).secret
    return Tuner(secret, made.connect(secret), member_id)


def examples(count: int, size: int = 0, of: str = "") -> bytes:
    """A valid training file whose lines have `size` bytes and some, and speak of something."""
    found = b""
    for number in range(count):
        turns = [
            {"role": "user", "content": f"question {number} {of}" + "x" * size},
            {"role": "assistant", "content": f"answer {number}"},
        ]
        found += json.dumps({"messages": turns}).encode() + b"\n"
    return found


def pieces(content: bytes, offset: int = 0) -> Iterator[bytes]:
    """Content in pieces."""
    return (content[at : at + PIECE_BYTES] for at in range(offset, len(content), PIECE_BYTES))


def messages(upload_id: str, content: bytes, offset: int = 0) -> Iterator[file_service_pb2.UploadFileRequest]:
    """What is sent of an upload from a place on."""
    start = file_service_pb2.UploadStart(upload_id=upload_id, offset=offset)
    yield file_service_pb2.UploadFileRequest(start=start)
    for piece in pieces(content, offset):
        yield file_service_pb2.UploadFileRequest(chunk=piece)


def outcome(ask: Callable[[], object]) -> str:
    """Code and reason with which a call is refused, or "answered"."""
    refused = refusal(ask)
    return f"{refused.error.code} {refused.error.reason}" if refused else "answered"


def until(is_so: Callable[[], bool]) -> None:
    """Waits for what a service does by and by."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not is_so() and time.monotonic() < end:
        time.sleep(0.1)
    assert is_so()


def a_day_later(suite: Suite, tuner: Tuner, organization_id: str) -> None:
    """Lets finetuning wake up to a day and an hour having passed for what an organization has there."""
    with asleep(suite, tuner) as store:
        for table, columns in AGES.items():
            aged = ", ".join(f"{column} = max({column} - {DAY_US}, 0)" for column in columns)
            store.execute(f"UPDATE {table} SET {aged} WHERE organization_id = ?", (organization_id,))


def swept(suite: Suite, tuner: Tuner) -> None:
    """Lets finetuning wake up to hours having passed for what lies in storage and for uploads under way."""
    with asleep(suite, tuner) as store:
        store.execute("UPDATE leases SET expire_time = 0")
        store.execute("UPDATE uploads SET expire_time = 1 WHERE file_id = ''")
        for path in (suite.folder / "storage").rglob("*"):
            os.utime(path, (0, 0))


@contextmanager
def asleep(suite: Suite, tuner: Tuner) -> Iterator[sqlite3.Connection]:
    """Stops finetuning, gives its store, and wakes it."""
    assert suite.terminate("finetuning") == 0
    with closing(sqlite3.connect(suite.folder / "finetuning.sqlite", timeout=10)) as store:
        yield store
        store.commit()
    suite.restart("finetuning")
    until(lambda: awake(tuner))


def awake(tuner: Tuner) -> bool:
    """Whether finetuning answers, which a connection notices some time after it was gone."""
    try:
        tuner.connection.ask(tuner.jobs.ListJobs, job_service_pb2.ListJobsRequest())
    except UnreachableError:
        return False
    return True


def blob_of(suite: Suite, resource_id: str) -> str:
    """Under what name the content of a file or an upload lies in storage."""
    table = "uploads" if resource_id.startswith("upl_") else "files"
    with closing(sqlite3.connect(suite.folder / "finetuning.sqlite", timeout=10)) as store:
        (found,) = store.execute(f"SELECT blob_id FROM {table} WHERE id = ?", (resource_id,)).fetchone()
    return str(found)


def objects_of(suite: Suite, blob_id: str) -> list[Path]:
    """What lies in storage of a blob."""
    return sorted(
        path for path in (suite.folder / "storage" / "blobs" / blob_id).rglob("*") if path.is_file()
    )
