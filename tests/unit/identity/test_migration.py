import asyncio

from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import create_engine

from perron.chassis.migrations.runner import head, migrate
from perron.chassis.testing import postgresql_database
from perron.identity.app import REVISION
from perron.identity.tables import metadata


async def test_migrations_end_in_the_tables_that_the_store_uses() -> None:
    url = postgresql_database("perron_identity_migrated")
    await asyncio.to_thread(migrate, "identity", url)
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://", 1))
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        differences = compare_metadata(context, metadata)
    engine.dispose()
    assert differences == []


def test_the_service_names_the_newest_migration() -> None:
    assert head("identity") == REVISION
