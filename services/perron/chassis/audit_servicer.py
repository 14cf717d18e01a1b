"""AuditService: the audit trail of this service, newest first."""

from typing import Any, Final

import grpc
from sqlalchemy import select

from perron.api.common.v1 import audit_service_pb2 as pb
from perron.api.common.v1 import audit_service_pb2_grpc
from perron.chassis.database import Database, Transaction
from perron.chassis.errors import NotFound
from perron.chassis.interceptors import access
from perron.chassis.interceptors.access import Caller, CallerKind
from perron.chassis.paging import Pages
from perron.chassis.tables import OWN

_ENTRIES: Final = OWN.audit_entries
_COPIED: Final = (
    "number",
    "organization_id",
    "caller_kind",
    "key_id",
    "member_id",
    "method",
    "action",
    "resource_id",
    "result",
    "count",
    "peer",
    "trace_id",
)


class AuditServicer(audit_service_pb2_grpc.AuditServiceServicer):
    """Serves the audit entries of one store."""

    def __init__(self, database: Database, pages: Pages) -> None:
        self._database = database
        self._pages = pages

    async def ListAuditEntries(
        self, request: pb.ListAuditEntriesRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.ListAuditEntriesResponse:
        """Lists entries of the caller's organization; for operators of any one, or of all."""
        caller = access.current_call().caller
        organization_id = _organization(caller, request.organization_id)
        size = self._pages.size(request.page_size)
        scope, filter_text = caller.key_id, f"audit entries of {organization_id}"
        before = self._pages.cursor(request.page_token, caller_scope=scope, filter_text=filter_text)
        rows = await self._database.read(lambda tx: _before(tx, organization_id, before, size + 1))
        page = rows[:size]
        token = ""
        if len(rows) > size:
            token = self._pages.token((page[-1].number,), caller_scope=scope, filter_text=filter_text)
        return pb.ListAuditEntriesResponse(entries=map(_convert, page), next_page_token=token)


def _organization(caller: Caller, wanted: str) -> str:
    if caller.kind is CallerKind.OPERATOR:
        return wanted
    if wanted and wanted != caller.organization_id:
        raise NotFound("RESOURCE_NOT_FOUND", "the organization or workspace does not exist")
    return caller.organization_id


def _before(tx: Transaction, organization_id: str, cursor: list[str | int] | None, rows: int) -> list[Any]:
    statement = select(_ENTRIES).order_by(_ENTRIES.c.number.desc()).limit(rows)
    if organization_id:
        statement = statement.where(_ENTRIES.c.organization_id == organization_id)
    if cursor is not None:
        statement = statement.where(_ENTRIES.c.number < cursor[0])
    return list(tx.execute(statement))


def _convert(row: Any) -> pb.AuditEntry:
    entry = pb.AuditEntry(**{name: getattr(row, name) for name in _COPIED})
    entry.create_time.FromMicroseconds(row.create_time)
    return entry
