"""Records and their epochs in one open transaction."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Row, bindparam, delete, select, text, tuple_, update

from perron.governance.errors import missing
from perron.governance.model import Record, Ruling, SealedContent
from perron.governance.store import Key, Store, key_of
from perron.governance.tables import epochs, records

_INSERT_EPOCH: Final = text(
    "INSERT INTO epochs "
    "(id, organization_id, workspace_id, subscription_id, retention_class, due_day, state, create_time) "
    "VALUES (:id, :organization_id, :workspace_id, :subscription_id, :retention_class, :due_day, "
    "'OPEN', :now) "
    "ON CONFLICT DO NOTHING"
)
_INSERT_RECORD: Final = text(
    "INSERT INTO records "
    "(organization, id, workspace_id, epoch_id, ruling, as_of_time, due_time, create_time, model, "
    "agent_id, agent_version, data_subject, training_eligible, input_bytes, output_bytes, "
    "wrapped_key, sealed) "
    "VALUES (:organization, :id, :workspace_id, :epoch_id, :ruling, :as_of, :due, :create, :model, "
    ":agent_id, :agent_version, :data_subject, :training_eligible, :input_bytes, :output_bytes, "
    ":wrapped_key, :sealed) "
    "ON CONFLICT DO NOTHING"
)
_OPEN_EPOCHS: Final = select(epochs).where(
    text("state = 'OPEN'"),  # spelt out, or the index of open epochs is not used
    epochs.c.workspace_id.in_(bindparam("workspaces", expanding=True)),
    epochs.c.due_day.in_(bindparam("days", expanding=True)),
)
KEPT: Final = ("OPEN", "LOST")
"""The states of epochs whose records are kept, whether or not the vault has the key at the moment."""

_METADATA: Final = [column for column in records.c if column.name not in {"wrapped_key", "sealed"}]


@dataclass(frozen=True, slots=True, order=True)
class EpochKey:
    """What records of one epoch have in common."""

    organization_id: str
    workspace_id: str
    subscription_id: str
    retention_class: str
    due_day: int


@dataclass(frozen=True, slots=True)
class SealedRecord:
    """A record ready to be stored."""

    record: Record
    ruling_number: int
    content: SealedContent


class RecordStore(Store):
    """The part of the store that records need."""

    def existing(self, keys: Collection[Key]) -> frozenset[Key]:
        """Returns which of these have a record, readable or not."""
        if not keys:
            return frozenset()
        rows = self.with_keys("found.organization, found.id", "records", keys)
        return frozenset((bytes(row.organization), bytes(row.id)) for row in rows)

    def insert_records(self, made: Sequence[SealedRecord]) -> None:
        """Stores records, passing over those that exist."""
        rows = [_record_row(one) for one in made]
        self.tx.execute(_INSERT_RECORD, sorted(rows, key=lambda row: (row["organization"], row["id"])))

    def record(self, key: Key) -> Record:
        """Returns a record that is not being erased. Raises NotFound."""
        row = self.tx.execute(
            select(*_METADATA)
            .join(epochs, epochs.c.id == records.c.epoch_id)
            .where(records.c.organization == key[0], records.c.id == key[1], epochs.c.state.in_(KEPT))
        ).first()
        if row is None:
            raise missing("record")
        return _record(row, self.rulings([row.ruling]))

    def content(self, key: Key) -> SealedContent:
        """Returns the sealed content of a record that exists."""
        row = self.tx.execute(
            select(records.c.wrapped_key, records.c.sealed).where(
                records.c.organization == key[0], records.c.id == key[1]
            )
        ).one()
        return SealedContent(bytes(row.wrapped_key), bytes(row.sealed))

    def records_of(
        self, organization_id: str, workspace_id: str, before: tuple[int, bytes] | None, rows_max: int
    ) -> list[Record]:
        """Returns a workspace's records that are neither erased nor due, newest first, before a place."""
        statement = (
            select(*_METADATA)
            .join(epochs, epochs.c.id == records.c.epoch_id)
            .where(
                records.c.workspace_id == workspace_id,
                records.c.organization == key_of(organization_id, b"")[0],
                records.c.due_time > self.now_us(),
                epochs.c.state.in_(KEPT),
            )
        )
        if before is not None:
            statement = statement.where(tuple_(records.c.create_time, records.c.id) < tuple_(*before))
        rows = self.tx.execute(
            statement.order_by(records.c.create_time.desc(), records.c.id.desc()).limit(rows_max)
        ).all()
        ruled = self.rulings({row.ruling for row in rows})
        return [_record(row, ruled) for row in rows]

    def open_epochs(self, wanted: Collection[EpochKey]) -> dict[EpochKey, str]:
        """Returns the ids of the open epochs among these."""
        rows = self.tx.execute(
            _OPEN_EPOCHS,
            {
                "workspaces": sorted({key.workspace_id for key in wanted}),
                "days": sorted({key.due_day for key in wanted}),
            },
        )
        found = {
            EpochKey(
                row.organization_id, row.workspace_id, row.subscription_id, row.retention_class, row.due_day
            ): row.id
            for row in rows
        }
        return {key: found[key] for key in wanted if key in found}

    def insert_epoch(self, key: EpochKey, epoch: str) -> bool:
        """Begins an epoch; False where there is an open one already."""
        row = {
            "id": epoch,
            "organization_id": key.organization_id,
            "workspace_id": key.workspace_id,
            "subscription_id": key.subscription_id,
            "retention_class": key.retention_class,
            "due_day": key.due_day,
            "now": self.now_us(),
        }
        return self.tx.execute(_INSERT_EPOCH, row).rowcount == 1

    def abandon_epoch(self, epoch: str) -> None:
        """Marks an epoch whose key is missing, so that nothing new is sealed by it."""
        self.tx.execute(update(epochs).where(epochs.c.id == epoch).values(state="LOST"))

    def epochs_in(self, state: str) -> list[str]:
        """Returns the ids of the epochs in a state."""
        return list(self.tx.execute(select(epochs.c.id).where(epochs.c.state == state)).scalars())

    def delete_records_of(self, epoch: str, rows_max: int) -> int:
        """Deletes up to `rows_max` records of an epoch, all of one organization; returns how many."""
        some = select(records.c.organization, records.c.id).where(records.c.epoch_id == epoch)
        keys = self.tx.execute(some.limit(rows_max)).all()
        if keys:
            own = records.c.organization == keys[0].organization
            self.tx.execute(delete(records).where(own, records.c.id.in_([key.id for key in keys])))
        return len(keys)

    def end_epoch(self, epoch: str) -> None:
        """Marks an epoch whose key and records are gone."""
        self.tx.execute(update(epochs).where(epochs.c.id == epoch).values(state="DROPPED"))


def _record_row(one: SealedRecord) -> dict[str, Any]:
    record = one.record
    organization, identifier = key_of(record.ruling.organization_id, record.record)
    return {
        "organization": organization,
        "id": identifier,
        "workspace_id": record.ruling.workspace_id,
        "epoch_id": record.epoch,
        "ruling": one.ruling_number,
        "as_of": record.as_of_us,
        "due": record.due_us,
        "create": record.create_us,
        "model": record.model,
        "agent_id": record.agent_id,
        "agent_version": record.agent_version,
        "data_subject": record.data_subject,
        "training_eligible": record.training_eligible,
        "input_bytes": record.input_bytes,
        "output_bytes": record.output_bytes,
        "wrapped_key": one.content.wrapped_key,
        "sealed": one.content.sealed,
    }


def _record(row: Row[Any], ruled: Mapping[int, Ruling]) -> Record:
    return Record(
        record=bytes(row.id),
        ruling=ruled[row.ruling],
        as_of_us=row.as_of_time,
        due_us=row.due_time,
        create_us=row.create_time,
        epoch=row.epoch_id,
        model=row.model,
        agent_id=row.agent_id,
        agent_version=row.agent_version,
        data_subject=row.data_subject,
        training_eligible=bool(row.training_eligible),
        input_bytes=row.input_bytes,
        output_bytes=row.output_bytes,
    )
