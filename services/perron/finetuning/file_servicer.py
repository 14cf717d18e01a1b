"""FileService on the wire: no transaction outlives one message of a stream."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any, Final

import grpc

from perron.api.finetuning.v1 import file_service_pb2 as pb
from perron.api.finetuning.v1 import file_service_pb2_grpc
from perron.chassis.clock import Clock
from perron.chassis.database import Database
from perron.chassis.errors import PerronError, ResourceExhausted
from perron.chassis.interceptors.access import Call, current_call
from perron.chassis.paging import Pages
from perron.chassis.sealing import subkey
from perron.finetuning import errors, file_convert
from perron.finetuning.entitlements import allowance
from perron.finetuning.file_model import PART_BYTES, File, Upload
from perron.finetuning.file_store import FileStore
from perron.finetuning.files import Files
from perron.finetuning.pace import let_out, paced
from perron.finetuning.peers import Governance
from perron.finetuning.receiving import Receiving
from perron.finetuning.sealed_blobs import read
from perron.finetuning.storage import Storage

_Context = grpc.aio.ServicerContext[Any, Any]
_UPLOADS_MAX: Final = 32
"""How many streams one process takes bytes from at a time; each holds a part and what is sealed of it."""


class FileServicer(file_service_pb2_grpc.FileServiceServicer):
    """Serves FileService; `secret` keys the digests of lines, by which files of a workspace are compared."""

    def __init__(
        self,
        database: Database,
        storage: Storage,
        files: Files,
        governance: Governance,
        pages: Pages,
        clock: Clock,
        secret: bytes,
    ) -> None:
        self._database = database
        self._storage = storage
        self._files = files
        self._governance = governance
        self._pages = pages
        self._clock = clock
        self._secret = secret
        self._uploads = 0

    async def CreateUpload(
        self, request: pb.CreateUploadRequest, context: _Context
    ) -> pb.CreateUploadResponse:
        """Announces a file."""
        call = current_call()
        assert call.caller.passport is not None  # customers have one
        given = allowance(call.caller.passport.entitlements)
        command = file_convert.upload_command(request)
        await self._database.read(
            lambda tx: self._files.foresee(FileStore(tx), call, command, given.stored_bytes_max)
        )
        retention = await self._governance.retention_of_file(call, self._clock.now_us())
        upload = await self._database.write(
            lambda tx: self._files.announce(FileStore(tx), call, command, retention, given.stored_bytes_max)
        )
        return pb.CreateUploadResponse(upload=file_convert.upload(upload))

    async def GetUpload(self, request: pb.GetUploadRequest, context: _Context) -> pb.GetUploadResponse:
        """Says how far an upload came."""
        workspace_id = current_call().caller.workspace_id
        found = await self._database.read(lambda tx: FileStore(tx).upload(workspace_id, request.upload_id))
        return pb.GetUploadResponse(upload=file_convert.upload(found))

    async def UploadFile(
        self, request_iterator: AsyncIterator[pb.UploadFileRequest], context: _Context
    ) -> pb.UploadFileResponse:
        """Takes the bytes of an upload."""
        if self._uploads >= _UPLOADS_MAX:
            raise ResourceExhausted(
                "OVERLOADED", "as many uploads run as this process takes", retry_after=timedelta(seconds=1)
            )
        self._uploads += 1
        messages = paced(aiter(request_iterator))
        try:
            upload, file = await self._receive(current_call(), messages)
        except PerronError:
            await let_out(messages)
            raise
        finally:
            self._uploads -= 1
        return pb.UploadFileResponse(
            upload=file_convert.upload(upload), file=file_convert.file(file) if file is not None else None
        )

    async def GetFile(self, request: pb.GetFileRequest, context: _Context) -> pb.GetFileResponse:
        """Returns one file."""
        workspace_id = current_call().caller.workspace_id
        found = await self._database.read(lambda tx: FileStore(tx).file(workspace_id, request.file_id))
        return pb.GetFileResponse(file=file_convert.file(found))

    async def ListFiles(self, request: pb.ListFilesRequest, context: _Context) -> pb.ListFilesResponse:
        """Lists the files of the key's workspace, newest first."""
        workspace_id = current_call().caller.workspace_id
        size = self._pages.size(request.page_size)
        cursor = self._pages.cursor(request.page_token, caller_scope=workspace_id, filter_text="files")
        before = str(cursor[0]) if cursor else ""
        found, last = await self._database.read(
            lambda tx: self._files.list(FileStore(tx), workspace_id, before, size)
        )
        response = pb.ListFilesResponse(files=[file_convert.file(one, with_errors=False) for one in found])
        if last:
            response.next_page_token = self._pages.token(
                (last,), caller_scope=workspace_id, filter_text="files"
            )
        return response

    async def DeleteFile(self, request: pb.DeleteFileRequest, context: _Context) -> pb.DeleteFileResponse:
        """Deletes a file."""
        call = current_call()
        scope = (call.caller.organization_id, call.caller.workspace_id, request.file_id)
        (directives,) = await self._governance.directives([scope])
        deferred = await self._database.write(
            lambda tx: self._files.delete(FileStore(tx), call, request.file_id, directives)
        )
        return pb.DeleteFileResponse(deferred=deferred)

    async def DownloadFile(
        self, request: pb.DownloadFileRequest, context: _Context
    ) -> AsyncIterator[pb.DownloadFileResponse]:
        """Streams the content of a file."""
        workspace_id = current_call().caller.workspace_id
        file, blob = await self._database.read(
            lambda tx: self._files.to_read(FileStore(tx), workspace_id, request.file_id)
        )
        end = request.offset + request.length if request.length else file.bytes
        if not request.offset <= end <= file.bytes:
            raise errors.field_invalid("offset", "the range ends beyond the file")
        yield pb.DownloadFileResponse(file=file_convert.file(file))
        at = checked = request.offset
        async for piece in read(self._storage, blob, at, end):
            if at - checked >= PART_BYTES:  # whoever deletes it ends this too
                checked = at
                await self._database.read(
                    lambda tx: self._files.to_read(FileStore(tx), workspace_id, request.file_id)
                )
            yield pb.DownloadFileResponse(chunk=piece)
            at += len(piece)

    async def _receive(
        self, call: Call, messages: AsyncIterator[pb.UploadFileRequest]
    ) -> tuple[Upload, File | None]:
        start = await anext(messages, pb.UploadFileRequest())
        if not start.HasField("start"):
            raise errors.field_invalid("start", "the first message names the upload")
        upload_id, offset = start.start.upload_id, start.start.offset
        upload, blob = await self._database.write(
            lambda tx: self._files.take_up(FileStore(tx), call, upload_id, offset)
        )
        if blob is None:
            file_id = upload.file_id
            return upload, await self._database.read(
                lambda tx: FileStore(tx).file(call.caller.workspace_id, file_id)
            )
        digest_key = subkey(self._secret, f"line digests of {upload.workspace_id}")
        receiving = Receiving(self._storage, upload, blob, digest_key)
        await receiving.catch_up()
        async for message in messages:
            if not message.HasField("chunk"):
                raise errors.field_invalid("start", "only the first message names the upload")
            if await receiving.take(message.chunk):
                upload = await self._progress(upload, receiving)
        if not receiving.is_complete:
            return upload, None
        return await self._complete(call, upload, receiving)

    async def _progress(self, upload: Upload, receiving: Receiving) -> Upload:
        return await self._database.write(
            lambda tx: self._files.progress(FileStore(tx), upload, receiving.stored_bytes, receiving.runs)
        )

    async def _complete(self, call: Call, upload: Upload, receiving: Receiving) -> tuple[Upload, File]:
        finished = await receiving.finish()
        if finished is None:
            await self._database.write(lambda tx: self._files.discard(FileStore(tx), upload))
            raise errors.digest_mismatch()
        report, line_digests = finished
        scope = (upload.organization_id, upload.workspace_id, "")
        (directives,) = await self._governance.directives([scope])
        return await self._database.write(
            lambda tx: self._files.complete(
                FileStore(tx), call, upload, receiving.runs, report, line_digests, directives
            )
        )
