"""RecordService on the wire: puts share a transaction, and what is read leaves in small pieces."""

from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

import grpc

from perron.api.governance.v1 import record_service_pb2 as pb
from perron.api.governance.v1 import record_service_pb2_grpc
from perron.chassis import batch_items
from perron.chassis.batcher import Batcher
from perron.chassis.database import Database
from perron.chassis.errors import PerronError
from perron.chassis.interceptors.access import current_call
from perron.chassis.paging import Pages
from perron.governance import convert
from perron.governance.callers import organization_of, workspace_of
from perron.governance.model import PutCommand, PutOutcome
from perron.governance.peers import Standings
from perron.governance.reading import Reading
from perron.governance.record_store import RecordStore
from perron.governance.records import Records
from perron.governance.store import Store, key_of

_Context = grpc.aio.ServicerContext[Any, Any]
_BATCH_BYTES_MAX: Final = 2 * 1024 * 1024
_PIECE_BYTES: Final = 64 * 1024


class RecordServicer(record_service_pb2_grpc.RecordServiceServicer):
    """Serves RecordService."""

    def __init__(
        self, database: Database, records: Records, reading: Reading, standings: Standings, pages: Pages
    ) -> None:
        self._database = database
        self._records = records
        self._reading = reading
        self._standings = standings
        self._pages = pages
        self._batcher: Batcher[PutCommand, PutOutcome] = Batcher(
            self._put,
            name="put",
            tenant=lambda command: command.organization_id,
            weigh=lambda command: len(command.input) + len(command.output),
            trace_parent=lambda command: command.trace_parent,
            max_bytes=_BATCH_BYTES_MAX,
        )

    async def aclose(self) -> None:
        """Answers what waits."""
        await self._batcher.aclose()

    async def Put(self, request: pb.PutRequest, context: _Context) -> pb.PutResponse:
        """Keeps the content of one exchange."""
        return convert.put_response(await self._batcher.submit(convert.put_command(request)))

    async def BatchPut(self, request: pb.BatchPutRequest, context: _Context) -> pb.BatchPutResponse:
        """Keeps the content of many exchanges."""
        outcomes = await batch_items.submit(request.items, convert.put_command, self._batcher)
        return pb.BatchPutResponse(results=map(convert.put_result, outcomes))

    async def GetRecord(
        self, request: pb.GetRecordRequest, context: _Context
    ) -> AsyncIterator[pb.GetRecordResponse]:
        """Streams one record with its content."""
        call = current_call()
        organization_id = organization_of(call.caller, request.organization_id, thing="record")
        command = convert.read_command(request, organization_id)
        record = await self._database.read(
            lambda tx: self._reading.locate(RecordStore(tx), call.caller, command)
        )
        workspace_id = record.ruling.workspace_id
        standing = (await self._standings.of([workspace_id]))[workspace_id]
        found, content = await self._database.write(
            lambda tx: self._reading.read(RecordStore(tx), call, command, standing)
        )
        yield pb.GetRecordResponse(record=convert.record(found))
        for start in range(0, len(content.input), _PIECE_BYTES):
            yield pb.GetRecordResponse(input=content.input[start : start + _PIECE_BYTES])
        for start in range(0, len(content.output), _PIECE_BYTES):
            yield pb.GetRecordResponse(output=content.output[start : start + _PIECE_BYTES])

    async def ListRecords(self, request: pb.ListRecordsRequest, context: _Context) -> pb.ListRecordsResponse:
        """Lists the records of a workspace, newest first."""
        caller = current_call().caller
        organization_id = organization_of(caller, request.organization_id, thing="workspace")
        workspace_id = workspace_of(caller, request.workspace_id, thing="workspace")
        size = self._pages.size(request.page_size)
        cursor = self._pages.cursor(request.page_token, caller_scope=workspace_id, filter_text="records")
        before = (int(cursor[0]), bytes.fromhex(str(cursor[1]))) if cursor else None
        standing = await self._standings.require(organization_id, workspace_id)
        scope = (organization_id, workspace_id)
        found, last = await self._database.read(
            lambda tx: self._reading.list(RecordStore(tx), scope, standing, before, size)
        )
        response = pb.ListRecordsResponse(records=map(convert.record, found))
        if last is not None:
            response.next_page_token = self._pages.token(
                (last.create_us, last.record.hex()), caller_scope=workspace_id, filter_text="records"
            )
        return response

    async def _put(self, commands: Sequence[PutCommand]) -> Sequence[PutOutcome | PerronError]:
        keys = {key_of(command.organization_id, command.decision) for command in commands}
        decisions = await self._database.read(lambda tx: Store(tx).decisions(keys))
        standings = await self._standings.of({one.ruling.workspace_id for one in decisions.values()})
        return await self._database.write(
            lambda tx: self._records.put(RecordStore(tx), commands, decisions, standings)
        )
