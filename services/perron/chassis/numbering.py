"""Numbers without gaps, in the order of commits, for the events and the audit entries of one store.

Both come from one row, updated last in the transaction: its lock is held until the commit, so whoever has a
higher number commits later, and a rollback gives its number back. A database sequence would leave gaps and
commit out of order, and a reader that goes by the highest number it saw would lose what commits behind its
back.
"""

from typing import Final

from sqlalchemy import TextClause, text

from perron.chassis.database import Transaction
from perron.chassis.ids import new_id

_NEXT_EVENT: Final = text(
    "UPDATE log_head SET event_number = event_number + 1 WHERE id = 1 RETURNING event_number"
)
_NEXT_AUDIT_ENTRY: Final = text(
    "UPDATE log_head SET audit_number = audit_number + 1 WHERE id = 1 RETURNING audit_number"
)
_HEAD: Final = text("SELECT generation, event_number FROM log_head WHERE id = 1")
_FIRST: Final = text(
    "INSERT INTO log_head (id, generation, event_number, audit_number) VALUES (1, :generation, 0, 0) "
    "ON CONFLICT DO NOTHING"
)
_NEW_GENERATION: Final = text("UPDATE log_head SET generation = :generation WHERE id = 1")


def next_event(tx: Transaction) -> int:
    """Takes the next event number and holds the head of the log until the commit."""
    return _next(tx, _NEXT_EVENT)


def next_audit_entry(tx: Transaction) -> int:
    """Takes the next audit number and holds the head of the log until the commit."""
    return _next(tx, _NEXT_AUDIT_ENTRY)


def head(tx: Transaction) -> tuple[str, int]:
    """Returns the generation of the store and the number of its last event; ("", 0) before the first."""
    row = tx.execute(_HEAD).first()
    return (row.generation, row.event_number) if row is not None else ("", 0)


def new_generation(tx: Transaction) -> str:
    """Gives the store a new generation, as a restore must: its cursors elsewhere may name what it lost."""
    generation = new_id("gen")
    tx.execute(_FIRST, {"generation": generation})
    tx.execute(_NEW_GENERATION, {"generation": generation})
    return generation


def _next(tx: Transaction, statement: TextClause) -> int:
    number = tx.execute(statement).scalar()
    if number is None:
        tx.execute(_FIRST, {"generation": new_id("gen")})
        number = tx.execute(statement).scalar_one()
    return int(number)
