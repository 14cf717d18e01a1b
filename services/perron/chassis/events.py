"""Events: the outbox of a service, written in the transaction of what happened.

An event carries ids only; whoever consumes it asks for the rest. `event_servicer` serves the log to other
services, `consumer` follows theirs.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import insert, select

from perron.chassis import numbering
from perron.chassis.database import Transaction
from perron.chassis.tables import OWN

EVENTS_PER_PAGE: Final = 500

_EVENTS: Final = OWN.events
_INSERT: Final = insert(_EVENTS)

# A process is one service with one store; where tests have several, the others wake for nothing.
_waiting: Final[set[asyncio.Event]] = set()


@dataclass(frozen=True, slots=True)
class Event:
    """One change, by ids only; `create_time_us` is when its transaction wrote it."""

    number: int
    kind: str
    create_time_us: int
    organization_id: str
    workspace_id: str = ""
    resource_id: str = ""
    version: int = 0


def append(
    tx: Transaction,
    kind: str,
    *,
    organization_id: str,
    workspace_id: str = "",
    resource_id: str = "",
    version: int = 0,
) -> None:
    """Writes an event, with the next number, when the transaction is about to commit.

    `kind` is "<noun>.<what happened>", for instance "organization.plan_changed"; `version` is the
    resource's after the change, where it has versions.
    """
    event = {
        "kind": kind,
        "organization_id": organization_id,
        "workspace_id": workspace_id,
        "resource_id": resource_id,
        "version": version,
    }
    # Numbering locks the head of the log until the commit, so it comes last.
    tx.before_commit(lambda: _insert(tx, event))
    tx.after_commit(wake)


def after(tx: Transaction, number: int) -> list[Event]:
    """Returns the events that follow `number` in order, at most a page of them."""
    rows = tx.execute(
        select(_EVENTS).where(_EVENTS.c.number > number).order_by(_EVENTS.c.number).limit(EVENTS_PER_PAGE)
    )
    return [
        Event(
            number=row.number,
            kind=row.kind,
            create_time_us=row.create_time,
            organization_id=row.organization_id,
            workspace_id=row.workspace_id,
            resource_id=row.resource_id,
            version=row.version,
        )
        for row in rows
    ]


@contextmanager
def new_ones() -> Iterator[asyncio.Event]:
    """Yields a flag that is set whenever events commit in this process."""
    flag = asyncio.Event()
    _waiting.add(flag)
    try:
        yield flag
    finally:
        _waiting.discard(flag)


def _insert(tx: Transaction, event: dict[str, Any]) -> None:
    number = numbering.next_event(tx)
    # The time is read under the lock of the head, so that it rises with the number.
    tx.execute(_INSERT, event | {"number": number, "create_time": tx.now_us()})


def wake() -> None:
    """Makes everybody who waits for events look again."""
    for flag in _waiting:
        flag.set()
