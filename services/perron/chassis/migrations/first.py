"""The chassis' part of a service's first revision."""

from alembic import op
from sqlalchemy import MetaData

from perron.chassis.tables import define


def create_chassis_tables() -> None:
    """Makes the outbox, the audit trail and what else every store has; called from `upgrade()`."""
    metadata = MetaData()
    define(metadata)
    metadata.create_all(op.get_bind())
