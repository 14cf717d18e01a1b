"""The rows of jobs within one open transaction: jobs, their files and their events.

A job's row is locked before anything of it is changed or its next event numbered, so numbers have no gaps
and a cancellation never meets a report half-way.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import ColumnElement, Select, and_, func, insert, select, text, update

from perron.chassis import events as outbox
from perron.chassis import idempotency
from perron.chassis.interceptors.access import Call
from perron.chassis.mutations import Mutations
from perron.finetuning import errors, tables
from perron.finetuning.job_agent_model import AgentState, JobAgent
from perron.finetuning.model import (
    Capabilities,
    Estimate,
    EventKind,
    FailureReason,
    Hyperparameters,
    Job,
    JobEvent,
    JobFile,
    JobState,
    JobWarning,
    Lease,
    Method,
    Metrics,
    MetricSource,
    Progress,
)
from perron.finetuning.states import NEEDING_FILES

_JOBS: Final = tables.jobs
_FILES: Final = tables.job_files
_EVENTS: Final = tables.job_events
_LEASED: Final = (JobState.RUNNING.value, JobState.CANCELLATION_REQUESTED.value)
_READ_AHEAD: Final = 100
_SAVE_RATE: Final = text(
    "INSERT INTO rates (base_model, method, tokens_per_second, update_time) "
    "VALUES (:base_model, :method, :tokens_per_second, :now) ON CONFLICT (base_model, method) DO UPDATE SET "
    "tokens_per_second = excluded.tokens_per_second, update_time = excluded.update_time"
)
_LOCK_ALLOWANCE: Final = text(
    "INSERT INTO allowances (organization_id, stored_bytes_max) VALUES (:organization_id, :most) "
    "ON CONFLICT (organization_id) DO UPDATE SET stored_bytes_max = "
    "CASE WHEN :known THEN excluded.stored_bytes_max ELSE allowances.stored_bytes_max END "
    "RETURNING stored_bytes_max"
)


class JobStore(Mutations):
    """Jobs as rows."""

    def now_us(self) -> int:
        """Returns the store's time, read now."""
        return self.tx.now_us()

    def seen_before(self, call: Call) -> str | None:
        """Returns what an earlier call with this request_id made, without claiming it; None for the first."""
        return idempotency.earlier(self.tx, call)

    def lock_allowance(self, organization_id: str, stored_bytes_max: int | None) -> int:
        """Waits for others of the organization, and returns the bytes it may store; keeps what is given."""
        values = {
            "organization_id": organization_id,
            "most": stored_bytes_max or 0,
            "known": stored_bytes_max is not None,
        }
        return int(self.tx.execute(_LOCK_ALLOWANCE, values).scalar_one())

    def count_open_jobs(self, organization_id: str) -> int:
        """Counts the jobs of an organization that have not ended."""
        query = (
            select(func.count())
            .select_from(_JOBS)
            .where(_JOBS.c.organization_id == organization_id, _JOBS.c.end_time == 0)
        )
        return int(self.tx.execute(query).scalar_one())

    def add_job(self, job: Job) -> None:
        """Writes a new job with its files."""
        self.tx.execute(insert(_JOBS), _row(job) | {"id": job.job_id})
        self.tx.execute(
            insert(_FILES),
            [
                {
                    "job_id": job.job_id,
                    "position": position,
                    "file_id": file.file_id,
                    "blob_id": file.blob_id,
                    "validation": file.validation,
                    "bytes": file.bytes,
                    "sha256": file.sha256,
                }
                for position, file in enumerate(job.files)
            ],
        )

    def save_job(self, job: Job) -> None:
        """Writes what may change of a job."""
        self.tx.execute(update(_JOBS).where(_JOBS.c.id == job.job_id), _changing(job))

    def job(self, workspace_id: str, job_id: str) -> Job:
        """Returns a job of a workspace; raises NotFound."""
        return self._job_where(
            select(_JOBS).where(_JOBS.c.id == job_id, _JOBS.c.workspace_id == workspace_id)
        )

    def lock_job(self, workspace_id: str, job_id: str) -> Job:
        """Returns a job of a workspace, locked until the commit; raises NotFound."""
        query = select(_JOBS).where(_JOBS.c.id == job_id, _JOBS.c.workspace_id == workspace_id)
        return self._job_where(query.with_for_update())

    def jobs(self, workspace_id: str, before: str, count: int) -> list[Job]:
        """Returns the jobs of a workspace, newest first, after id `before`."""
        query = select(_JOBS).where(_JOBS.c.workspace_id == workspace_id)
        if before:
            query = query.where(_JOBS.c.id < before)
        return self._jobs_where(query.order_by(_JOBS.c.id.desc()).limit(count))

    def lock_leased(self, lease_id: str) -> Job | None:
        """Returns the job that was leased so last, locked until the commit."""
        found = self._jobs_where(select(_JOBS).where(_JOBS.c.lease_id == lease_id).with_for_update())
        return found[0] if found else None

    def leased(self, lease_id: str) -> Job | None:
        """Returns the job that was leased so last."""
        found = self._jobs_where(select(_JOBS).where(_JOBS.c.lease_id == lease_id))
        return found[0] if found else None

    def lock_next(self, capabilities: Capabilities) -> Job | None:
        """Returns the oldest job that waits for such a worker, locked until the commit."""
        query = (
            select(_JOBS)
            .where(
                _JOBS.c.state == JobState.STARTED.value,
                _JOBS.c.base_model.in_(list(capabilities.base_models)),
                _JOBS.c.method.in_([method.value for method in capabilities.methods]),
            )
            .order_by(_JOBS.c.id)
            .limit(1)
            .with_for_update(skip_locked=True)
        )
        found = self._jobs_where(query)
        return found[0] if found else None

    def waiting(self, capabilities: Capabilities) -> tuple[str, str, str] | None:
        """Returns organization, workspace and id of a job that may be lent to such a worker, without a lock.

        A job that is to be taken back first counts too.
        """
        waits = and_(
            _JOBS.c.state == JobState.STARTED.value,
            _JOBS.c.base_model.in_(list(capabilities.base_models)),
            _JOBS.c.method.in_([method.value for method in capabilities.methods]),
        )
        for condition in (waits, self._overdue()):
            query = select(_JOBS.c.organization_id, _JOBS.c.workspace_id, _JOBS.c.id).where(condition)
            row = self.tx.execute(query.order_by(_JOBS.c.id).limit(1)).first()
            if row is not None:
                return row.organization_id, row.workspace_id, row.id
        return None

    def lock_overdue(self, count: int) -> list[Job]:
        """Returns jobs whose lease has run out, locked until the commit; those that others hold are left."""
        query = (
            select(_JOBS)
            .where(self._overdue())
            .order_by(_JOBS.c.lease_expire_time)
            .limit(count)
            .with_for_update(skip_locked=True)
        )
        return self._jobs_where(query)

    def lock_in_state(self, states: Iterable[JobState], count: int) -> list[Job]:
        """Returns the oldest jobs in one of the states, locked until the commit."""
        query = select(_JOBS).where(_JOBS.c.state.in_([state.value for state in states]))
        return self._jobs_where(query.order_by(_JOBS.c.id).limit(count).with_for_update(skip_locked=True))

    def lock_open_of_file(self, file_id: str) -> list[Job]:
        """Returns the jobs that have not ended and name a file, locked until the commit."""
        named = select(_FILES.c.job_id).where(_FILES.c.file_id == file_id)
        query = select(_JOBS).where(_JOBS.c.id.in_(named), _JOBS.c.end_time == 0)
        return self._jobs_where(query.order_by(_JOBS.c.id).with_for_update())

    def lock_open_of_tenant(self, organization_id: str, workspace_id: str) -> list[Job]:
        """Returns the jobs of a workspace (empty: of the organization) that have not ended, locked."""
        query = select(_JOBS).where(_JOBS.c.organization_id == organization_id, _JOBS.c.end_time == 0)
        if workspace_id:
            query = query.where(_JOBS.c.workspace_id == workspace_id)
        return self._jobs_where(query.order_by(_JOBS.c.id).with_for_update())

    def file_needed_until_us(self, file_id: str) -> int:
        """Returns until when jobs needed a file: now, the end of the last one, or 0 where none ever did.

        A job that waits for StartJob does not need its files: it might wait for ever.
        """
        query = (
            select(_JOBS.c.state, _JOBS.c.end_time)
            .join(_FILES, _FILES.c.job_id == _JOBS.c.id)
            .where(_FILES.c.file_id == file_id)
        )
        rows = self.tx.execute(query).all()
        if any(row.state in NEEDING_FILES for row in rows):
            return self.now_us()
        return max((row.end_time for row in rows), default=0)

    def add_event(
        self, job: Job, kind: EventKind, body: object, *, number: int, create_us: int, once: str = ""
    ) -> None:
        """Writes an event of a job under the next number; `once` is unique within the job."""
        self.tx.execute(
            insert(_EVENTS),
            {
                "job_id": job.job_id,
                "number": number,
                "kind": kind.value,
                "once": once or f"#{number}",
                "body": msgspec.json.encode(body).decode(),
                "create_time": create_us,
            },
        )
        self.tx.after_commit(outbox.wake)

    def events_known(self, job_id: str, once: Sequence[str]) -> set[str]:
        """Returns which of these have been written as events of a job."""
        query = select(_EVENTS.c.once).where(_EVENTS.c.job_id == job_id, _EVENTS.c.once.in_(list(once)))
        return set(self.tx.execute(query).scalars())

    def events(self, job_id: str, after_number: int, count: int) -> list[JobEvent]:
        """Returns events of a job in order."""
        query = (
            select(_EVENTS)
            .where(_EVENTS.c.job_id == job_id, _EVENTS.c.number > after_number)
            .order_by(_EVENTS.c.number)
            .limit(count)
        )
        return [
            JobEvent(row.number, EventKind(row.kind), msgspec.json.decode(row.body), row.create_time)
            for row in self.tx.execute(query)
        ]

    def last_metrics(self, job_id: str, step: int) -> tuple[Metrics, ...]:
        """Returns what was measured last up to a step, on training and on validation files.

        A worker trains on while it stores a checkpoint, so that later steps may have been told of before.
        """
        found = []
        for source in MetricSource:
            query = (
                select(_EVENTS.c.body)
                .where(
                    _EVENTS.c.job_id == job_id,
                    _EVENTS.c.kind == EventKind.METRICS.value,
                    _EVENTS.c.once.startswith(f"{source.value}:", autoescape=True),
                )
                .order_by(_EVENTS.c.number.desc())
                .execution_options(yield_per=_READ_AHEAD)
            )
            with self.tx.execute(query) as newest_first:
                measured = (msgspec.json.decode(body, type=Metrics) for body in newest_first.scalars())
                found.append(next((one for one in measured if one.step <= step), None))
        return tuple(one for one in found if one is not None)

    def rate(self, base_model: str, method: Method) -> float:
        """Returns the tokens per second that a worker measured last; 0 where none has."""
        rates = tables.rates
        query = select(rates.c.tokens_per_second).where(
            rates.c.base_model == base_model, rates.c.method == method.value
        )
        return float(self.tx.execute(query).scalar() or 0.0)

    def save_rate(self, base_model: str, method: Method, tokens_per_second: float) -> None:
        """Keeps what a worker measured."""
        values = {
            "base_model": base_model,
            "method": method.value,
            "tokens_per_second": tokens_per_second,
            "now": self.now_us(),
        }
        self.tx.execute(_SAVE_RATE, values)

    def _overdue(self) -> ColumnElement[bool]:
        return and_(
            _JOBS.c.lease_expire_time > 0,
            _JOBS.c.lease_expire_time <= self.now_us(),
            _JOBS.c.state.in_(_LEASED),
        )

    def _job_where(self, query: Select[Any]) -> Job:
        found = self._jobs_where(query)
        if not found:
            raise errors.not_found()
        return found[0]

    def _jobs_where(self, query: Select[Any]) -> list[Job]:
        rows = self.tx.execute(query).all()
        files: dict[str, list[JobFile]] = {row.id: [] for row in rows}
        if rows:
            named = select(_FILES).where(_FILES.c.job_id.in_(list(files)))
            for row in self.tx.execute(named.order_by(_FILES.c.job_id, _FILES.c.position)):
                files[row.job_id].append(
                    JobFile(row.file_id, row.blob_id, row.validation, row.bytes, row.sha256)
                )
        return [_job(row, tuple(files[row.id])) for row in rows]


def _row(job: Job) -> dict[str, object]:
    return _changing(job) | {
        "organization_id": job.organization_id,
        "workspace_id": job.workspace_id,
        "member_id": job.member_id,
        "base_model": job.base_model,
        "base_model_revision": job.base_model_revision,
        "method": job.method.value,
        "hyperparameters": _json(job.hyperparameters),
        "suffix": job.suffix,
        "auto_start": job.auto_start,
        "estimate": _json(job.estimate),
        "decision_id": job.decision_id,
        "create_time": job.create_us,
    }


def _changing(job: Job) -> dict[str, object]:
    agent = job.agent
    return {
        "agent_name": agent.display_name if agent else "",
        "agent_state": agent.state.value if agent else "",
        "agent_reason": agent.reason if agent else "",
        "agent_text": agent.text if agent else "",
        "agent_id": agent.agent_id if agent else "",
        "state": job.state.value,
        "warnings": _json(job.warnings),
        "step": job.progress.step,
        "steps": job.progress.steps,
        "tokens": job.progress.tokens,
        "failure_reason": job.failure_reason.value,
        "failure_text": job.failure_text,
        "model_id": job.model_id,
        "attempts": job.attempts,
        "worker": job.lease.worker,
        "lease_id": job.lease.lease_id,
        "fencing_token": job.lease.fencing_token,
        "lease_expire_time": job.lease.expire_us,
        "events": job.events,
        "start_time": job.start_us,
        "end_time": job.end_us,
    }


def _job(row: Any, files: tuple[JobFile, ...]) -> Job:
    return Job(
        job_id=row.id,
        organization_id=row.organization_id,
        workspace_id=row.workspace_id,
        member_id=row.member_id,
        state=JobState(row.state),
        base_model=row.base_model,
        base_model_revision=row.base_model_revision,
        method=Method(row.method),
        hyperparameters=msgspec.json.decode(row.hyperparameters, type=Hyperparameters),
        suffix=row.suffix,
        auto_start=row.auto_start,
        estimate=msgspec.json.decode(row.estimate, type=Estimate),
        files=files,
        warnings=msgspec.json.decode(row.warnings, type=tuple[JobWarning, ...]),
        progress=Progress(row.step, row.steps, row.tokens),
        failure_reason=FailureReason(row.failure_reason),
        failure_text=row.failure_text,
        model_id=row.model_id,
        agent=_agent(row),
        decision_id=row.decision_id,
        attempts=row.attempts,
        lease=Lease(row.lease_id, row.fencing_token, row.worker, row.lease_expire_time),
        events=row.events,
        create_us=row.create_time,
        start_us=row.start_time,
        end_us=row.end_time,
    )


def _agent(row: Any) -> JobAgent | None:
    if not row.agent_state:
        return None
    return JobAgent(
        row.agent_name, AgentState(row.agent_state), row.agent_reason, row.agent_text, row.agent_id
    )


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
