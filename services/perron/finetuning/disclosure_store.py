"""The rows of what leaves the service, within one open transaction: holdings and transfers."""

from typing import Any, Final

from sqlalchemy import insert, select, update

from perron.chassis.mutations import Mutations
from perron.finetuning import errors, tables
from perron.finetuning.model import Gate, Holding, Transfer

_HOLDINGS: Final = tables.holdings
_TRANSFERS: Final = tables.transfers


class DisclosureStore(Mutations):
    """Holdings and transfers as rows."""

    def add_holding(self, holding: Holding) -> None:
        """Writes a new holding."""
        self.tx.execute(
            insert(_HOLDINGS),
            {
                "id": holding.holding_id,
                "model_id": holding.model_id,
                "workspace_id": holding.workspace_id,
                "member_id": holding.member_id,
                "expire_time": holding.expire_us,
                "release_time": holding.release_us,
            },
        )

    def lock_holding(self, workspace_id: str, holding_id: str) -> Holding:
        """Returns a holding of a workspace, locked until the commit; raises NotFound."""
        query = select(_HOLDINGS).where(
            _HOLDINGS.c.id == holding_id, _HOLDINGS.c.workspace_id == workspace_id
        )
        row = self.tx.execute(query.with_for_update()).first()
        if row is None:
            raise errors.not_found()
        return Holding(
            row.id, row.model_id, row.workspace_id, row.member_id, row.expire_time, row.release_time
        )

    def save_holding(self, holding: Holding) -> None:
        """Writes when a holding ends, or ended."""
        self.tx.execute(
            update(_HOLDINGS)
            .where(_HOLDINGS.c.id == holding.holding_id)
            .values(expire_time=holding.expire_us, release_time=holding.release_us)
        )

    def add_transfer(self, transfer: Transfer, secret_digest: bytes) -> None:
        """Writes a new transfer and the digest of its key."""
        values = {
            "id": transfer.transfer_id,
            "organization_id": transfer.organization_id,
            "workspace_id": transfer.workspace_id,
            "model_id": transfer.model_id,
            "gate": transfer.gate.value,
            "party": transfer.party,
            "purpose": transfer.purpose,
            "member_id": transfer.member_id,
            "secret_digest": secret_digest,
            "create_time": transfer.create_us,
            "expire_time": transfer.expire_us,
            "revoke_time": transfer.revoke_us,
            "last_download_time": transfer.last_download_us,
        }
        self.tx.execute(insert(_TRANSFERS), values)

    def save_transfer(self, transfer: Transfer) -> None:
        """Writes when a transfer was revoked and used."""
        self.tx.execute(
            update(_TRANSFERS)
            .where(_TRANSFERS.c.id == transfer.transfer_id)
            .values(revoke_time=transfer.revoke_us, last_download_time=transfer.last_download_us)
        )

    def transfer(self, organization_id: str, transfer_id: str) -> Transfer:
        """Returns a transfer of an organization; raises NotFound."""
        query = select(_TRANSFERS).where(
            _TRANSFERS.c.id == transfer_id, _TRANSFERS.c.organization_id == organization_id
        )
        row = self.tx.execute(query).first()
        if row is None:
            raise errors.not_found()
        return _transfer(row)

    def transfer_of_key(self, secret_digest: bytes) -> Transfer | None:
        """Returns the transfer that a key was minted for."""
        query = select(_TRANSFERS).where(_TRANSFERS.c.secret_digest == secret_digest)
        row = self.tx.execute(query).first()
        return _transfer(row) if row is not None else None

    def transfers(self, organization_id: str, model_id: str, before: str, count: int) -> list[Transfer]:
        """Returns transfers of an organization, or of one model of it, newest first, after id `before`."""
        query = select(_TRANSFERS).where(_TRANSFERS.c.organization_id == organization_id)
        if model_id:
            query = query.where(_TRANSFERS.c.model_id == model_id)
        if before:
            query = query.where(_TRANSFERS.c.id < before)
        found = self.tx.execute(query.order_by(_TRANSFERS.c.id.desc()).limit(count))
        return [_transfer(row) for row in found]


def _transfer(row: Any) -> Transfer:
    return Transfer(
        row.id,
        row.organization_id,
        row.workspace_id,
        row.model_id,
        Gate(row.gate),
        row.party,
        row.purpose,
        row.member_id,
        row.create_time,
        row.expire_time,
        row.revoke_time,
        row.last_download_time,
    )
