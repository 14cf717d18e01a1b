"""Reading records: who may declare which purpose, and what the record still permits on the day it is read.

The purpose is declared before anything is looked up, and the reading is audited in the transaction that finds
the content.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from perron.chassis.errors import FailedPrecondition, InvalidArgument, PermissionDenied
from perron.chassis.ids import from_bytes
from perron.chassis.interceptors.access import Call, Caller, CallerKind
from perron.governance.callers import workspace_of
from perron.governance.directives import combined
from perron.governance.errors import missing
from perron.governance.model import Outcome, Purpose, Record, Standing
from perron.governance.record_store import RecordStore
from perron.governance.records import Records
from perron.governance.seals import Seals
from perron.governance.store import key_of

_OPERATOR_ROLES: Final[Mapping[Purpose, str]] = {
    Purpose.MONITOR_ABUSE: "ABUSE_REVIEWER",
    Purpose.LEGAL_OBLIGATION: "LEGAL",
}


@dataclass(frozen=True, slots=True)
class ReadCommand:
    """A record wanted for a declared purpose."""

    organization_id: str
    record: bytes
    purpose: Purpose
    case_reference: str


@dataclass(frozen=True, slots=True)
class Found:
    """A record, with what may still be done with it."""

    record: Record
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Content:
    """The content of a record, on its way to whoever may read it."""

    input: bytes
    output: bytes

    def __repr__(self) -> str:
        return "Content()"


class Reading:
    """Reads and lists records."""

    def __init__(self, records: Records, seals: Seals) -> None:
        self._records = records
        self._seals = seals

    def locate(self, store: RecordStore, caller: Caller, command: ReadCommand) -> Record:
        """Returns the record wanted, so that its workspace's standing can be asked.

        Raises PermissionDenied (PURPOSE_NOT_ALLOWED), InvalidArgument (CASE_REFERENCE_MISSING), NotFound.
        """
        declare(caller, command)
        record = store.record(key_of(command.organization_id, command.record))
        workspace_of(caller, record.ruling.workspace_id, thing="record")
        return record

    def read(
        self, store: RecordStore, call: Call, command: ReadCommand, standing: Standing
    ) -> tuple[Found, Content]:
        """Returns a record with its content, and audits that.

        Raises NotFound from its last deadline on, FailedPrecondition (PURPOSE_ENDED) where others still run.
        """
        store.buried([command.organization_id])  # from here on, whoever erases waits for this reading
        record = self.locate(store, call.caller, command)
        scope = (command.organization_id, record.ruling.workspace_id)
        found = next(iter(self._found(store, scope, [record], standing)), None)
        if found is None:
            raise missing("record")
        if found.outcome.permission(command.purpose) is None:
            raise FailedPrecondition(
                "PURPOSE_ENDED",
                f"the record is no longer kept for {command.purpose}",
                metadata={"purpose": command.purpose.value},
            )
        content = self._seals.open(record, store.content(key_of(command.organization_id, command.record)))
        if content is None:
            raise missing("record")
        store.audit(
            call,
            from_bytes("rec", record.record),
            command.organization_id,
            action=" ".join(filter(None, ("record.read", command.purpose.value, command.case_reference))),
        )
        return found, Content(*content)

    def list(
        self,
        store: RecordStore,
        scope: tuple[str, str],
        standing: Standing,
        before: tuple[int, bytes] | None,
        rows_max: int,
    ) -> tuple[Sequence[Found], Record | None]:
        """Returns a page of a workspace's records, and its last row where there may be more.

        What is not kept any more is left out, so a page may be short and still have a next one.
        """
        rows = store.records_of(*scope, before, rows_max)
        found = self._found(store, scope, rows, standing)
        return found, rows[-1] if len(rows) == rows_max else None

    def _found(
        self, store: RecordStore, scope: tuple[str, str], rows: Sequence[Record], standing: Standing
    ) -> Sequence[Found]:
        """Returns those of a workspace's records that are kept now, each with what it permits now."""
        if {(scope[0], ""), scope} & store.buried([scope[0]]):
            return []
        in_force = combined(store.directives([scope]).get(scope, ()))
        now_us = store.now_us()
        return [
            Found(record, outcome)
            for record in rows
            if (outcome := self._records.readable(record, standing, in_force, now_us)) is not None
        ]


def declare(caller: Caller, command: ReadCommand) -> None:
    """Refuses a purpose that this caller may not declare; IMPROVE_SERVICES is nobody's.

    Raises PermissionDenied (PURPOSE_NOT_ALLOWED), InvalidArgument (CASE_REFERENCE_MISSING).
    """
    if caller.kind is CallerKind.CUSTOMER:
        allowed = command.purpose is Purpose.PROVIDE_SERVICES
    else:
        allowed = _OPERATOR_ROLES.get(command.purpose, "") in caller.operator_roles
    if not allowed:
        raise PermissionDenied(
            "PURPOSE_NOT_ALLOWED",
            f"you may not declare the purpose {command.purpose}",
            metadata={"purpose": command.purpose.value},
        )
    if command.purpose is Purpose.LEGAL_OBLIGATION and not command.case_reference.strip():
        raise InvalidArgument(
            "CASE_REFERENCE_MISSING",
            "a legal obligation needs the reference of its case",
            field="case_reference",
        )
