"""Whether this program understands the store it opens.

A service runs while its own revision lies between what the newest migration is compatible with and that
migration. Services never migrate and never import alembic; `perron migrate` does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import inspect, select

from perron.chassis.errors import SetupError
from perron.chassis.tables import OWN

if TYPE_CHECKING:
    from perron.chassis.database import Transaction


def check(tx: Transaction, own: str) -> None:
    """Raises SetupError where the store is empty, older than `own`, or newer than `own` can read."""
    table = OWN.schema_compatibility
    if not inspect(tx.connection).has_table(table.name):
        raise SetupError("the database has no tables yet; run `perron migrate`")
    row = tx.execute(select(table.c.revision, table.c.compatible_since)).one_or_none()
    if row is None or row.revision < own:
        found = "none" if row is None else row.revision
        raise SetupError(
            f"the database is at migration {found} and this program needs {own}; run `perron migrate`"
        )
    if own < row.compatible_since:
        raise SetupError(
            f"the database is at migration {row.revision}, which programs before {row.compatible_since} "
            f"cannot read; this one is {own}"
        )
