"""Makes the agents that jobs promised: periodic work under a lease, which asks agents between transactions.

A job that agents refuses is settled with the reason. What is no refusal (agents does not answer, the vault
lacks a key) ends the round, and the next one goes on with the job after it, so none waits for another.
"""

from typing import Final

from perron.chassis.database import Database, Transaction
from perron.chassis.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound, PerronError
from perron.chassis.leases import Lease
from perron.finetuning.job_agents import JobAgents
from perron.finetuning.model import Job
from perron.finetuning.peers import Agents
from perron.finetuning.store import Store

_JOBS_MAX: Final = 50
_FINAL: Final = (AlreadyExists, FailedPrecondition, InvalidArgument, NotFound)
"""Answers that speak of the agent, and would be the same tomorrow."""


class AgentMaking:
    """Has agents made."""

    def __init__(self, database: Database, job_agents: JobAgents, agents: Agents) -> None:
        self._database = database
        self._job_agents = job_agents
        self._agents = agents
        self._after = ""

    async def make_due(self, lease: Lease) -> bool:
        """Makes the agents of jobs that have succeeded; says whether there may be more."""
        found = await self._database.read(lambda tx: self._job_agents.due(Store(tx), self._after, _JOBS_MAX))
        for job in found:
            self._after = job.job_id
            outcome = await self._made(job)
            await self._settle(lease, job, outcome)
        is_full = len(found) == _JOBS_MAX
        if not is_full:
            self._after = ""
        return is_full

    async def _made(self, job: Job) -> str | PerronError:
        """Returns the id of a job's agent, or why there is none. Raises what is no answer."""
        try:
            model, configuration = await self._database.read(lambda tx: self._job_agents.open(Store(tx), job))
            return await self._agents.make(job, model, configuration)
        except _FINAL as refusal:
            return refusal

    async def _settle(self, lease: Lease, job: Job, outcome: str | PerronError) -> None:
        def settle(tx: Transaction) -> None:
            lease.fence(tx)
            self._job_agents.settle(Store(tx), job, outcome)

        await self._database.write(settle)
