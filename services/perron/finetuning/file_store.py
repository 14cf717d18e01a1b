"""Files and uploads in one open transaction."""

from collections.abc import Collection, Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import Row, case, delete, insert, or_, select, update

from perron.finetuning.errors import not_found
from perron.finetuning.file_model import File, FileState, Retention, Statistics, Upload
from perron.finetuning.jsonl import Fault
from perron.finetuning.line_rules import Rule
from perron.finetuning.retention import AT_ONCE_US, NOTICE_US, WITHOUT_JOB_US
from perron.finetuning.store import Store
from perron.finetuning.tables import files, uploads

_METADATA: Final = [column for column in files.c if column.name != "line_digests"]


class FileStore(Store):
    """The part of the store that files need."""

    def insert_upload(self, upload: Upload) -> None:
        """Stores a new upload."""
        self.tx.execute(
            insert(uploads),
            {
                "id": upload.upload_id,
                "organization_id": upload.organization_id,
                "workspace_id": upload.workspace_id,
                "member_id": upload.member_id,
                "blob_id": upload.blob_id,
                "display_name": upload.display_name,
                "bytes": upload.bytes,
                "sha256": upload.sha256,
                "received_bytes": upload.received_bytes,
                "file_id": upload.file_id,
                "stream": upload.stream,
                "decision_id": upload.retention.decision_id,
                "subscription_id": upload.retention.subscription_id,
                "job_bound_time": upload.retention.job_bound_us,
                "create_time": upload.create_us,
                "expire_time": upload.expire_us,
            },
        )

    def upload(self, workspace_id: str, upload_id: str, *, for_update: bool = False) -> Upload:
        """Returns an upload that has not expired, locked where it is to be changed. Raises NotFound."""
        query = select(uploads).where(
            uploads.c.id == upload_id,
            uploads.c.workspace_id == workspace_id,
            uploads.c.expire_time > self.now_us(),
        )
        row = self.tx.execute(query.with_for_update() if for_update else query).first()
        if row is None:
            raise not_found()
        return _upload(row)

    def update_upload(self, upload: Upload) -> None:
        """Stores how far an upload came, and whose it is to go on with."""
        self.tx.execute(
            update(uploads)
            .where(uploads.c.id == upload.upload_id)
            .values(
                received_bytes=upload.received_bytes,
                file_id=upload.file_id,
                stream=upload.stream,
                expire_time=upload.expire_us,
            )
        )

    def delete_upload(self, upload_id: str) -> None:
        """Forgets an upload."""
        self.tx.execute(delete(uploads).where(uploads.c.id == upload_id))

    def expired_uploads(self, rows_max: int) -> list[Upload]:
        """Returns uploads whose time is over, oldest first."""
        query = select(uploads).where(uploads.c.expire_time <= self.now_us())
        rows = self.tx.execute(query.order_by(uploads.c.expire_time).limit(rows_max).with_for_update())
        return [_upload(row) for row in rows]

    def uploading(self, blob_ids: Collection[str]) -> set[str]:
        """Returns those of the blobs that an upload is still writing."""
        query = select(uploads.c.blob_id).where(uploads.c.blob_id.in_(sorted(blob_ids)))
        return set(self.tx.execute(query).scalars())

    def insert_file(self, file: File, line_digests: bytes) -> None:
        """Stores a new file."""
        roles = file.statistics.roles
        self.tx.execute(
            insert(files),
            {
                "id": file.file_id,
                "organization_id": file.organization_id,
                "workspace_id": file.workspace_id,
                "blob_id": file.blob_id,
                "display_name": file.display_name,
                "state": file.state,
                "bytes": file.bytes,
                "sha256": file.sha256,
                "examples": file.statistics.examples,
                "tokens": file.statistics.tokens,
                "turns": file.statistics.turns,
                "system_turns": roles["system"],
                "user_turns": roles["user"],
                "assistant_turns": roles["assistant"],
                "tool_turns": roles["tool"],
                "errors": msgspec.json.encode(
                    [(one.line, one.column, one.rule) for one in file.faults]
                ).decode(),
                "error_count": file.faults_total,
                "line_digests": line_digests,
                "member_id": file.member_id,
                "attest_time": file.attest_us,
                "decision_id": file.retention.decision_id,
                "subscription_id": file.retention.subscription_id,
                "subscription_end_time": file.retention.subscription_end_us,
                "job_bound_time": file.retention.job_bound_us,
                "expire_time": file.expire_us,
                "create_time": file.create_us,
            },
        )

    def file(self, workspace_id: str, file_id: str) -> File:
        """Returns a file whose life has not ended, swept or not. Raises NotFound."""
        query = select(*_METADATA).where(files.c.id == file_id, files.c.workspace_id == workspace_id)
        row = self.tx.execute(query).first()
        if row is None or not self.lives(found := _file(row)):
            raise not_found()
        return found

    def files_of(self, workspace_id: str, before: str, rows_max: int) -> list[File]:
        """Returns the files of a workspace, newest first, after the id `before`."""
        query = select(*_METADATA).where(
            files.c.workspace_id == workspace_id,
            or_(files.c.expire_time == 0, files.c.expire_time > self.now_us(), files.c.job_bound_time > 0),
        )
        if before:
            query = query.where(files.c.id < before)
        rows = self.tx.execute(query.order_by(files.c.id.desc()).limit(rows_max))
        return [_file(row) for row in rows]

    def lives(self, file: File) -> bool:
        """Tells whether a file may be used now: it is not due, or a job has needed it since."""
        now_us = self.now_us()
        if not file.expire_us or now_us < file.expire_us:
            return True
        retention = file.retention
        if not retention.job_bound_us or 0 < retention.subscription_end_us <= now_us - NOTICE_US:
            return False
        return now_us < self.file_needed_until_us(file.file_id) + WITHOUT_JOB_US

    def due_files(self, rows_max: int) -> list[File]:
        """Returns files whose time is over unless a job needs them, oldest first."""
        query = select(*_METADATA).where(files.c.expire_time > 0, files.c.expire_time <= self.now_us())
        return [_file(row) for row in self.tx.execute(query.order_by(files.c.expire_time).limit(rows_max))]

    def set_expire(self, file_id: str, expire_us: int) -> None:
        """Stores when a file ends."""
        self.tx.execute(update(files).where(files.c.id == file_id).values(expire_time=expire_us))

    def delete_file(self, file_id: str) -> bool:
        """Forgets a file; False where it is gone already."""
        return self.tx.execute(delete(files).where(files.c.id == file_id)).rowcount == 1

    def bind_to_jobs(self, organization_id: str, workspace_id: str) -> None:
        """Binds what a workspace has to jobs (empty: the organization); uploads under way too."""
        now_us = self.now_us()
        end_us = now_us + WITHOUT_JOB_US
        for table in (files, uploads):
            scope = [table.c.organization_id == organization_id, table.c.job_bound_time == 0]
            if workspace_id:
                scope.append(table.c.workspace_id == workspace_id)
            values: dict[str, Any] = {"job_bound_time": now_us}
            if table is files:
                earlier = (files.c.expire_time > 0) & (files.c.expire_time < end_us)
                values["expire_time"] = case((earlier, files.c.expire_time), else_=end_us)
            self.tx.execute(update(table).where(*scope).values(values))

    def follow_subscription(self, organization_id: str, subscription_id: str) -> None:
        """Gives files of subscriptions that have ended 30 days; those of the one that runs live on."""
        now_us = self.now_us()
        own = (files.c.organization_id == organization_id) & (files.c.subscription_id != "")
        bound_us = files.c.job_bound_time + WITHOUT_JOB_US
        notice_us = now_us + NOTICE_US
        self.tx.execute(
            update(files)
            .where(own, files.c.subscription_id != subscription_id, files.c.subscription_end_time == 0)
            .values(
                subscription_end_time=now_us,
                expire_time=case(
                    ((files.c.expire_time > 0) & (files.c.expire_time < notice_us), files.c.expire_time),
                    else_=notice_us,
                ),
            )
        )
        self.tx.execute(
            update(files)
            .where(own, files.c.subscription_id == subscription_id, files.c.subscription_end_time > 0)
            .values(
                subscription_end_time=0, expire_time=case((files.c.job_bound_time > 0, bound_us), else_=0)
            )
        )

    def end_tenant(self, organization_id: str, workspace_id: str) -> None:
        """Makes everything of a workspace (empty: of the organization) due, whatever needs it."""
        for table in (files, uploads):
            scope = [table.c.organization_id == organization_id]
            if workspace_id:
                scope.append(table.c.workspace_id == workspace_id)
            values = {"expire_time": AT_ONCE_US, "job_bound_time": 0}
            self.tx.execute(update(table).where(*scope).values(values))


def _upload(row: Row[Any]) -> Upload:
    return Upload(
        upload_id=row.id,
        organization_id=row.organization_id,
        workspace_id=row.workspace_id,
        member_id=row.member_id,
        blob_id=row.blob_id,
        display_name=row.display_name,
        bytes=row.bytes,
        sha256=row.sha256,
        received_bytes=row.received_bytes,
        file_id=row.file_id,
        stream=row.stream,
        retention=Retention(row.decision_id, row.subscription_id, 0, row.job_bound_time),
        create_us=row.create_time,
        expire_us=row.expire_time,
    )


def _file(row: Row[Any]) -> File:
    return File(
        file_id=row.id,
        organization_id=row.organization_id,
        workspace_id=row.workspace_id,
        blob_id=row.blob_id,
        display_name=row.display_name,
        state=FileState(row.state),
        bytes=row.bytes,
        sha256=row.sha256,
        statistics=Statistics(
            row.examples,
            row.tokens,
            row.turns,
            {
                "system": row.system_turns,
                "user": row.user_turns,
                "assistant": row.assistant_turns,
                "tool": row.tool_turns,
            },
        ),
        faults=_faults(row.errors),
        faults_total=row.error_count,
        member_id=row.member_id,
        attest_us=row.attest_time,
        retention=Retention(
            row.decision_id, row.subscription_id, row.subscription_end_time, row.job_bound_time
        ),
        expire_us=row.expire_time,
        create_us=row.create_time,
    )


def _faults(written: str) -> Sequence[Fault]:
    found = msgspec.json.decode(written, type=list[tuple[int, int, str]])
    return tuple(Fault(line, column, Rule(rule)) for line, column, rule in found)
