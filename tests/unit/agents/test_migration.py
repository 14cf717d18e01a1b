from pathlib import Path

import pytest
import sqlalchemy
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from perron.agents import tables
from perron.agents.app import REVISION
from perron.chassis.migrations import runner
from perron.chassis.testing import BOTH, postgresql_database


@pytest.mark.parametrize("dialect", BOTH)
def test_migrations_make_the_tables_that_the_code_knows(dialect: str, tmp_path: Path) -> None:
    if dialect == "sqlite":
        url = f"sqlite:///{tmp_path / 'store.db'}"
    else:
        url = postgresql_database(f"perron_agents_{tmp_path.name}")

    assert runner.migrate("agents", url).after == REVISION

    driver = url.replace("postgresql://", "postgresql+psycopg://")
    engine = sqlalchemy.create_engine(driver, poolclass=sqlalchemy.NullPool)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection)
        differences = compare_metadata(context, tables.metadata)
    engine.dispose()
    assert [each for each in differences if "alembic_version" not in str(each)] == []
