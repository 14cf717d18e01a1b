"""Files: announced, received, validated, kept as long as governance decided, and gone when they are deleted.

An upload belongs to one stream at a time. Whoever takes it up gets the next number, and every later word of
an older number is refused; so two clients that continue one upload cannot mix their bytes.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from perron.chassis.ids import IdSource
from perron.chassis.interceptors.access import Call
from perron.finetuning import errors
from perron.finetuning.blobs import Blobs
from perron.finetuning.entitlements import foresee_bytes, require_bytes
from perron.finetuning.file_model import (
    BlobKind,
    Directives,
    File,
    FileState,
    OpenBlob,
    Retention,
    Runs,
    Statistics,
    Upload,
    UploadCommand,
)
from perron.finetuning.file_store import FileStore
from perron.finetuning.jsonl import Report
from perron.finetuning.model import FailureReason
from perron.finetuning.retention import HOUR_US, bound_to_jobs, expire_us
from perron.finetuning.tokens import count

UPLOAD_KEPT_US: Final = 24 * HOUR_US
"""How long an upload may lie still."""

FileGone = Callable[[FileStore, str, FailureReason], None]
"""Ends the jobs that need a file which is gone, within the transaction in which it goes."""


class Files:
    """What may be done with files and uploads."""

    def __init__(self, blobs: Blobs, new_id: IdSource, file_gone: FileGone) -> None:
        self._blobs = blobs
        self._new_id = new_id
        self._file_gone = file_gone

    def foresee(self, store: FileStore, call: Call, command: UploadCommand, bytes_max: int) -> None:
        """Raises what `announce` would of a new upload, so that governance decides nothing for nothing."""
        if store.seen_before(call) is None:
            store.refuse_buried(call.caller.organization_id, call.caller.workspace_id)
            foresee_bytes(store, call.caller.organization_id, command.bytes, bytes_max)

    def announce(
        self, store: FileStore, call: Call, command: UploadCommand, retention: Retention, bytes_max: int
    ) -> Upload:
        """Begins an upload, whose bytes count as stored from now on.

        Raises ResourceExhausted (STORED_BYTES_EXCEEDED), NotFound where the workspace was deleted.
        """
        caller = call.caller
        upload_id = self._new_id("upl")
        earlier = store.once(call, upload_id)
        if earlier is not None:
            return store.upload(caller.workspace_id, earlier)
        store.refuse_buried(caller.organization_id, caller.workspace_id)
        require_bytes(store, caller.organization_id, command.bytes, bytes_max)
        blob = self._blobs.begin(
            store,
            caller.organization_id,
            caller.workspace_id,
            BlobKind.FILE,
            command.bytes,
            command.sha256,
        ).blob
        now_us = store.now_us()
        upload = Upload(
            upload_id=upload_id,
            organization_id=caller.organization_id,
            workspace_id=caller.workspace_id,
            member_id=caller.member_id,
            blob_id=blob.blob_id,
            display_name=command.display_name,
            bytes=command.bytes,
            sha256=command.sha256,
            received_bytes=0,
            file_id="",
            stream=0,
            retention=retention,
            create_us=now_us,
            expire_us=_kept_until_us(retention, now_us),
        )
        store.insert_upload(upload)
        store.audit(call, upload_id, caller.organization_id, action="rights.attested")
        return upload

    def take_up(
        self, store: FileStore, call: Call, upload_id: str, offset: int
    ) -> tuple[Upload, OpenBlob | None]:
        """Lets a new stream go on with an upload; without a blob, it is complete already.

        Raises NotFound, FailedPrecondition (UPLOAD_OFFSET_WRONG).
        """
        store.refuse_buried(call.caller.organization_id, call.caller.workspace_id)
        upload = store.upload(call.caller.workspace_id, upload_id, for_update=True)
        if upload.file_id:
            return upload, None
        if offset != upload.received_bytes:
            raise errors.upload_offset_wrong(upload.received_bytes)
        taken = replace(upload, stream=upload.stream + 1)
        store.update_upload(taken)
        return taken, self._blobs.to_write(store, upload.blob_id)

    def progress(self, store: FileStore, upload: Upload, received_bytes: int, runs: Runs) -> Upload:
        """Acknowledges bytes that lie in storage. Raises NotFound, Aborted (UPLOAD_TAKEN_OVER)."""
        store.refuse_buried(upload.organization_id, upload.workspace_id)
        present = self._own(store, upload)
        kept_until_us = _kept_until_us(present.retention, store.now_us())
        moved = replace(present, received_bytes=received_bytes, expire_us=kept_until_us)
        store.update_upload(moved)
        store.set_runs(upload.blob_id, runs)
        return moved

    def complete(
        self,
        store: FileStore,
        call: Call,
        upload: Upload,
        runs: Runs,
        report: Report,
        line_digests: bytes,
        directives: Directives,
    ) -> tuple[Upload, File]:
        """Makes the file of an upload that is all in storage; without content where lines are at fault.

        Raises NotFound, Aborted (UPLOAD_TAKEN_OVER).
        """
        store.refuse_buried(upload.organization_id, upload.workspace_id)
        present = self._own(store, upload)
        now_us = store.now_us()
        retention = present.retention
        if directives.zero_retention:
            retention = bound_to_jobs(retention, now_us)
        file = File(
            file_id=self._new_id("file"),
            organization_id=upload.organization_id,
            workspace_id=upload.workspace_id,
            blob_id=upload.blob_id,
            display_name=upload.display_name,
            state=FileState.VALID if report.valid else FileState.INVALID,
            bytes=upload.bytes,
            sha256=upload.sha256,
            statistics=Statistics.of(report.counts, count(report.counts)),
            faults=report.faults,
            faults_total=report.faults_total,
            member_id=upload.member_id,
            attest_us=upload.create_us,
            retention=retention,
            expire_us=expire_us(retention),
            create_us=now_us,
        )
        self._blobs.finish(store, upload.blob_id, file.file_id, runs)
        if not report.valid:
            store.drop_blobs([upload.blob_id])
        store.insert_file(file, line_digests if report.valid else b"")
        done = replace(
            present, received_bytes=upload.bytes, file_id=file.file_id, expire_us=now_us + UPLOAD_KEPT_US
        )
        store.update_upload(done)
        store.audit(call, file.file_id, file.organization_id, action="file.created")
        store.publish(
            "file.created",
            organization_id=file.organization_id,
            workspace_id=file.workspace_id,
            resource_id=file.file_id,
        )
        return done, file

    def discard(self, store: FileStore, upload: Upload) -> None:
        """Forgets an upload whose bytes are not the announced ones. Raises Aborted (UPLOAD_TAKEN_OVER)."""
        self._own(store, upload)
        store.drop_blobs([upload.blob_id])
        store.delete_upload(upload.upload_id)

    def to_read(self, store: FileStore, workspace_id: str, file_id: str) -> tuple[File, OpenBlob]:
        """Opens the content of a file. Raises NotFound, FailedPrecondition (FILE_NOT_VALID)."""
        file = store.file(workspace_id, file_id)
        store.refuse_buried(file.organization_id, workspace_id)
        if file.state is FileState.INVALID:
            raise errors.file_not_valid()
        return file, self._blobs.to_read(store, file.blob_id)

    def list(self, store: FileStore, workspace_id: str, before: str, size: int) -> tuple[Sequence[File], str]:
        """Returns a page of files, newest first, and the id that the next page follows; empty on the last."""
        found = store.files_of(workspace_id, before, size + 1)
        last = found[size - 1].file_id if len(found) > size else ""
        return [file for file in found[:size] if store.lives(file)], last

    def delete(self, store: FileStore, call: Call, file_id: str, directives: Directives) -> bool:
        """Ends the use of a file at once; returns whether a hold keeps its content. Raises NotFound."""
        earlier = store.once(call, file_id)
        if earlier is not None:
            return store.is_held(earlier)
        store.refuse_buried(call.caller.organization_id, call.caller.workspace_id)
        file = store.file(call.caller.workspace_id, file_id)
        self._end(store, file, FailureReason.FILE_GONE, held=directives.held)
        store.audit(call, file_id, file.organization_id)
        return directives.held

    def end_due(self, store: FileStore, due: Sequence[tuple[File, Directives]]) -> None:
        """Ends files whose time is over, and moves the time of those on that a job has needed since."""
        for file, directives in due:
            needed_us = store.file_needed_until_us(file.file_id)
            end_us = max(file.expire_us, expire_us(file.retention, needed_us))
            if store.now_us() < end_us:
                store.set_expire(file.file_id, end_us)
            else:
                self._end(store, file, FailureReason.RETENTION_ENDED, held=directives.held)

    def end_uploads(self, store: FileStore, rows_max: int) -> bool:
        """Forgets uploads whose time is over; says whether there may be more."""
        expired = store.expired_uploads(rows_max)
        store.drop_blobs([upload.blob_id for upload in expired if not upload.file_id])
        for upload in expired:
            store.delete_upload(upload.upload_id)
        return len(expired) == rows_max

    def _end(self, store: FileStore, file: File, reason: FailureReason, *, held: bool) -> None:
        if not store.delete_file(file.file_id):
            return
        store.drop_blobs([file.blob_id], held=held)
        self._file_gone(store, file.file_id, reason)
        store.publish(
            "file.deleted",
            organization_id=file.organization_id,
            workspace_id=file.workspace_id,
            resource_id=file.file_id,
        )

    def _own(self, store: FileStore, upload: Upload) -> Upload:
        """Returns an upload as it stands, if the stream that holds `upload` may still go on with it."""
        present = store.upload(upload.workspace_id, upload.upload_id, for_update=True)
        if present.stream != upload.stream or present.file_id:
            raise errors.upload_taken_over()
        return present


def _kept_until_us(retention: Retention, now_us: int) -> int:
    """Returns until when an upload is kept that moved just now: under zero retention, for one day in all."""
    end_us = now_us + UPLOAD_KEPT_US
    return min(end_us, expire_us(retention)) if retention.job_bound_us else end_us
