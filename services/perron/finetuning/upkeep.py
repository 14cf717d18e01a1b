"""Upkeep: what ends by itself, what was promised to be erased, and what nobody owns any more.

Each is periodic work under a lease. It asks governance and the storage between its transactions, so it may be
interrupted anywhere: every step leaves a state from which the next run goes on.
"""

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Final, TypeVar

from perron.chassis.clock import Clock
from perron.chassis.database import Database, Transaction
from perron.chassis.leases import Lease
from perron.finetuning import sealed_blobs
from perron.finetuning.blob_store import WorkspaceKey
from perron.finetuning.blobs import Blobs
from perron.finetuning.file_model import Blob, BlobKind, BlobState, Runs
from perron.finetuning.file_store import FileStore
from perron.finetuning.files import Files
from perron.finetuning.peers import Governance
from perron.finetuning.storage import Storage, StoredObject

T = TypeVar("T")
ROWS_MAX: Final = 500
_FILES_MAX: Final = 100
_ABANDONED: Final = timedelta(hours=48)
_US: Final = timedelta(microseconds=1)


class Upkeep:
    """Carries out what nobody waits for; `clock` is the storage's time, by which old objects are told."""

    def __init__(
        self,
        database: Database,
        storage: Storage,
        files: Files,
        blobs: Blobs,
        governance: Governance,
        clock: Clock,
        *,
        orphan_age: timedelta = timedelta(hours=1),
    ) -> None:
        self._database = database
        self._storage = storage
        self._files = files
        self._blobs = blobs
        self._governance = governance
        self._clock = clock
        self._orphan_age = orphan_age
        self._held_after = ""

    async def start(self) -> None:
        """Drops the keys of the drop list again, as a restored vault may hold them."""
        dropped = await self._read(lambda store: store.keys_in("DROPPED", 1_000_000))
        await self._read(lambda _: self._blobs.drop_keys(dropped))

    async def end_due(self, lease: Lease) -> bool:
        """Ends files and uploads whose time is over; says whether there may be more."""
        due = await self._read(lambda store: store.due_files(_FILES_MAX))
        if due:
            scopes = [(one.organization_id, one.workspace_id, one.file_id) for one in due]
            directives = await self._governance.directives(scopes)
            pairs = list(zip(due, directives, strict=True))
            await self._write(lease, lambda store: self._files.end_due(store, pairs))
        return await self._write(lease, lambda store: self._files.end_uploads(store, ROWS_MAX))

    async def erase(self, lease: Lease) -> bool:
        """Goes on with erasures; says whether there may be more.

        First the objects, then the keys: every survivor is wrapped anew, the old key leaves the vault, and
        from then on no copy of anything opens what was deleted.
        """
        await self._release_held(lease)
        dropping = await self._read(lambda store: store.blobs_in(BlobState.DROPPING, _FILES_MAX))
        for blob in dropping:
            await sealed_blobs.delete(self._storage, blob.blob_id)
        gone = [blob.blob_id for blob in dropping]
        for key in await self._write(lease, lambda store: _retire(store, gone)):
            while await self._write(lease, lambda store, key=key: self._blobs.rewrap(store, key, ROWS_MAX)):  # type: ignore[misc]
                pass
        erased = await self._write(lease, self._drop_keys)
        return len(dropping) == _FILES_MAX or len(erased) == ROWS_MAX

    async def sweep(self, lease: Lease) -> bool:
        """Deletes what no row owns: objects of broken streams, of uploads that were given up, and drafts."""
        await self._storage.delete_drafts(self._orphan_age)
        await self._write(lease, _give_up)
        page: list[StoredObject] = []
        async for one in self._storage.list("blobs/"):
            page.append(one)
            if len(page) == ROWS_MAX:
                await self._sweep(page)
                page.clear()
        await self._sweep(page)
        return False

    async def _sweep(self, page: Sequence[StoredObject]) -> None:
        limit_us = self._clock.now_us() - self._orphan_age // _US
        old = [one for one in page if one.modified_us <= limit_us]
        rows = await self._read(lambda store: store.states_of({_blob_id(one) for one in old}))
        for one in old:
            row = rows.get(_blob_id(one))
            if row is None or _is_left_over(one, *row):
                await self._storage.delete(one.key)

    async def _release_held(self, lease: Lease) -> None:
        """Asks of what holds keep whether they still do, some at a time, round and round."""
        held = await self._read(
            lambda store: store.blobs_in(BlobState.HELD, ROWS_MAX, after=self._held_after)
        )
        self._held_after = held[-1].blob_id if len(held) == ROWS_MAX else ""
        if not held:
            return
        named = await self._read(lambda store: store.resources_of(held))
        scopes = [(one.organization_id, one.workspace_id, named[one.blob_id]) for one in held]
        answers = await self._governance.directives(scopes)
        released = [one.blob_id for one, now in zip(held, answers, strict=True) if not now.held]
        await self._write(lease, lambda store: store.drop_blobs(released))

    def _drop_keys(self, store: FileStore) -> list[Blob]:
        keys = store.keys_in("DROPPING")
        self._blobs.drop_keys(keys)
        for key in keys:
            store.set_key_state(key.key_id, "DROPPED")
        erased = store.erase_under_dropped_keys(ROWS_MAX)
        for blob in erased:
            if blob.kind is BlobKind.FILE and blob.owner_id:
                store.publish(
                    "file.erased",
                    organization_id=blob.organization_id,
                    workspace_id=blob.workspace_id,
                    resource_id=blob.owner_id,
                )
        return erased

    async def _read(self, work: Callable[[FileStore], T]) -> T:
        return await self._database.read(lambda tx: work(FileStore(tx)))

    async def _write(self, lease: Lease, work: Callable[[FileStore], T]) -> T:
        def fenced(tx: Transaction) -> T:
            lease.fence(tx)
            return work(FileStore(tx))

        return await self._database.write(fenced)


def _retire(store: FileStore, gone: Sequence[str]) -> list[WorkspaceKey]:
    """Marks what has left the storage and retires the keys that wrapped it; returns all that retire."""
    store.set_gone(gone)
    store.forget_configurations(gone)
    for key in store.keys_to_retire(ROWS_MAX):
        store.set_key_state(key.key_id, "RETIRING")
    return store.keys_in("RETIRING")


def _give_up(store: FileStore) -> None:
    """Drops what was begun long ago and that no upload goes on with."""
    old = store.blobs_in(BlobState.WRITING, ROWS_MAX, before_us=store.now_us() - _ABANDONED // _US)
    begun = {one.blob_id for one in old}
    store.drop_blobs(begun - store.uploading(begun))


def _is_left_over(one: StoredObject, state: BlobState, runs: Runs) -> bool:
    if state in {BlobState.GONE, BlobState.ERASED}:
        return True
    return state is BlobState.READY and not sealed_blobs.is_part_of(one.key, runs)


def _blob_id(one: StoredObject) -> str:
    return one.key.split("/")[1]
