"""Exchanges as tests of records go through them: decided, put, read."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from perron.chassis.database import Database
from perron.chassis.interceptors.access import Caller
from perron.chassis.testing import FakeClock
from perron.governance.decisions import Decisions
from perron.governance.model import (
    Decision,
    Purpose,
    Standing,
)
from perron.governance.reading import ReadCommand, Reading
from perron.governance.record_store import RecordStore
from perron.governance.records import Records
from perron.governance.store import Store, key_of
from tests.unit.governance.commands import (
    ADMIN,
    ORGANIZATION,
    WORKSPACE,
    decide_command,
    put_command,
    standing,
)

AT_HOME = replace(ADMIN.caller, workspace_id=WORKSPACE)


async def decided(database: Database, decisions: Decisions, clock: FakeClock, **fields: Any) -> Decision:
    command = decide_command(clock, **fields)
    (made,) = await database.write(lambda tx: decisions.decide(Store(tx), [command]))
    assert isinstance(made, Decision)
    return made


async def put(
    database: Database, records: Records, decision: Decision, now: Standing | None = None, **fields: Any
) -> Any:
    key = key_of(decision.ruling.organization_id, decision.decision)
    standings = {decision.ruling.workspace_id: now or standing()}
    command = put_command(decision, **fields)
    (outcome,) = await database.write(
        lambda tx: records.put(RecordStore(tx), [command], {key: decision}, standings)
    )
    return outcome


async def read(
    database: Database,
    reading: Reading,
    decision: Decision,
    now: Standing | None = None,
    *,
    caller: Caller = AT_HOME,
    purpose: Purpose = Purpose.PROVIDE_SERVICES,
    case: str = "",
) -> Any:
    command = ReadCommand(ORGANIZATION, decision.decision, purpose, case)
    call = replace(ADMIN, caller=caller)
    return await database.write(lambda tx: reading.read(RecordStore(tx), call, command, now or standing()))


def keys_in(folder: Path) -> list[Path]:
    return list(folder.glob("vault/??/*"))


def found_in(folder: Path, text: bytes) -> bool:
    return any(text in path.read_bytes() for path in folder.rglob("*") if path.is_file())
