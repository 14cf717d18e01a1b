"""What a worker writes: checked by content, digested and sealed as it arrives, under its lease alone.

The lease is asked about when a stream begins and again in the transaction that makes the bytes an artifact;
so a worker whose lease has passed on may write as long as it likes, and nothing of it is ever seen.
"""

import hashlib
from dataclasses import dataclass
from typing import Final

from perron.finetuning import entitlements, errors
from perron.finetuning.blobs import Blobs
from perron.finetuning.file_model import BlobKind, OpenBlob, Runs
from perron.finetuning.model import Artifact, ArtifactKind, Job
from perron.finetuning.sealed_blobs import BlobWriter
from perron.finetuning.storage import Storage
from perron.finetuning.store import Store
from perron.finetuning.weights import WeightsCheck
from perron.finetuning.worker_leases import LeaseReference, WorkerLeases

_SAFE: Final = (".safetensors",)
_ENDINGS: Final = {
    ArtifactKind.WEIGHTS: _SAFE,
    ArtifactKind.STATE: _SAFE,
    ArtifactKind.CONFIG: (".json",),
    ArtifactKind.TOKENIZER: (".json", ".jinja", ".model", ".txt"),
}
"""How the files of each kind end; nothing that code would be run from."""


@dataclass(frozen=True, slots=True)
class WriteCommand:
    """A file that a worker is about to write."""

    lease: LeaseReference
    kind: ArtifactKind
    name: str
    bytes: int
    sha256: str


class Artifacts:
    """Begins and ends the files that workers write."""

    def __init__(self, blobs: Blobs, leases: WorkerLeases) -> None:
        self._blobs = blobs
        self._leases = leases

    def begin(self, store: Store, command: WriteCommand) -> OpenBlob:
        """Makes room for a file.

        Raises Aborted (LEASE_LOST), ResourceExhausted (STORED_BYTES_EXCEEDED), InvalidArgument for a name
        that no file of its kind has.
        """
        if not command.name.endswith(_ENDINGS[command.kind]):
            endings = ", ".join(_ENDINGS[command.kind])
            raise errors.field_invalid("start.name", f"Files of this kind end in {endings}.")
        job = self._job(store, command.lease)
        entitlements.require_bytes(store, job.organization_id, command.bytes)
        return self._blobs.begin(
            store, job.organization_id, job.workspace_id, BlobKind.ARTIFACT, command.bytes, command.sha256
        )

    def finish(self, store: Store, command: WriteCommand, blob: OpenBlob, runs: Runs) -> Artifact:
        """Makes written bytes an artifact of the job. Raises Aborted (LEASE_LOST)."""
        job = self._job(store, command.lease)
        artifact = Artifact(
            blob_id=blob.blob.blob_id,
            job_id=job.job_id,
            model_id="",
            kind=command.kind,
            name=command.name,
            bytes=command.bytes,
            sha256=command.sha256,
            create_us=store.now_us(),
        )
        self._blobs.finish(store, artifact.blob_id, job.job_id, runs)
        store.add_artifact(artifact)
        return artifact

    def input(self, store: Store, lease: LeaseReference, blob_id: str) -> OpenBlob:
        """Opens an input of a leased job: one of its files, or a file of its last checkpoint.

        Raises Aborted (LEASE_LOST), NotFound.
        """
        job = self._leases.authorize(store, lease)
        checkpoints = store.checkpoints(job.job_id, None, 1)
        resumed = {one.blob_id for checkpoint in checkpoints for one in checkpoint.artifacts}
        if blob_id not in resumed and blob_id not in {file.blob_id for file in job.files}:
            raise errors.not_found()
        return self._blobs.to_read(store, blob_id)

    def _job(self, store: Store, lease: LeaseReference) -> Job:
        job = self._leases.authorize(store, lease)
        if store.is_buried(job.organization_id, job.workspace_id):
            raise errors.lease_lost()
        return job


class Writing:
    """One file on its way in."""

    def __init__(self, storage: Storage, command: WriteCommand, blob: OpenBlob) -> None:
        self._command = command
        self._writer = BlobWriter(storage, blob)
        self._digest = hashlib.sha256()
        self._received = 0
        is_safe = _ENDINGS[command.kind] is _SAFE
        self._check = WeightsCheck(command.bytes) if is_safe else None

    @property
    def runs(self) -> Runs:
        """Which parts were written."""
        return self._writer.runs

    async def take(self, chunk: bytes) -> None:
        """Takes the next bytes; raises InvalidArgument (WEIGHTS_REFUSED, FIELD_INVALID), Unavailable."""
        self._received += len(chunk)
        if self._received > self._command.bytes:
            raise errors.field_invalid("chunk", "More bytes than were announced.")
        self._digest.update(chunk)
        if self._check is not None:
            self._check.feed(chunk)
        await self._writer.write(chunk)

    async def finish(self) -> None:
        """Stores the last bytes; raises InvalidArgument (DIGEST_MISMATCH, WEIGHTS_REFUSED), Unavailable."""
        if self._received != self._command.bytes or self._digest.hexdigest() != self._command.sha256:
            raise errors.digest_mismatch()
        if self._check is not None:
            self._check.finish()
        await self._writer.finish()
