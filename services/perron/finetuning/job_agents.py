"""The agent that a job promised: kept sealed while the job goes on, made once it has succeeded.

What it is told is content. It lies in a row of its own, under a data key that is dropped like that of any
other sealed bytes: with the answer of agents, or with the end of a job that makes nothing. What a newcomer
gets wrong: the promise is not kept in the transaction in which the job succeeds. Agents is another service;
it is asked afterwards, again and again under the id of the job, until it has answered and the answer stands
here. So whatever stops in between, there is one agent or a reason.
"""

import hashlib
from collections.abc import Sequence
from typing import Final

from perron.chassis.errors import PerronError
from perron.chassis.interceptors.access import Call, Caller, CallerKind
from perron.chassis.sealing import open_sealed, seal
from perron.finetuning import errors
from perron.finetuning.blobs import Blobs
from perron.finetuning.file_model import BlobKind, Runs
from perron.finetuning.job_agent_model import AgentState, JobAgent, WantedAgent
from perron.finetuning.model import Job, Model, ModelState
from perron.finetuning.moves import settle_agent
from perron.finetuning.store import Store

_TEXT_MAX: Final = 300
_MAKING: Final = Call(
    Caller(CallerKind.SERVICE, name="finetuning"), "perron.api.finetuning.v1.JobService/CreateJob"
)


class JobAgents:
    """Keeps what jobs promised, and writes down what became of it."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs

    def keep(self, store: Store, job: Job, wanted: WantedAgent) -> None:
        """Seals the configuration of a new job's agent. Whoever calls has seen to it that it fits."""
        content = wanted.configuration
        blob = self._blobs.begin(
            store,
            job.organization_id,
            job.workspace_id,
            BlobKind.AGENT,
            len(content),
            hashlib.sha256(content).hexdigest(),
        )
        store.add_configuration(job.job_id, blob.blob.blob_id, seal(blob.data_key, content, _bound(job)))
        self._blobs.finish(store, blob.blob.blob_id, job.job_id, Runs())

    def due(self, store: Store, after: str, count: int) -> Sequence[Job]:
        """Returns jobs after the id `after` that succeeded and whose agent is still to be made."""
        return store.promising(after, count)

    def open(self, store: Store, job: Job) -> tuple[Model, bytes]:
        """Returns the model and the configuration of an agent that is to be made now.

        Raises FailedPrecondition (MODEL_DELETED), NotFound, Unavailable where the vault lacks the key.
        """
        model = store.model(job.workspace_id, job.model_id)
        if model.state is ModelState.DELETED:
            raise errors.model_deleted()
        blob_id, sealed = store.configuration(job.job_id)
        return model, open_sealed(self._blobs.to_read(store, blob_id).data_key, sealed, _bound(job))

    def settle(self, store: Store, job: Job, outcome: str | PerronError) -> None:
        """Writes what became of a job's agent, its id or why there is none; once, whoever comes first."""
        job = store.lock_job(job.workspace_id, job.job_id)
        if job.agent is None or job.agent.state is not AgentState.PROMISED:
            return
        agent = _made(job.agent, outcome) if isinstance(outcome, str) else _refused(job.agent, outcome)
        what = f"agent_{agent.state.lower()}"
        settle_agent(store, job, agent)
        store.audit(_MAKING, job.job_id, job.organization_id, action=f"job.{what}")
        store.publish(
            f"job.{what}",
            organization_id=job.organization_id,
            workspace_id=job.workspace_id,
            resource_id=job.job_id,
        )

    def workspace_gone(self, store: Store, organization_id: str, workspace_id: str) -> None:
        """Ends the promises of a workspace (empty: of the organization) that was deleted for good."""
        for job in store.promising_of_tenant(organization_id, workspace_id):
            self.settle(store, job, errors.not_found())


def _made(agent: JobAgent, agent_id: str) -> JobAgent:
    return JobAgent(agent.display_name, AgentState.MADE, agent_id=agent_id)


def _refused(agent: JobAgent, why: PerronError) -> JobAgent:
    return JobAgent(agent.display_name, AgentState.NOT_MADE, why.reason, why.message[:_TEXT_MAX])


def _bound(job: Job) -> bytes:
    return job.job_id.encode()
