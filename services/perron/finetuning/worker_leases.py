"""Jobs lent to workers: one worker at a time, whoever believes to be that worker.

A lease has a time to live and a fencing token that grows with every lease of the job. A worker that was
stopped for a minute comes back with an old token, and nothing of what it brings is taken. A lost worker's
job is lent again, from its last checkpoint, as often as the operator allows.

At each report it is asked anew whether the job may go on at all: its workspace must exist, its files must be
there.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import StrEnum
from typing import Final

from perron.chassis.ids import IdSource
from perron.chassis.interceptors.access import Call
from perron.finetuning import errors
from perron.finetuning.jobs import fail
from perron.finetuning.model import (
    Artifact,
    ArtifactKind,
    Capabilities,
    EventKind,
    FailureReason,
    Job,
    JobState,
    Lease,
    Metrics,
    MetricSource,
    Model,
    Progress,
)
from perron.finetuning.models import Models
from perron.finetuning.moves import can, move, note
from perron.finetuning.retention import WITHOUT_JOB_US
from perron.finetuning.states import FINAL, Verb
from perron.finetuning.store import Store

_RECLAIMED_AT_ONCE: Final = 50
_FILE_REASONS: Final = frozenset({FailureReason.FILE_GONE, FailureReason.RETENTION_ENDED})
_ACTIVE: Final = frozenset({JobState.RUNNING, JobState.CANCELLATION_REQUESTED})


class Cancel(StrEnum):
    """Why a worker is to stop; NONE lets it go on."""

    NONE = ""
    CANCELLED = "CANCELLED"
    FILE_GONE = "FILE_GONE"
    WORKSPACE_ENDED = "WORKSPACE_ENDED"


@dataclass(frozen=True, slots=True)
class LeaseReference:
    """The lease that a worker acts under."""

    lease_id: str
    fencing_token: int


@dataclass(frozen=True, slots=True)
class Lent:
    """A job that was lent, and the checkpoint to go on from."""

    job: Job
    resume: Model | None


@dataclass(frozen=True, slots=True)
class Report:
    """What a worker tells; a checkpoint is a step with the blobs of its files."""

    lease: LeaseReference
    progress: Progress | None
    metrics: tuple[Metrics, ...]
    checkpoint_step: int = 0
    checkpoint_blobs: tuple[str, ...] = ()
    zero_retention: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """What a worker is told in return."""

    cancel: Cancel = Cancel.NONE
    checkpoint_id: str = ""


class WorkerLeases:
    """Lends jobs, takes reports and results, and takes jobs back."""

    def __init__(self, models: Models, new_id: IdSource, *, ttl: timedelta, attempts_max: int) -> None:
        self.ttl = ttl
        self._models = models
        self._new_id = new_id
        self._ttl_us = ttl // timedelta(microseconds=1)
        self._attempts_max = attempts_max

    def lend(self, store: Store, capabilities: Capabilities) -> Lent | None:
        """Lends the oldest job that such a worker can train; what ran out is taken back before."""
        self.reclaim(store)
        job = store.lock_next(capabilities)
        if job is None:
            return None
        now_us = store.now_us()
        lease = Lease(
            lease_id=self._new_id("lse"),
            fencing_token=job.lease.fencing_token + 1,
            worker=capabilities.worker,
            expire_us=now_us + self._ttl_us,
        )
        lent = move(
            store,
            job,
            Verb.LEASE,
            lease=lease,
            attempts=job.attempts + 1,
            start_us=job.start_us or now_us,
        )
        checkpoints = store.checkpoints(job.job_id, None, 1)
        return Lent(lent, checkpoints[0] if checkpoints else None)

    def authorize(self, store: Store, lease: LeaseReference) -> Job:
        """Returns the job of a lease that holds; raises Aborted (LEASE_LOST)."""
        return _held(store.leased(lease.lease_id), lease, {JobState.RUNNING})

    def report(self, store: Store, report: Report) -> Answer:
        """Takes a report and prolongs the lease; raises Aborted (LEASE_LOST), NotFound for an artifact."""
        is_gone = _is_gone(store, report.lease)
        job = store.lock_leased(report.lease.lease_id)
        job = _held(job, report.lease, _ACTIVE | {JobState.FAILED})
        if job.state is JobState.RUNNING:
            job = _may_go_on(store, job, is_gone=is_gone, zero_retention=report.zero_retention)
        if job.state is not JobState.RUNNING:
            return Answer(_why(job))
        job = self._measured(store, replace(job, progress=report.progress or job.progress), report.metrics)
        checkpoint_id = ""
        if report.checkpoint_step:
            job, checkpoint_id = self._checkpoint(store, job, report.checkpoint_step, report.checkpoint_blobs)
        expire_us = store.now_us() + self._ttl_us
        store.save_job(replace(job, lease=replace(job.lease, expire_us=expire_us)))
        return Answer(checkpoint_id=checkpoint_id)

    def complete(
        self,
        store: Store,
        call: Call,
        lease: LeaseReference,
        blob_ids: Sequence[str],
        progress: Progress,
        metrics: Sequence[Metrics],
    ) -> str:
        """Ends a job with its model and returns that; again, the same one.

        Raises Aborted (LEASE_LOST), NotFound for an artifact, InvalidArgument (WEIGHTS_REFUSED).
        """
        is_gone = _is_gone(store, lease)
        job = store.lock_leased(lease.lease_id)
        job = _held(job, lease, {JobState.RUNNING, JobState.SUCCEEDED})
        if is_gone:
            raise errors.lease_lost()
        if job.state is JobState.SUCCEEDED:
            return job.model_id
        job = self._measured(store, replace(job, progress=progress), metrics)
        artifacts = _claimable(store, job, blob_ids)
        model = self._models.make(store, job, artifacts, step=progress.step)
        self._keep_rate(store, job, model)
        move(store, job, Verb.SUCCEED, model_id=model.model_id)
        store.audit(call, model.model_id, job.organization_id)
        return model.model_id

    def give_back(
        self,
        store: Store,
        call: Call,
        lease: LeaseReference,
        reason: FailureReason,
        *,
        retriable: bool,
        description: str,
    ) -> Job:
        """Takes a job back from its worker; again, it is returned as it stands.

        Raises Aborted (LEASE_LOST).
        """
        job = store.lock_leased(lease.lease_id)
        job = _held(job, lease, _ACTIVE | FINAL | {JobState.STARTED})
        if job.state is JobState.RUNNING:
            job = self._ended_without(store, job, reason, description, retriable=retriable)
        elif job.state is JobState.CANCELLATION_REQUESTED:
            job = move(store, job, Verb.ACKNOWLEDGE)
        else:
            return job
        store.audit(call, job.job_id, job.organization_id)
        return job

    def reclaim(self, store: Store) -> bool:
        """Takes back jobs whose worker has not reported in time; says whether there may be more."""
        overdue = store.lock_overdue(_RECLAIMED_AT_ONCE)
        for job in overdue:
            if can(job, Verb.ACKNOWLEDGE):
                move(store, job, Verb.ACKNOWLEDGE)
            else:
                lost = FailureReason.WORKER_LOST
                self._ended_without(store, job, lost, "The worker was lost.", retriable=True)
        return len(overdue) == _RECLAIMED_AT_ONCE

    def _ended_without(
        self, store: Store, job: Job, reason: FailureReason, description: str, *, retriable: bool
    ) -> Job:
        """Lends a job again, or fails it where that cannot help or was tried often enough."""
        if retriable and job.attempts < self._attempts_max:
            return move(store, job, Verb.REQUEUE)
        return move(store, job, Verb.FAIL, failure_reason=reason, failure_text=description)

    def _measured(self, store: Store, job: Job, metrics: Sequence[Metrics]) -> Job:
        """Writes what was measured; a step that a lost worker has told of already is not told again."""
        named = {f"{one.source.value}:{one.step}": one for one in metrics}
        known = store.events_known(job.job_id, tuple(named)) if named else set()
        for once, one in named.items():
            if once not in known:
                job = note(store, job, EventKind.METRICS, one, once=once)
        return job

    def _checkpoint(self, store: Store, job: Job, step: int, blob_ids: Sequence[str]) -> tuple[Job, str]:
        """Makes a checkpoint, which is a model too; one of a step that exists is left as it is."""
        known = store.checkpoint_at(job.job_id, step)
        if known:
            return job, known
        artifacts = _claimable(store, job, blob_ids)
        model = self._models.make(store, job, artifacts, step=step, checkpoint_id=self._new_id("chk"))
        body = {
            "checkpoint_id": model.checkpoint_id,
            "model_id": model.model_id,
            "step": step,
            "bytes": sum(artifact.bytes for artifact in artifacts),
            "validation_loss": validation_loss(model),
        }
        return note(store, job, EventKind.CHECKPOINT, body), model.checkpoint_id

    def _keep_rate(self, store: Store, job: Job, model: Model) -> None:
        for one in model.provenance.metrics:
            if one.source is MetricSource.TRAINING and one.tokens_per_second:
                store.save_rate(job.base_model, job.method, one.tokens_per_second)


def validation_loss(model: Model) -> float | None:
    """Returns the loss on validation files at the model's own step, where it was measured."""
    for one in model.provenance.metrics:
        if one.source is MetricSource.VALIDATION and one.step == model.step:
            return one.loss
    return None


def _held(job: Job | None, lease: LeaseReference, states: frozenset[JobState] | set[JobState]) -> Job:
    """Returns the job if the lease is its last one and it stands in one of the states."""
    if job is None or job.lease.fencing_token != lease.fencing_token or job.state not in states:
        raise errors.lease_lost()
    return job


def _is_gone(store: Store, lease: LeaseReference) -> bool:
    """Says whether the workspace of a lease was deleted for good.

    It is asked before the job's row is locked, as whoever buries a workspace takes the two in this order.
    """
    job = store.leased(lease.lease_id)
    return job is not None and store.is_buried(job.organization_id, job.workspace_id)


def _may_go_on(store: Store, job: Job, *, is_gone: bool, zero_retention: bool) -> Job:
    """Returns the job, failed where its workspace or one of its files is gone.

    Under zero retention its files are bound to jobs from now on.
    """
    if is_gone:
        return fail(store, job, FailureReason.WORKSPACE_ENDED, "The workspace ended.") or job
    file_ids = {file.file_id for file in job.files}
    if store.count_files(file_ids) < len(file_ids):
        return fail(store, job, FailureReason.FILE_GONE, "A file of the job is gone.") or job
    if zero_retention:
        store.bind_files(file_ids, store.now_us() + WITHOUT_JOB_US)
    return job


def _why(job: Job) -> Cancel:
    """Returns why a worker is to stop whose job does not run any more."""
    if job.state is JobState.CANCELLATION_REQUESTED:
        return Cancel.CANCELLED
    if job.failure_reason in _FILE_REASONS:
        return Cancel.FILE_GONE
    if job.failure_reason is FailureReason.WORKSPACE_ENDED:
        return Cancel.WORKSPACE_ENDED
    raise errors.lease_lost()


def _claimable(store: Store, job: Job, blob_ids: Sequence[str]) -> list[Artifact]:
    """Returns artifacts that the job has written and nothing has claimed; weights must be among them."""
    artifacts = store.unclaimed(job.job_id, blob_ids)
    if len(artifacts) != len(set(blob_ids)):
        raise errors.not_found()
    names = {artifact.name for artifact in artifacts}
    if len(names) != len(artifacts):
        raise errors.field_invalid("blob_ids", "Two artifacts have the same name.")
    if not any(artifact.kind is ArtifactKind.WEIGHTS for artifact in artifacts):
        raise errors.weights_missing()
    return artifacts
