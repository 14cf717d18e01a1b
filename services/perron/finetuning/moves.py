"""Moving a job, and writing down what happened to it: the only place where a job's state changes.

Each move is an event of the job under the next number, for whoever watches it. The end of a job drops what
only a training that goes on would have needed; without a model, also what its agent would have been told.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from perron.finetuning.job_agent_model import AgentState, JobAgent
from perron.finetuning.model import EventKind, Job, JobEvent, JobState
from perron.finetuning.states import FINAL, TRANSITIONS, Verb
from perron.finetuning.store import Store


def can(job: Job, verb: Verb) -> bool:
    """Says whether the verb leads anywhere from the job's state."""
    return (job.state, verb) in TRANSITIONS


def move(store: Store, job: Job, verb: Verb, **changes: Any) -> Job:
    """Moves a job whose row is locked, with further changes, and writes the event; the table must have it."""
    state = TRANSITIONS[job.state, verb]
    now_us = store.now_us()
    changes.setdefault("lease", replace(job.lease, expire_us=0))
    if job.agent is not None and state in FINAL - {JobState.SUCCEEDED}:
        changes["agent"] = replace(job.agent, state=AgentState.NOT_MADE)
        store.drop_configuration(job.job_id, held=True)
    moved = replace(
        job, state=state, events=job.events + 1, end_us=now_us if state in FINAL else 0, **changes
    )
    store.save_job(moved)
    store.add_event(moved, EventKind.STATE, snapshot(moved), number=moved.events, create_us=now_us)
    if state in FINAL:
        _clear_up(store, job.job_id)
        store.publish(
            f"job.{state.value.lower()}",
            organization_id=job.organization_id,
            workspace_id=job.workspace_id,
            resource_id=job.job_id,
        )
    return moved


def settle_agent(store: Store, job: Job, agent: JobAgent) -> None:
    """Writes what became of the agent of a job that succeeded, whose row is locked, and the event.

    What the agent is told goes: agents has it, or nobody needs it any more unless a legal hold does.
    """
    settled = replace(job, agent=agent, events=job.events + 1)
    store.save_job(settled)
    store.add_event(
        settled, EventKind.STATE, snapshot(settled), number=settled.events, create_us=store.now_us()
    )
    store.drop_configuration(job.job_id, held=agent.state is not AgentState.MADE)


def has_ended(job: Job) -> bool:
    """Says whether nothing more will happen to a job, nor to the agent that it promised."""
    is_promising = job.agent is not None and job.agent.state is AgentState.PROMISED
    return job.state in FINAL and not is_promising


def note(store: Store, job: Job, kind: EventKind, body: object, *, once: str = "") -> Job:
    """Writes an event that changes no state, and returns the job, to be saved by the caller."""
    noted = replace(job, events=job.events + 1)
    store.add_event(job, kind, body, number=noted.events, create_us=store.now_us(), once=once)
    return noted


def as_of(job: Job, event: JobEvent) -> Job:
    """Returns the job as it was after the event of a move."""
    body: Mapping[str, Any] = event.body
    state = JobState(body["state"])
    return replace(
        job,
        state=state,
        failure_reason=type(job.failure_reason)(body["failure_reason"]),
        failure_text=body["failure_text"],
        model_id=body["model_id"],
        agent=job.agent
        and replace(job.agent, **body["agent"] | {"state": AgentState(body["agent"]["state"])}),
        attempts=body["attempts"],
        start_us=body["start_us"],
        end_us=body["end_us"],
    )


def snapshot(job: Job) -> dict[str, object]:
    """Returns what the event of a move tells of the job."""
    return {
        "state": job.state,
        "failure_reason": job.failure_reason,
        "failure_text": job.failure_text,
        "model_id": job.model_id,
        "agent": job.agent
        and {
            "state": job.agent.state,
            "reason": job.agent.reason,
            "text": job.agent.text,
            "agent_id": job.agent.agent_id,
        },
        "attempts": job.attempts,
        "start_us": job.start_us,
        "end_us": job.end_us,
    }


def _clear_up(store: Store, job_id: str) -> None:
    """Drops what nothing claimed, and what the checkpoints kept for going on; weights stay."""
    blob_ids = [artifact.blob_id for artifact in store.unclaimed(job_id)] + store.training_states(job_id)
    if blob_ids:
        store.drop_blobs(blob_ids)
        store.forget_artifacts(blob_ids)
