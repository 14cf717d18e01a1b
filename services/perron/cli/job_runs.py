"""A job as its events tell it: what was measured, how far it is, how it ended.

Whoever watches a job sees all of it, from its first event on, whenever they begin and however often the
connection breaks; so a run that is put together here is the same at each time and place.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from perron.api.finetuning.v1 import job_pb2, job_service_pb2, job_service_pb2_grpc
from perron.cli.connection import Connection, RefusedError, UnreachableError
from perron.cli.resuming import Patience

FINAL: Final = frozenset(
    {
        job_pb2.Job.STATE_SUCCEEDED,
        job_pb2.Job.STATE_FAILED_VALIDATION,
        job_pb2.Job.STATE_FAILED,
        job_pb2.Job.STATE_CANCELLED,
    }
)
_EVENTS_PER_MESSAGE: Final = 500
Point = tuple[int, float]


@dataclass(slots=True)
class JobRun:
    """What has become of one job so far; losses as (step, loss) in the order of the steps."""

    job: job_pb2.Job = field(default_factory=job_pb2.Job)
    training: list[Point] = field(default_factory=list)
    validation: list[Point] = field(default_factory=list)
    latest: job_pb2.Metrics | None = None
    checkpoint: job_pb2.Checkpoint | None = None
    warnings: list[job_pb2.JobWarning] = field(default_factory=list)

    @property
    def step(self) -> int:
        """The last step that is known to be done."""
        return max(self.job.progress.step, self.training[-1][0] if self.training else 0)

    @property
    def steps(self) -> int:
        """How many steps there are; until a trainer has counted them, as many as were estimated."""
        return self.job.progress.steps or self.job.estimate.steps

    def take(self, event: job_pb2.JobEvent) -> None:
        """Goes on to what an event tells."""
        match event.WhichOneof("kind"):
            case "job":
                self.job = event.job
            case "metrics" if event.metrics.source == job_pb2.Metrics.SOURCE_VALIDATION:
                self.validation.append((event.metrics.step, event.metrics.loss))
            case "metrics":
                self.training.append((event.metrics.step, event.metrics.loss))
                self.latest = event.metrics
            case "checkpoint":
                self.checkpoint = event.checkpoint
            case "warning":
                self.warnings.append(event.warning)
            case _:
                pass  # an event of a newer service


def is_over(job: job_pb2.Job) -> bool:
    """Whether a job has ended, and nothing is to come but what it made already."""
    waits = (
        job.state == job_pb2.Job.STATE_SUCCEEDED and job.agent.state == job_pb2.PromisedAgent.STATE_PROMISED
    )
    return job.state in FINAL and not waits


def watch(
    connection: Connection, job_id: str, *, follow: bool = True, patience: Patience | None = None
) -> Iterator[job_pb2.JobEvent]:
    """Gives every event of a job until it has ended; without `follow`, until there is none for now.

    A stream that breaks is taken up again after the event that came last. RefusedError and UnreachableError
    come when that did not help for half a minute.
    """
    stub = connection.stub(job_service_pb2_grpc.JobServiceStub)
    patience, number = patience or Patience(), 0
    while True:
        request = job_service_pb2.WatchJobRequest(job_id=job_id, after_number=number)
        try:
            for message in connection.ask_stream(stub.WatchJob, request, timeout=None):
                patience.renew()
                for event in message.events:
                    number = event.number
                    yield event
                    if event.HasField("job") and is_over(event.job):
                        return
                if not follow and len(message.events) < _EVENTS_PER_MESSAGE:
                    return
        except (RefusedError, UnreachableError) as broken:
            patience.bear(broken)
        else:
            patience.bear(UnreachableError(f"the events of {job_id} ended before it did"))
