"""Zero-retention requests, their directives, and the epochs they close, in one open transaction."""

from typing import Any, Final

from sqlalchemy import Row, func, select, text, update

from perron.governance.errors import missing
from perron.governance.model import Directives, ExistingRecords, RequestState, ZeroRetentionRequest
from perron.governance.record_store import KEPT
from perron.governance.store import Store
from perron.governance.tables import epochs, records, zero_retention_requests

_INSERT: Final = text(
    "INSERT INTO zero_retention_requests "
    "(id, organization_id, workspace_id, reasons, existing_records, state, create_time, review_time, "
    "review_note, effective_time, erased_records) "
    "VALUES (:id, :organization_id, :workspace_id, :reasons, :existing_records, :state, :create_time, "
    ":review_time, :review_note, :effective_time, :erased_records) "
    "ON CONFLICT DO NOTHING"
)


class RequestStore(Store):
    """The part of the store that directives need."""

    def insert_zero_retention_request(self, request: ZeroRetentionRequest) -> bool:
        """Stores a request; False where one of its scope is open or in force."""
        return self.tx.execute(_INSERT, _request_row(request)).rowcount == 1

    def update_zero_retention_request(self, request: ZeroRetentionRequest) -> None:
        """Stores what a review changed."""
        self.tx.execute(
            update(zero_retention_requests)
            .where(zero_retention_requests.c.id == request.request_id)
            .values(_request_row(request))
        )

    def zero_retention_request(self, request_id: str) -> ZeroRetentionRequest:
        """Returns a request. Raises NotFound."""
        row = self.tx.execute(
            select(zero_retention_requests).where(zero_retention_requests.c.id == request_id)
        ).first()
        if row is None:
            raise missing("zero-retention request")
        return _request(row)

    def zero_retention_requests(
        self, organization_id: str, before: str, rows_max: int
    ) -> list[ZeroRetentionRequest]:
        """Returns requests, newest first, from before an id on; of every organization where none is named."""
        statement = (
            select(zero_retention_requests).order_by(zero_retention_requests.c.id.desc()).limit(rows_max)
        )
        if organization_id:
            statement = statement.where(zero_retention_requests.c.organization_id == organization_id)
        if before:
            statement = statement.where(zero_retention_requests.c.id < before)
        return [_request(row) for row in self.tx.execute(statement)]

    def directives_of(self, organization_id: str, workspace_id: str) -> Directives:
        """Returns what is in force for exactly this scope, not what a workspace has from its organization."""
        found = self.exact_directives([(organization_id, workspace_id)])
        return found.get((organization_id, workspace_id), Directives())

    def close_epochs(self, organization_id: str, workspace_id: str) -> int:
        """Marks the epochs of a scope DROPPING, so that their records are gone; returns how many."""
        scope = (epochs.c.organization_id == organization_id) & epochs.c.state.in_(KEPT)
        if workspace_id:
            scope &= epochs.c.workspace_id == workspace_id
        count = self.tx.execute(
            select(func.count())
            .select_from(records)
            .where(records.c.epoch_id.in_(select(epochs.c.id).where(scope)))
        ).scalar_one()
        self.tx.execute(update(epochs).where(scope).values(state="DROPPING"))
        return int(count)


def _request_row(request: ZeroRetentionRequest) -> dict[str, Any]:
    return {
        "id": request.request_id,
        "organization_id": request.organization_id,
        "workspace_id": request.workspace_id,
        "reasons": request.reasons,
        "existing_records": request.existing_records.value,
        "state": request.state.value,
        "create_time": request.create_us,
        "review_time": request.review_us,
        "review_note": request.review_note,
        "effective_time": request.effective_us,
        "erased_records": request.erased_records,
    }


def _request(row: Row[Any]) -> ZeroRetentionRequest:
    return ZeroRetentionRequest(
        request_id=row.id,
        organization_id=row.organization_id,
        workspace_id=row.workspace_id,
        reasons=row.reasons,
        existing_records=ExistingRecords(row.existing_records),
        state=RequestState(row.state),
        create_us=row.create_time,
        review_us=row.review_time,
        review_note=row.review_note,
        effective_us=row.effective_time,
        erased_records=row.erased_records,
    )
