"""Audit: who did what, or was refused it, numbered without gaps in each service.

The entry of a mutation is written in its transaction: there is none without effect and no effect without
one. A refusal rolls its transaction back, so `AuditTrail` gathers refusals in memory and writes them every
second, folded per caller, method, reason and minute: a caller that hammers a closed door costs one row a
minute.
"""

import asyncio
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import insert, text

from perron.chassis import numbering, telemetry
from perron.chassis.clock import Clock
from perron.chassis.database import Database, Transaction
from perron.chassis.errors import PerronError
from perron.chassis.tables import OWN

if TYPE_CHECKING:
    from perron.chassis.interceptors.access import Call

_FLUSH_SECONDS: Final = 1.0
_ROWS_PER_TRANSACTION: Final = 500
_FOLDS_MAX: Final = 10_000
_MINUTE_US: Final = 60_000_000

_log = telemetry.logger("audit")
_INSERT: Final = insert(OWN.audit_entries)
_RECOUNT: Final = text("UPDATE audit_entries SET count = :count WHERE number = :number")

_Key = tuple[str, ...]


@dataclass(slots=True)
class _Fold:
    """The refusals of one caller, method, reason and minute: the first one's entry, and their number."""

    minute: int
    entry: dict[str, Any] = field(repr=False)
    count: int = 0
    written: int = 0
    number: int | None = None


def append(
    tx: Transaction, call: "Call", *, action: str = "", resource_id: str, organization_id: str
) -> None:
    """Writes the entry of a mutation, with the next number, when its transaction is about to commit.

    `action` says what was done where the method alone does not, for instance "subscription.ended".
    """
    entry = _entry(call, "OK") | {
        "create_time": tx.now_us(),
        "organization_id": organization_id,
        "action": action,
        "resource_id": resource_id,
        "count": 1,
    }

    def write() -> None:
        _insert(tx, entry)

    # Numbering locks the head of the log until the commit, so it comes last.
    tx.before_commit(write)


class AuditTrail:
    """Gathers the refusals that one process answers; its `run` is a background task of the server."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._folds: dict[_Key, _Fold] = {}
        self._dropped = 0

    def refused(self, call: "Call", reason: str) -> None:
        """Notes that an authenticated caller was refused a mutation; returns at once and never raises."""
        now = self._clock.now_us()
        caller = call.caller
        minute = now // _MINUTE_US
        key = (str(minute), str(caller.kind), caller.key_id, caller.member_id, call.method, reason)
        fold = self._folds.get(key)
        if fold is None:
            if len(self._folds) >= _FOLDS_MAX:
                self._dropped += 1
                return
            entry = _entry(call, reason) | {"create_time": now, "action": "", "resource_id": ""}
            fold = self._folds[key] = _Fold(minute, entry | {"organization_id": caller.organization_id})
        fold.count += 1

    async def run(self) -> None:
        """Writes what was gathered every second until it is cancelled, and then once more."""
        try:
            while True:
                await asyncio.sleep(_FLUSH_SECONDS)
                await self._try_flush()
        finally:
            await self._try_flush()

    async def flush(self) -> None:
        """Writes what was gathered since the last time."""
        minute = self._clock.now_us() // _MINUTE_US
        due = [fold for fold in self._folds.values() if fold.count > fold.written]
        for start in range(0, len(due), _ROWS_PER_TRANSACTION):
            counts = [(fold, fold.count) for fold in due[start : start + _ROWS_PER_TRANSACTION]]
            numbers = await self._database.write(partial(_write, counts=counts))
            # Only after the commit: a failed flush is tried again whole.
            for (fold, count), number in zip(counts, numbers, strict=True):
                fold.written, fold.number = count, number
        for key in [
            key for key, fold in self._folds.items() if fold.minute < minute and fold.count == fold.written
        ]:
            del self._folds[key]

    async def _try_flush(self) -> None:
        try:
            await self.flush()
        except PerronError as error:
            _log.warning("refusals not written yet", reason=error.reason, waiting=len(self._folds))
        if self._dropped:
            _log.error("refusals beyond the fold limit went unwritten", count=self._dropped)
            self._dropped = 0


def _write(tx: Transaction, counts: list[tuple[_Fold, int]]) -> list[int]:
    return [
        _insert(tx, fold.entry | {"count": count})
        if fold.number is None
        else _recount(tx, fold.number, count)
        for fold, count in counts
    ]


def _insert(tx: Transaction, entry: dict[str, Any]) -> int:
    number = numbering.next_audit_entry(tx)
    tx.execute(_INSERT, entry | {"number": number})
    return number


def _recount(tx: Transaction, number: int, count: int) -> int:
    tx.execute(_RECOUNT, {"number": number, "count": count})
    return number


def _entry(call: "Call", result: str) -> dict[str, Any]:
    return {
        "caller_kind": str(call.caller.kind),
        "key_id": call.caller.key_id,
        "member_id": call.caller.member_id,
        "method": call.method.lstrip("/"),
        "result": result,
        "peer": call.peer,
        "trace_id": call.trace_id,
    }
