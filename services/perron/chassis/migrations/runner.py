"""Brings the store of one service to the newest revision, under a lock, each revision in one transaction.

    url = "postgresql://…"
    migrate("identity", url)     # → Migration(before="", after="0001")

What a newcomer gets wrong: SQLite's driver commits before each change of a table unless it is told not to,
and a migration that fails half-way would leave half of it behind. Here BEGIN is ours on both dialects.
"""

import fcntl
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import sqlalchemy
from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext, MigrationInfo
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, Engine, event
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool

import perron.chassis
from perron.chassis.errors import SetupError
from perron.chassis.tables import OWN

_LOCK_KEY: Final = 0x506572726F6E  # "Perron"; advisory locks are the database's own
_COMPATIBILITY: Final = OWN.schema_compatibility


@dataclass(frozen=True, slots=True)
class Migration:
    """What a run did: the revision it found, "" for an empty store, and the one it left."""

    before: str
    after: str


def migrate(service: str, url: str) -> Migration:
    """Migrates the store of `service` at `url` to the newest revision, if it is not there already.

    Raises SetupError where the store cannot be reached, is served by another process (SQLite), or is at a
    revision that this code does not know.
    """
    scripts = _scripts(service)
    engine = _engine(url)
    try:
        with _lock(engine), engine.connect() as connection:
            before = _revision(connection)
            _upgrade(scripts, connection)
            return Migration(before, _revision(connection))
    except OperationalError:
        raise SetupError(f"database of {service}: it cannot be reached or written to") from None
    except CommandError:
        raise SetupError(
            f"database of {service}: it is at a revision that this program does not know"
        ) from None
    finally:
        engine.dispose()


def head(service: str) -> str:
    """Returns the newest revision of `service`."""
    return _scripts(service).get_current_head() or ""


def _upgrade(scripts: ScriptDirectory, connection: Connection) -> None:
    environment = EnvironmentContext(Config(), scripts, destination_rev="head")
    environment.configure(
        connection=connection,
        fn=lambda revision, _context: scripts._upgrade_revs("head", revision),  # noqa: SLF001 (as alembic's command)
        transactional_ddl=True,
        transaction_per_migration=True,
        on_version_apply=_write_compatibility,
    )
    environment.run_migrations()


def _write_compatibility(
    ctx: MigrationContext,
    step: MigrationInfo,
    heads: Collection[Any],  # noqa: ARG001 (alembic passes them by name)
    run_args: Mapping[str, Any],  # noqa: ARG001
) -> None:
    """Says, in the migration's own transaction, which code may run from now on."""
    connection = ctx.connection
    assert connection is not None
    newest: Any = step.up_revision  # typed as a revision, it is the script of one
    module = newest.module
    connection.execute(_COMPATIBILITY.delete())
    connection.execute(
        _COMPATIBILITY.insert(), {"revision": module.revision, "compatible_since": module.compatible_since}
    )


def _revision(connection: Connection) -> str:
    found = MigrationContext.configure(connection).get_current_revision() or ""
    connection.rollback()  # the question opened a transaction
    return found


def _scripts(service: str) -> ScriptDirectory:
    folder = Path(perron.chassis.__path__[0]).parent / service / "migrations"
    if not (folder / "versions").is_dir():
        raise SetupError(f"{service} has no store to migrate")
    return ScriptDirectory(str(folder))


def _engine(url: str) -> Engine:
    parsed = sqlalchemy.make_url(url)
    backend = parsed.get_backend_name()
    if backend == "postgresql":
        return sqlalchemy.create_engine(
            parsed.set(drivername="postgresql+psycopg"), poolclass=NullPool, hide_parameters=True
        )
    if backend != "sqlite":
        raise SetupError(f"database URL: {backend} is not supported; use sqlite:///path or postgresql://…")
    if parsed.database:
        Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
    engine = sqlalchemy.create_engine(parsed, poolclass=NullPool, hide_parameters=True)

    @event.listens_for(engine, "connect")
    def connect(connection: Any, _record: object) -> None:
        connection.isolation_level = None
        connection.execute("PRAGMA journal_mode=WAL")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


@contextmanager
def _lock(engine: Engine) -> Iterator[None]:
    """Keeps other migrations out; on SQLite also the service itself."""
    if engine.dialect.name == "postgresql":
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql(f"SELECT pg_advisory_lock({_LOCK_KEY})")
            yield  # the lock ends with its connection
        return
    with Path(f"{engine.url.database}.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise SetupError(
                f"database {engine.url.database}: another process serves or migrates it"
            ) from None
        yield
