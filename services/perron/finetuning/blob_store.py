"""Sealed blobs and the keys of workspaces in one open transaction."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Row, bindparam, insert, select, text, update

from perron.chassis.mutations import Mutations
from perron.finetuning.errors import not_found
from perron.finetuning.file_model import Blob, BlobKind, BlobState, Runs
from perron.finetuning.tables import artifacts, blobs, workspace_keys

_INSERT_KEY: Final = text(
    "INSERT INTO workspace_keys (id, organization_id, workspace_id, state, create_time) "
    "VALUES (:id, :organization_id, :workspace_id, 'OPEN', :now) ON CONFLICT DO NOTHING"
)
_WRAPPED: Final = (BlobState.WRITING, BlobState.READY, BlobState.HELD)
"""States in which the row holds the key to the content."""

_REWRAP: Final = (
    update(blobs)
    .where(blobs.c.id == bindparam("blob"), blobs.c.key_id == bindparam("old"), blobs.c.state.in_(_WRAPPED))
    .values(key_id=bindparam("new"), wrapped_key=bindparam("wrapped"))
)


@dataclass(frozen=True, slots=True)
class WorkspaceKey:
    """A key of the vault under which the data keys of one workspace are wrapped."""

    key_id: str
    organization_id: str
    workspace_id: str


class BlobStore(Mutations):
    """The part of the store that sealed bytes need."""

    def insert_blob(self, blob: Blob) -> None:
        """Stores a new blob."""
        self.tx.execute(
            insert(blobs),
            {
                "id": blob.blob_id,
                "organization_id": blob.organization_id,
                "workspace_id": blob.workspace_id,
                "kind": blob.kind,
                "owner_id": blob.owner_id,
                "state": blob.state,
                "bytes": blob.bytes,
                "sha256": blob.sha256,
                "runs": str(blob.runs),
                "key_id": blob.key_id,
                "wrapped_key": blob.wrapped_key,
                "create_time": blob.create_us,
            },
        )

    def readable_blob(self, blob_id: str) -> Blob:
        """Returns a blob whose content may be read. Raises NotFound."""
        return self._blob_in(blob_id, BlobState.READY)

    def writing_blob(self, blob_id: str) -> Blob:
        """Returns a blob that is being written. Raises NotFound."""
        return self._blob_in(blob_id, BlobState.WRITING)

    def set_runs(self, blob_id: str, runs: Runs) -> None:
        """Says which streams wrote which parts of a blob."""
        self.tx.execute(update(blobs).where(blobs.c.id == blob_id).values(runs=str(runs)))

    def set_ready(self, blob_id: str, owner_id: str, runs: Runs) -> bool:
        """Makes a blob that was written readable; False where it was dropped meanwhile."""
        changed = self.tx.execute(
            update(blobs)
            .where(blobs.c.id == blob_id, blobs.c.state == BlobState.WRITING)
            .values(state=BlobState.READY, owner_id=owner_id, runs=str(runs))
        )
        return changed.rowcount == 1

    def drop_blobs(self, blob_ids: Collection[str], *, held: bool = False) -> None:
        """Ends the use of blobs at once: their data keys leave the rows, or stay where a hold demands it."""
        values: dict[str, Any] = {"state": BlobState.HELD} if held else _DROPPED
        self.tx.execute(
            update(blobs).where(blobs.c.id.in_(sorted(blob_ids)), blobs.c.state.in_(_WRAPPED)).values(values)
        )

    def blobs_in(self, state: BlobState, rows_max: int, *, after: str = "", before_us: int = 0) -> list[Blob]:
        """Returns blobs in a state in the order of their ids; made before an instant, where one is named."""
        statement = select(blobs).where(blobs.c.state == state, blobs.c.id > after)
        if before_us:
            statement = statement.where(blobs.c.create_time < before_us)
        return [_blob(row) for row in self.tx.execute(statement.order_by(blobs.c.id).limit(rows_max))]

    def states_of(self, blob_ids: Collection[str]) -> dict[str, tuple[BlobState, Runs]]:
        """Returns the states and runs of those blobs that have a row."""
        rows = self.tx.execute(
            select(blobs.c.id, blobs.c.state, blobs.c.runs).where(blobs.c.id.in_(sorted(blob_ids)))
        )
        return {row.id: (BlobState(row.state), Runs.read(row.runs)) for row in rows}

    def set_gone(self, blob_ids: Collection[str]) -> None:
        """Says that the objects of blobs have left the storage."""
        self.tx.execute(
            update(blobs)
            .where(blobs.c.id.in_(sorted(blob_ids)), blobs.c.state == BlobState.DROPPING)
            .values(state=BlobState.GONE)
        )

    def open_key(self, workspace_id: str) -> WorkspaceKey | None:
        """Returns the key that wraps what a workspace stores now."""
        row = self.tx.execute(
            select(workspace_keys)
            .where(
                workspace_keys.c.workspace_id == workspace_id,
                text("state = 'OPEN'"),  # spelt out, or the index of open keys is not used
            )
            # Until the commit nobody retires the key: what is wrapped under it now will be seen then.
            .with_for_update(read=True)
        ).first()
        return None if row is None else _key(row)

    def insert_key(self, key: WorkspaceKey) -> bool:
        """Stores a new open key; False where the workspace has one already."""
        row = {
            "id": key.key_id,
            "organization_id": key.organization_id,
            "workspace_id": key.workspace_id,
            "now": self.tx.now_us(),
        }
        return self.tx.execute(_INSERT_KEY, row).rowcount == 1

    def set_key_state(self, key_id: str, state: str) -> None:
        """Moves a key on."""
        self.tx.execute(update(workspace_keys).where(workspace_keys.c.id == key_id).values(state=state))

    def keys_in(self, state: str, rows_max: int = 500) -> list[WorkspaceKey]:
        """Returns keys in a state."""
        statement = select(workspace_keys).where(workspace_keys.c.state == state)
        return [_key(row) for row in self.tx.execute(statement.order_by(workspace_keys.c.id).limit(rows_max))]

    def keys_to_retire(self, rows_max: int) -> list[WorkspaceKey]:
        """Returns open keys under which a data key was wrapped that must not be read any more."""
        gone = select(blobs.c.id).where(
            blobs.c.key_id == workspace_keys.c.id, blobs.c.state == BlobState.GONE
        )
        statement = select(workspace_keys).where(workspace_keys.c.state == "OPEN", gone.exists())
        return [_key(row) for row in self.tx.execute(statement.order_by(workspace_keys.c.id).limit(rows_max))]

    def wrapped_under(self, key_id: str, rows_max: int) -> list[Blob]:
        """Returns blobs whose data keys are wrapped under a key."""
        statement = select(blobs).where(blobs.c.key_id == key_id, blobs.c.state.in_(_WRAPPED))
        return [_blob(row) for row in self.tx.execute(statement.order_by(blobs.c.id).limit(rows_max))]

    def rewrap(self, blob_id: str, old: str, new: str, wrapped: bytes) -> None:
        """Stores a data key as it is wrapped under another key, unless the blob was dropped meanwhile."""
        self.tx.execute(_REWRAP, {"blob": blob_id, "old": old, "new": new, "wrapped": wrapped})

    def is_held(self, owner_id: str) -> bool:
        """Tells whether a hold keeps what belonged to an owner."""
        held = select(blobs.c.id).where(blobs.c.owner_id == owner_id, blobs.c.state == BlobState.HELD)
        return self.tx.execute(held).first() is not None

    def resources_of(self, found: Sequence[Blob]) -> dict[str, str]:
        """Returns of each blob what a hold would name: its file, or the model that it is an artifact of."""
        query = select(artifacts.c.blob_id, artifacts.c.model_id).where(
            artifacts.c.blob_id.in_([one.blob_id for one in found])
        )
        models = {row.blob_id: row.model_id for row in self.tx.execute(query)}
        return {one.blob_id: models.get(one.blob_id, one.owner_id) for one in found}

    def erase_under_dropped_keys(self, rows_max: int) -> list[Blob]:
        """Marks blobs ERASED of which neither objects nor any key are left; returns them."""
        statement = (
            select(blobs)
            .join(workspace_keys, workspace_keys.c.id == blobs.c.key_id)
            .where(blobs.c.state == BlobState.GONE, workspace_keys.c.state == "DROPPED")
        )
        found = [_blob(row) for row in self.tx.execute(statement.order_by(blobs.c.id).limit(rows_max))]
        self.tx.execute(
            update(blobs).where(blobs.c.id.in_([one.blob_id for one in found])).values(state=BlobState.ERASED)
        )
        return found

    def _blob_in(self, blob_id: str, state: BlobState) -> Blob:
        row = self.tx.execute(select(blobs).where(blobs.c.id == blob_id, blobs.c.state == state)).first()
        if row is None:
            raise not_found()
        return _blob(row)


_DROPPED: Final[dict[str, Any]] = {"state": BlobState.DROPPING, "wrapped_key": b""}


def _key(row: Row[Any]) -> WorkspaceKey:
    return WorkspaceKey(row.id, row.organization_id, row.workspace_id)


def _blob(row: Row[Any]) -> Blob:
    return Blob(
        blob_id=row.id,
        organization_id=row.organization_id,
        workspace_id=row.workspace_id,
        kind=BlobKind(row.kind),
        owner_id=row.owner_id,
        state=BlobState(row.state),
        bytes=row.bytes,
        sha256=row.sha256,
        runs=Runs.read(row.runs),
        key_id=row.key_id,
        wrapped_key=bytes(row.wrapped_key),
        create_us=row.create_time,
    )
