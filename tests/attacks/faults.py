"""Faults to inject into a running suite, and what is asked of it meanwhile."""

import os
import resource
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy

from perron.api.admission.v1 import admission_service_pb2 as admission
from perron.api.common.v1 import roles_pb2
from perron.chassis.testing import POSTGRES_URL
from tests.attacks.things import MODEL
from tests.attacks.wire import Answer, named
from tests.attacks.world import World

RECOVERY_SECONDS = 15.0
PATIENCE_SECONDS = 12.0
"""A deadline beyond every time-out inside the suite."""


def admit(world: World, timeout: float = PATIENCE_SECONDS, *, through: str = "") -> Answer:
    """Asks for an admission, which needs identity, quotas and governance, and takes whatever comes.

    Where it shall go `through` agents it names an agent, and through finetuning a model.
    """
    names = {"agents": "agent_id", "finetuning": "model_name"}
    request = admission.AdmitRequest(
        credential=world.tenant.admin.secret,
        model=world.tenant.ids[names[through]] if through in names else MODEL,
        estimated_tokens=10,
        channel=roles_pb2.CHANNEL_API,
    )
    return world.wire.call(
        named("AdmissionService.Admit"), request, world.services["gateway"].secret, timeout=timeout
    )


def eventually(asked: Callable[[], Answer]) -> Answer:
    """The first good answer, or the last one when patience ends."""
    end = time.monotonic() + RECOVERY_SECONDS
    answer = asked()
    while answer.code != "OK" and time.monotonic() < end:
        time.sleep(0.05)
        answer = asked()
    return answer


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Somebody else writes to a store and does not end."""
    connection = sqlite3.connect(path, isolation_level=None, timeout=10)
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        connection.execute("ROLLBACK")
        connection.close()


@contextmanager
def full(pid: int, path: Path) -> Iterator[None]:
    """No file of a process grows any more, as on a full disk."""
    written = [candidate.stat().st_size for candidate in path.parent.glob(f"{path.name}*")]
    before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (min(written), before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, before)


def database_of(service: str) -> str:
    """The name of a service's database, one for each process that runs tests."""
    return f"perron_faults_{os.environ.get('PYTEST_XDIST_WORKER', 'main')}_{service}"


@contextmanager
def gone(database: str) -> Iterator[None]:
    """A PostgreSQL drops every connection to a database and takes no new ones."""
    engine = sqlalchemy.create_engine(
        sqlalchemy.make_url(os.environ[POSTGRES_URL]).set(drivername="postgresql+psycopg")
    )
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql(f"ALTER DATABASE {database} ALLOW_CONNECTIONS false")
        try:
            query = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s"
            connection.exec_driver_sql(query, (database,))
            yield
        finally:
            connection.exec_driver_sql(f"ALTER DATABASE {database} ALLOW_CONNECTIONS true")
    engine.dispose()


def integrity(path: Path) -> str:
    """What SQLite says of a store's file."""
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        return str(connection.execute("PRAGMA integrity_check").fetchone()[0])
    finally:
        connection.close()
