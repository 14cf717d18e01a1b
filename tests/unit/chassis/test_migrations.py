import asyncio
import fcntl
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from perron.chassis import schema
from perron.chassis.database import Database
from perron.chassis.errors import SetupError
from perron.chassis.migrations import runner
from perron.chassis.testing import BOTH, metadata_of, postgresql_database

FIRST = """
import sqlalchemy as sa
from alembic import op
from perron.chassis.migrations.first import create_chassis_tables

revision = "0001"
down_revision = None
compatible_since = "0001"


def upgrade():
    create_chassis_tables()
    op.create_table("things", sa.Column("id", sa.Text, primary_key=True))
"""

SECOND = """
import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
compatible_since = "{since}"


def upgrade():
    op.add_column("things", sa.Column("name", sa.Text))
    {more}
"""


class Scripts:
    """The migrations of a service that exists for one test."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "migrations"
        (self._folder / "versions").mkdir(parents=True)
        self.write("0001_first.py", FIRST)

    def write(self, name: str, text: str) -> None:
        (self._folder / "versions" / name).write_text(text)

    def directory(self, _service: str) -> ScriptDirectory:
        return ScriptDirectory(str(self._folder))


@pytest.fixture
def scripts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scripts:
    made = Scripts(tmp_path)
    monkeypatch.setattr(runner, "_scripts", made.directory)
    return made


@pytest.fixture(params=BOTH)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'store.db'}"
    return postgresql_database(f"perron_migrations_{tmp_path.name}")


async def problem(url: str, revision: str) -> str:
    database = Database(url)
    try:
        await database.read(lambda tx: schema.check(tx, revision))
    except SetupError as error:
        return str(error)
    finally:
        await database.aclose()
    return ""


async def test_an_empty_store_is_brought_to_the_newest_revision_once(url: str, scripts: Scripts) -> None:
    assert "perron migrate" in await problem(url, "0001")

    assert runner.migrate("test", url) == runner.Migration("", "0001")
    assert runner.migrate("test", url) == runner.Migration("0001", "0001")

    assert await problem(url, "0001") == ""


async def test_code_runs_while_the_store_is_compatible_with_it(url: str, scripts: Scripts) -> None:
    runner.migrate("test", url)
    assert "perron migrate" in await problem(url, "0002")

    scripts.write("0002_second.py", SECOND.format(since="0001", more=""))
    assert runner.migrate("test", url) == runner.Migration("0001", "0002")

    assert await problem(url, "0001") == ""
    assert await problem(url, "0002") == ""


async def test_code_that_is_too_old_for_the_store_is_refused(url: str, scripts: Scripts) -> None:
    scripts.write("0002_second.py", SECOND.format(since="0002", more=""))
    runner.migrate("test", url)

    assert "0002" in await problem(url, "0001")


async def test_a_migration_that_fails_leaves_nothing_behind(url: str, scripts: Scripts) -> None:
    runner.migrate("test", url)
    scripts.write("0002_second.py", SECOND.format(since="0002", more="raise RuntimeError('half-way')"))

    with pytest.raises(RuntimeError, match="half-way"):
        runner.migrate("test", url)

    assert await problem(url, "0001") == ""
    scripts.write("0002_second.py", SECOND.format(since="0002", more=""))
    assert runner.migrate("test", url) == runner.Migration("0001", "0002")


async def test_two_migrations_at_once_migrate_once(url: str, scripts: Scripts) -> None:
    results = await asyncio.gather(
        *(asyncio.to_thread(runner.migrate, "test", url) for _ in range(4)), return_exceptions=True
    )

    assert results.count(runner.Migration("", "0001")) == 1
    assert all(isinstance(result, SetupError | runner.Migration) for result in results)


def test_a_revision_from_the_future_is_one_clear_line(url: str, scripts: Scripts, tmp_path: Path) -> None:
    scripts.write("0002_second.py", SECOND.format(since="0001", more=""))
    runner.migrate("test", url)
    (tmp_path / "migrations" / "versions" / "0002_second.py").unlink()

    with pytest.raises(SetupError, match="a revision that this program does not know"):
        runner.migrate("test", url)


def test_a_store_that_is_being_served_is_not_migrated(tmp_path: Path, scripts: Scripts) -> None:
    with (tmp_path / "store.db.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)

        with pytest.raises(SetupError, match="another process"):
            runner.migrate("test", f"sqlite:///{tmp_path / 'store.db'}")


def test_a_store_that_cannot_be_reached_is_one_clear_line(scripts: Scripts) -> None:
    with pytest.raises(SetupError, match="cannot be reached"):
        runner.migrate("test", "postgresql://nobody@127.0.0.1:1/none")


@pytest.mark.parametrize("service", ["identity", "quotas", "governance", "agents"])
def test_migrations_lead_to_the_tables_that_the_code_uses(url: str, service: str) -> None:
    runner.migrate(service, url)

    engine = runner._engine(url)
    with engine.connect() as connection:
        found = MigrationContext.configure(connection, opts={"target_metadata": metadata_of(service)})
        differences = compare_metadata(found, metadata_of(service))
    engine.dispose()
    assert [difference for difference in differences if "alembic_version" not in str(difference)] == []
