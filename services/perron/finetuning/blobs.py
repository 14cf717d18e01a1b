"""Sealed bytes: a data key for each blob, wrapped under the key of its workspace, which lies in the vault.

Deleting takes the data key out of the row, and the content is unreadable from that commit on. Copies of the
store still hold it, wrapped: so every survivor's data key is wrapped anew under the workspace's next key, and
the old one leaves the vault. The key comes first, then the row: a key without rows harms nobody.
"""

import secrets
from typing import Protocol

from perron.chassis import telemetry
from perron.chassis.errors import Unavailable
from perron.chassis.ids import IdSource
from perron.chassis.sealing import new_key, unwrap, wrap
from perron.finetuning.blob_store import BlobStore, WorkspaceKey
from perron.finetuning.errors import not_found
from perron.finetuning.file_model import Blob, BlobKind, BlobState, OpenBlob, Runs

_log = telemetry.logger("blobs")


class Vault(Protocol):
    """Where the keys of workspaces lie; `chassis.vault.Vault`."""

    def create(self, key_id: str) -> bytes:
        """Draws a key and returns it once it is durable."""

    def read(self, key_id: str) -> bytes | None:
        """Returns a key; None where it was dropped."""

    def drop(self, key_ids: list[str]) -> None:
        """Destroys keys for good."""


class Blobs:
    """Begins, opens and ends sealed bytes."""

    def __init__(self, vault: Vault, new_id: IdSource) -> None:
        self._vault = vault
        self._new_id = new_id

    def begin(
        self,
        store: BlobStore,
        organization_id: str,
        workspace_id: str,
        kind: BlobKind,
        size: int,
        sha256: str,
    ) -> OpenBlob:
        """Makes a blob that can be written. Whoever calls has seen to it that its bytes may be stored."""
        key, secret = self._open_key(store, organization_id, workspace_id)
        data_key = new_key()
        blob_id = self._new_id("blob")
        blob = Blob(
            blob_id=blob_id,
            organization_id=organization_id,
            workspace_id=workspace_id,
            kind=kind,
            owner_id="",
            state=BlobState.WRITING,
            bytes=size,
            sha256=sha256,
            runs=Runs(),
            key_id=key.key_id,
            wrapped_key=wrap(secret, data_key, _bound(workspace_id, blob_id)),
            create_us=store.tx.now_us(),
        )
        store.insert_blob(blob)
        return OpenBlob(blob, data_key)

    def to_write(self, store: BlobStore, blob_id: str) -> OpenBlob:
        """Opens a blob that is being written. Raises NotFound."""
        return self._open(store.writing_blob(blob_id))

    def to_read(self, store: BlobStore, blob_id: str) -> OpenBlob:
        """Opens a blob that is complete. Raises NotFound, Unavailable where the vault lacks its key."""
        return self._open(store.readable_blob(blob_id))

    def finish(self, store: BlobStore, blob_id: str, owner_id: str, runs: Runs) -> None:
        """Makes a written blob readable, as a part of its owner. Raises NotFound where it was dropped."""
        if not store.set_ready(blob_id, owner_id, runs):
            raise not_found()

    def rewrap(self, store: BlobStore, old: WorkspaceKey, rows_max: int) -> bool:
        """Wraps up to `rows_max` survivors of a retiring key anew; says whether there may be more."""
        found = store.wrapped_under(old.key_id, rows_max)
        secret = self._vault.read(old.key_id)
        if not found:
            store.set_key_state(old.key_id, "DROPPING")
            return False
        if secret is None:
            _log.error("the vault lacks a key that is to be retired; what it wrapped cannot be read")
            store.set_key_state(old.key_id, "LOST")
            return False
        new, new_secret = self._open_key(store, old.organization_id, old.workspace_id)
        for blob in found:
            bound = _bound(blob.workspace_id, blob.blob_id)
            data_key = unwrap(secret, blob.wrapped_key, bound)
            store.rewrap(blob.blob_id, old.key_id, new.key_id, wrap(new_secret, data_key, bound))
        return True

    def drop_keys(self, keys: list[WorkspaceKey]) -> None:
        """Destroys keys for good."""
        self._vault.drop([key.key_id for key in keys])

    def _open(self, blob: Blob) -> OpenBlob:
        secret = self._vault.read(blob.key_id)
        if secret is None:
            raise Unavailable("STORAGE_UNAVAILABLE", "the vault lacks the key to the content")
        return OpenBlob(blob, unwrap(secret, blob.wrapped_key, _bound(blob.workspace_id, blob.blob_id)))

    def _open_key(
        self, store: BlobStore, organization_id: str, workspace_id: str
    ) -> tuple[WorkspaceKey, bytes]:
        while (found := store.open_key(workspace_id)) is not None:
            secret = self._vault.read(found.key_id)
            if secret is not None:
                return found, secret
            _log.error("the vault lacks the key of a workspace; new content gets another")
            store.set_key_state(found.key_id, "LOST")
        made = WorkspaceKey(secrets.token_hex(16), organization_id, workspace_id)
        secret = self._vault.create(made.key_id)
        if store.insert_key(made):
            return made, secret
        self._vault.drop([made.key_id])  # another replica was faster; its key is the one
        return self._open_key(store, organization_id, workspace_id)


def _bound(workspace_id: str, blob_id: str) -> bytes:
    return f"{workspace_id}\0{blob_id}".encode()
