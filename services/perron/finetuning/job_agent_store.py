"""The rows of what jobs promised within one open transaction."""

from collections.abc import Collection
from typing import Final

from sqlalchemy import delete, insert, select, text

from perron.finetuning.blob_store import BlobStore
from perron.finetuning.errors import not_found
from perron.finetuning.job_store import JobStore
from perron.finetuning.model import Job
from perron.finetuning.tables import job_configurations, jobs

_PROMISING: Final = text("agent_state = 'PROMISED' AND state = 'SUCCEEDED'")
"""Spelt out, or the index of these jobs is not used."""


class JobAgentStore(JobStore, BlobStore):
    """The part of the store that the agents of jobs need."""

    def add_configuration(self, job_id: str, blob_id: str, sealed: bytes) -> None:
        """Stores what an agent will be told, sealed; the row of the blob holds the key to it."""
        self.tx.execute(insert(job_configurations), {"job_id": job_id, "blob_id": blob_id, "sealed": sealed})

    def configuration(self, job_id: str) -> tuple[str, bytes]:
        """Returns the blob and the sealed configuration of a job's agent. Raises NotFound."""
        row = self.tx.execute(select(job_configurations).where(job_configurations.c.job_id == job_id)).first()
        if row is None:
            raise not_found()
        return row.blob_id, bytes(row.sealed)

    def drop_configuration(self, job_id: str, *, held: bool) -> None:
        """Drops the key to what a job's agent would be told; where a hold may keep it, once it is asked."""
        query = select(job_configurations.c.blob_id).where(job_configurations.c.job_id == job_id)
        self.drop_blobs(list(self.tx.execute(query).scalars()), held=held)

    def forget_configurations(self, blob_ids: Collection[str]) -> None:
        """Deletes sealed configurations whose keys are gone."""
        self.tx.execute(delete(job_configurations).where(job_configurations.c.blob_id.in_(sorted(blob_ids))))

    def promising(self, after: str, count: int) -> list[Job]:
        """Returns jobs after the id `after` that succeeded and have an agent to make."""
        query = select(jobs).where(_PROMISING, jobs.c.id > after)
        return self._jobs_where(query.order_by(jobs.c.id).limit(count))

    def promising_of_tenant(self, organization_id: str, workspace_id: str) -> list[Job]:
        """Returns those jobs of a workspace (empty: of the organization)."""
        query = select(jobs).where(_PROMISING, jobs.c.organization_id == organization_id)
        if workspace_id:
            query = query.where(jobs.c.workspace_id == workspace_id)
        return self._jobs_where(query.order_by(jobs.c.id))
