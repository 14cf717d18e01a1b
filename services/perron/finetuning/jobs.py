"""Jobs: created, validated, started, cancelled, ended with what they needed.

Everything that can be refused is refused at once, with nothing changed: `foresee` does it before peers are
asked, and a dry run ends there; `create` does it again within the transaction that makes the job. What a
newcomer gets wrong: a running job is not ended by its owner alone. Its worker must have wiped what it had, so
it waits in CANCELLATION_REQUESTED for the word of its worker or the end of the lease.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from perron.chassis.ids import IdSource
from perron.chassis.interceptors.access import Call
from perron.finetuning import entitlements, errors
from perron.finetuning.base_models import BaseModels
from perron.finetuning.entitlements import Allowance, allowance
from perron.finetuning.estimates import estimate
from perron.finetuning.hyperparameters import Wanted, filled
from perron.finetuning.job_agent_model import JobAgent, WantedAgent
from perron.finetuning.job_agents import JobAgents
from perron.finetuning.model import (
    EventKind,
    FailureReason,
    Job,
    JobFile,
    JobState,
    JobWarning,
    Method,
    TrainingFile,
)
from perron.finetuning.moves import can, move, note, snapshot
from perron.finetuning.overlap import common_lines
from perron.finetuning.states import FINAL, Verb
from perron.finetuning.store import Store

SUFFIX: Final = "model"
"""Part of a model's name where the caller names none."""

FILES_OVERLAP: Final = "FILES_OVERLAP"
_STARTED: Final = frozenset({JobState.STARTED, JobState.RUNNING, JobState.SUCCEEDED})
_SWEPT_AT_ONCE: Final = 5


@dataclass(frozen=True, slots=True)
class CreateCommand:
    """A job that is wanted."""

    base_model: str
    method: Method
    hyperparameters: Wanted
    training_file_ids: tuple[str, ...]
    validation_file_ids: tuple[str, ...]
    suffix: str
    dry_run: bool
    auto_start: bool
    agent: WantedAgent | None


class Jobs:
    """What may happen to jobs without a worker."""

    def __init__(self, base_models: BaseModels, new_id: IdSource, job_agents: JobAgents) -> None:
        self._base_models = base_models
        self._new_id = new_id
        self._job_agents = job_agents

    def foresee(self, store: Store, call: Call, command: CreateCommand) -> Job:
        """Returns the job that an earlier call made, or the wanted one as it would be, without an id.

        Raises what `create` would now; so agents and governance are asked neither for nothing nor again.
        """
        caller = call.caller
        earlier = None if command.dry_run else store.seen_before(call)
        if earlier is not None:
            return store.job(caller.workspace_id, earlier)
        store.refuse_buried(caller.organization_id, caller.workspace_id)
        given = _allowance(call)
        job = self._planned(store, call, command)
        entitlements.foresee_job(store, caller.organization_id, given.jobs_max)
        if command.agent is not None:
            size = len(command.agent.configuration)
            entitlements.foresee_bytes(store, caller.organization_id, size, given.stored_bytes_max)
        return job

    def create(self, store: Store, call: Call, command: CreateCommand, decision_id: str) -> Job:
        """Creates a job whose models are kept under a decision.

        Whether its agent may be made has been asked before. Raises FailedPrecondition (ENTITLEMENT_MISSING,
        BASE_MODEL_NOT_TRAINABLE, FILE_NOT_VALID), NotFound for a file, InvalidArgument, ResourceExhausted
        (JOBS_TOO_MANY, and for what an agent is told STORED_BYTES_EXCEEDED).
        """
        caller = call.caller
        job_id = self._new_id("job")
        earlier = store.once(call, job_id)
        if earlier is not None:
            return store.job(caller.workspace_id, earlier)
        store.refuse_buried(caller.organization_id, caller.workspace_id)
        given = _allowance(call)
        job = replace(self._planned(store, call, command), job_id=job_id, decision_id=decision_id)
        entitlements.require_job(store, caller.organization_id, given)
        wanted = command.agent
        if wanted is not None:
            size = len(wanted.configuration)
            entitlements.require_bytes(store, caller.organization_id, size, given.stored_bytes_max)
        store.add_job(job)
        if wanted is not None:
            self._job_agents.keep(store, job, wanted)
        store.add_event(job, EventKind.STATE, snapshot(job), number=1, create_us=job.create_us)
        store.audit(call, job_id, caller.organization_id)
        store.publish(
            "job.created",
            organization_id=caller.organization_id,
            workspace_id=caller.workspace_id,
            resource_id=job_id,
        )
        return job

    def start(self, store: Store, call: Call, job_id: str) -> Job:
        """Starts a validated job; raises FailedPrecondition (JOB_NOT_STARTABLE, ENTITLEMENT_MISSING)."""
        caller = call.caller
        if store.once(call, job_id) is not None:
            return store.job(caller.workspace_id, job_id)
        store.refuse_buried(caller.organization_id, caller.workspace_id)
        _allowance(call)
        job = store.lock_job(caller.workspace_id, job_id)
        if job.state in _STARTED:
            return job
        if not can(job, Verb.START):
            raise errors.job_not_startable(job.state.value)
        started = move(store, job, Verb.START)
        store.audit(call, job_id, caller.organization_id)
        return started

    def cancel(self, store: Store, call: Call, job_id: str) -> Job:
        """Cancels a job; one that has ended, or is being cancelled, is returned as it is."""
        caller = call.caller
        if store.once(call, job_id) is not None:
            return store.job(caller.workspace_id, job_id)
        job = store.lock_job(caller.workspace_id, job_id)
        if not can(job, Verb.CANCEL):
            return job
        # The lease of a running one goes on: its worker is to hear of it, and to say when it has wiped.
        cancelled = move(store, job, Verb.CANCEL, lease=job.lease)
        store.audit(call, job_id, caller.organization_id)
        return cancelled

    def validate(self, store: Store) -> bool:
        """Validates jobs that wait for it, oldest first; says whether there may be more."""
        waiting = store.lock_in_state((JobState.QUEUED, JobState.VALIDATING), _SWEPT_AT_ONCE)
        for job in waiting:
            self._validate(store, job)
        return len(waiting) == _SWEPT_AT_ONCE

    def validate_at_once(self, store: Store, job: Job) -> None:
        """Validates a job that was just created, unless somebody was faster."""
        self._validate(store, store.lock_job(job.workspace_id, job.job_id))

    def file_gone(self, store: Store, file_id: str, reason: FailureReason) -> None:
        """Ends the jobs that still need a file which is deleted, or whose content may no longer be kept."""
        for job in store.lock_open_of_file(file_id):
            fail(store, job, reason, "A file of the job is gone.")

    def workspace_gone(self, store: Store, organization_id: str, workspace_id: str) -> None:
        """Ends the jobs of a workspace (empty: of the organization) that was deleted for good."""
        for job in store.lock_open_of_tenant(organization_id, workspace_id):
            if not fail(store, job, FailureReason.WORKSPACE_ENDED, "The workspace ended."):
                move(store, job, Verb.ACKNOWLEDGE)
        self._job_agents.workspace_gone(store, organization_id, workspace_id)

    def _validate(self, store: Store, job: Job) -> Job:
        """Takes a locked job from QUEUED to STARTED, or to VALIDATED where it waits for its owner."""
        if can(job, Verb.VALIDATE):
            job = move(store, job, Verb.VALIDATE)
        if not can(job, Verb.APPROVE):
            return job
        if not self._base_models.still_trainable(job.base_model):
            reason = FailureReason.BASE_MODEL_MISSING
            return move(
                store, job, Verb.REFUSE, failure_reason=reason, failure_text="The base model is gone."
            )
        overlap = _overlap(store, job)
        if overlap:
            warning = JobWarning(FILES_OVERLAP, overlap)
            job = note(store, replace(job, warnings=(*job.warnings, warning)), EventKind.WARNING, warning)
        job = move(store, job, Verb.APPROVE)
        return move(store, job, Verb.START) if job.auto_start else job

    def _planned(self, store: Store, call: Call, command: CreateCommand) -> Job:
        caller = call.caller
        base = self._base_models.trainable(command.base_model, command.method)
        parameters = filled(
            command.hyperparameters, base, command.method, has_validation=bool(command.validation_file_ids)
        )
        training, validation = _files(store, caller.workspace_id, command)
        rate = store.rate(base.name, command.method)
        return Job(
            job_id="",
            organization_id=caller.organization_id,
            workspace_id=caller.workspace_id,
            member_id=caller.member_id,
            state=JobState.QUEUED,
            base_model=base.name,
            base_model_revision=base.revision,
            method=command.method,
            hyperparameters=parameters,
            suffix=command.suffix or SUFFIX,
            auto_start=command.auto_start,
            estimate=estimate(parameters, base, training, rate),
            files=(
                *(_job_file(file, validation=False) for file in training),
                *(_job_file(file, validation=True) for file in validation),
            ),
            agent=JobAgent(command.agent.display_name) if command.agent is not None else None,
            events=1,
            create_us=store.now_us(),
        )


def _allowance(call: Call) -> Allowance:
    assert call.caller.passport is not None  # every customer's call has one
    return allowance(call.caller.passport.entitlements)


def fail(store: Store, job: Job, reason: FailureReason, description: str) -> Job | None:
    """Fails a locked job; returns None where it cannot fail any more.

    Its lease stays named, without an end: a worker that still trains it is told with its next report.
    """
    if job.state in FINAL or not can(job, Verb.FAIL):
        return None
    return move(store, job, Verb.FAIL, failure_reason=reason, failure_text=description)


def _files(
    store: Store, workspace_id: str, command: CreateCommand
) -> tuple[list[TrainingFile], list[TrainingFile]]:
    if not set(command.training_file_ids).isdisjoint(command.validation_file_ids):
        raise errors.field_invalid("validation_file_ids", "A file is for training or for validation.")
    found = store.training_files(workspace_id, command.training_file_ids + command.validation_file_ids)

    def each(file_ids: Sequence[str]) -> list[TrainingFile]:
        return [_usable(found.get(file_id)) for file_id in file_ids]

    return each(command.training_file_ids), each(command.validation_file_ids)


def _usable(file: TrainingFile | None) -> TrainingFile:
    if file is None:
        raise errors.not_found()
    if not file.valid:
        raise errors.file_not_valid()
    return file


def _job_file(file: TrainingFile, *, validation: bool) -> JobFile:
    return JobFile(file.file_id, file.blob_id, validation, file.bytes, file.sha256)


def _overlap(store: Store, job: Job) -> int:
    """Returns how many lines stand in training and in validation files both."""
    digests = {file.file_id: store.line_digests(file.file_id) for file in job.files}
    training, validation = (
        [digests[file.file_id] for file in job.files if file.validation is side and digests[file.file_id]]
        for side in (False, True)
    )
    return sum(common_lines(one, other) for one in training for other in validation)
