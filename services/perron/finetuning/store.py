"""The store of finetuning: rows in, rows out, for one open transaction.

Jobs and models stand in their own modules; here is what the two need of files and of sealed bytes.
"""

from collections.abc import Collection
from typing import Final

from sqlalchemy import case, func, or_, select, update

from perron.chassis import tombstones
from perron.finetuning import tables
from perron.finetuning.disclosure_store import DisclosureStore
from perron.finetuning.file_model import BlobState
from perron.finetuning.job_agent_store import JobAgentStore
from perron.finetuning.model import TrainingFile
from perron.finetuning.model_store import ModelStore

_BLOBS: Final = tables.blobs
_FILES: Final = tables.files


class Store(JobAgentStore, ModelStore, DisclosureStore):
    """Finetuning's rows within one open transaction."""

    def is_buried(self, organization_id: str, workspace_id: str) -> bool:
        """Says whether a workspace or its organization was deleted for good; holds until the commit."""
        graves = tombstones.buried(self.tx, [organization_id])
        return (organization_id, "") in graves or (organization_id, workspace_id) in graves

    def bury(self, organization_id: str, workspace_id: str) -> None:
        """Writes the tombstone of a workspace, or of a whole organization; first of its transaction."""
        tombstones.bury(self.tx, organization_id=organization_id, workspace_id=workspace_id)

    def training_files(self, workspace_id: str, file_ids: Collection[str]) -> dict[str, TrainingFile]:
        """Returns those of the files that exist in a workspace."""
        query = select(_FILES).where(
            _FILES.c.workspace_id == workspace_id,
            _FILES.c.id.in_(list(file_ids)),
            or_(_FILES.c.expire_time == 0, _FILES.c.expire_time > self.now_us()),
        )
        return {
            row.id: TrainingFile(
                file_id=row.id,
                blob_id=row.blob_id,
                valid=row.state == "VALID",
                bytes=row.bytes,
                sha256=row.sha256,
                examples=row.examples,
                tokens=row.tokens,
            )
            for row in self.tx.execute(query)
        }

    def count_files(self, file_ids: Collection[str]) -> int:
        """Counts those of the files that have not been ended; one that a running job needs never is."""
        query = select(func.count()).select_from(_FILES).where(_FILES.c.id.in_(list(file_ids)))
        return int(self.tx.execute(query).scalar_one())

    def line_digests(self, file_id: str) -> bytes:
        """Returns the packed digests of a file's lines; empty where it is gone."""
        query = select(_FILES.c.line_digests).where(_FILES.c.id == file_id)
        return bytes(self.tx.execute(query).scalar() or b"")

    def bind_files(self, file_ids: Collection[str], expire_us: int) -> None:
        """Gives files an end that have none: a directive of zero retention binds them to jobs."""
        self.tx.execute(
            update(_FILES)
            .where(_FILES.c.id.in_(list(file_ids)), _FILES.c.job_bound_time == 0)
            .values(
                job_bound_time=self.now_us(),
                expire_time=case(
                    ((_FILES.c.expire_time > 0) & (_FILES.c.expire_time < expire_us), _FILES.c.expire_time),
                    else_=expire_us,
                ),
            )
        )

    def count_stored_bytes(self, organization_id: str) -> int:
        """Counts the bytes of an organization in storage, those of uploads as announced."""
        query = select(func.coalesce(func.sum(_BLOBS.c.bytes), 0)).where(
            _BLOBS.c.organization_id == organization_id,
            _BLOBS.c.state.in_((BlobState.WRITING, BlobState.READY)),
        )
        return int(self.tx.execute(query).scalar_one())
