"""A worker that trains nothing, and the suite that it works for."""

import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perron.api.finetuning.v1 import job_pb2, model_pb2, worker_service_pb2, worker_service_pb2_grpc
from perron.cli.suite import Suite
from perron.identity import documents
from tests.suite.customers import Customers, customers
from tests.suite.stand_ins import Holding
from tests.suite.tuners import BASE, DISTRIBUTOR, Tuner, pieces


def safetensors(numbers: int) -> bytes:
    """Weights of one tensor."""
    size = 4 * numbers
    header = json.dumps({"w": {"dtype": "F32", "shape": [numbers], "data_offsets": [0, size]}}).encode()
    return len(header).to_bytes(8, "little") + header + bytes(size)


WEIGHTS = safetensors(64)
LARGE = safetensors(8 << 20)
"""Weights of 32 MiB: more than flow control lets be under way."""


class Worker:
    """A worker that trains nothing: what it makes is what a test says."""

    def __init__(self, suite: Suite, made: Customers) -> None:
        self._connection = made.connect((suite.folder / "keys" / "trainer.key").read_text("ascii").strip())

    @property
    def _stub(self) -> Any:
        return self._connection.stub(worker_service_pb2_grpc.WorkerServiceStub)

    def lease(self, job_id: str) -> worker_service_pb2.Lease:
        """Leases the job that waits, which is to be this one."""
        request = worker_service_pb2.LeaseJobRequest(
            worker="a-test",
            capabilities=worker_service_pb2.Capabilities(
                device=worker_service_pb2.DEVICE_CPU,
                methods=[job_pb2.TRAINING_METHOD_LORA, job_pb2.TRAINING_METHOD_FULL],
                base_models=[BASE],
            ),
        )
        lease = self._connection.ask(self._stub.LeaseJob, request).lease
        assert lease.job.job_id == job_id
        return lease

    def read(self, lease: worker_service_pb2.Lease) -> bytes:
        """Reads the first input of a job."""
        request = worker_service_pb2.ReadInputRequest(lease=reference(lease), blob_id=lease.inputs[0].blob_id)
        return b"".join(part.chunk for part in self._connection.ask_stream(self._stub.ReadInput, request))

    def report(self, lease: worker_service_pb2.Lease, **more: Any) -> worker_service_pb2.ReportResponse:
        """Reports once, and returns what is answered."""
        request = worker_service_pb2.ReportRequest(lease=reference(lease), **more)
        return next(self._connection.ask_stream(self._stub.Report, iter([request])))

    def step(self, lease: worker_service_pb2.Lease, step: int) -> worker_service_pb2.ReportResponse:
        """Reports a step of a training with what was measured."""
        source = job_pb2.Metrics.SOURCE_TRAINING
        return self.report(
            lease,
            progress=job_pb2.Progress(step=step, steps=10, tokens=step),
            metrics=[job_pb2.Metrics(source=source, step=step, loss=1 / step)],
        )

    def write(self, lease: worker_service_pb2.Lease, content: bytes) -> str:
        """Writes weights, and returns their blob."""
        start = worker_service_pb2.ArtifactStart(
            lease=reference(lease),
            kind=model_pb2.ARTIFACT_KIND_WEIGHTS,
            name="adapter_model.safetensors",
            bytes=len(content),
            sha256=hashlib.sha256(content).hexdigest(),
        )
        parts = [
            worker_service_pb2.WriteArtifactRequest(start=start),
            *(worker_service_pb2.WriteArtifactRequest(chunk=piece) for piece in pieces(content)),
        ]
        written = self._connection.send_stream(self._stub.WriteArtifact, iter(parts))
        return str(written.artifact.blob_id)

    def checkpoint(self, lease: worker_service_pb2.Lease, step: int) -> worker_service_pb2.ReportResponse:
        """Reports a step with a checkpoint."""
        written = worker_service_pb2.CheckpointWritten(step=step, blob_ids=[self.write(lease, WEIGHTS)])
        return self.report(lease, checkpoint=written)

    def finish(self, lease: worker_service_pb2.Lease, content: bytes = b"") -> str:
        """Ends a job with a model of these weights, and returns the model's id."""
        request = worker_service_pb2.CompleteJobRequest(
            lease=reference(lease),
            blob_ids=[self.write(lease, content or WEIGHTS)],
            progress=job_pb2.Progress(step=10, steps=10, tokens=10),
            scratch_wiped=True,
        )
        return str(self._connection.ask(self._stub.CompleteJob, request).model_id)

    def train(self, tuner: Tuner, content: bytes = b"") -> model_pb2.Model:
        """A member's model, made by a job from its creation to its end."""
        job = tuner.create_job([tuner.upload().file_id])
        return tuner.model(self.finish(self.lease(job.job_id), content))

    def give_back(self, lease: worker_service_pb2.Lease) -> job_pb2.Job.State.ValueType:
        """Gives a job back after everything of it was wiped."""
        request = worker_service_pb2.FailJobRequest(
            lease=reference(lease), reason=job_pb2.JobFailure.REASON_TRAINER_FAILED, scratch_wiped=True
        )
        return self._connection.ask(self._stub.FailJob, request).state


def reference(lease: worker_service_pb2.Lease) -> worker_service_pb2.LeaseReference:
    """What names a lease."""
    return worker_service_pb2.LeaseReference(lease_id=lease.lease_id, fencing_token=lease.fencing_token)


@dataclass(frozen=True, slots=True)
class Workshop:
    """A suite with a list of distributors, a worker that is a test, and a governance that knows of holds."""

    suite: Suite
    made: Customers
    worker: Worker
    holds: Holding
    documents: Path


@contextmanager
def opened(folder: Path) -> Iterator[Workshop]:
    """Starts the suite of a workshop, and ends it."""
    (folder / "distributors.yaml").write_text(f"distributors: [{{name: {DISTRIBUTOR}}}]\n", encoding="utf-8")
    shutil.copy(Path(documents.__file__).with_name("documents.yaml"), folder)
    holds = Holding(lambda: suite.endpoints["governance"])
    with holds.served() as governance:
        environment = {
            "PERRON_IDENTITY_DOCUMENTS_FILE": str(folder / "documents.yaml"),
            "PERRON_FINETUNING_DISTRIBUTORS_FILE": str(folder / "distributors.yaml"),
            "PERRON_FINETUNING_GOVERNANCE_TARGET": governance,
        }
        suite = Suite(folder / "var", environment=environment)
        with suite, customers(suite) as made:
            yield Workshop(suite, made, Worker(suite, made), holds, folder / "documents.yaml")
