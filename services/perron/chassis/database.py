"""One store, one transaction idiom, one thread hop.

`await database.write(work)` runs `work(tx)` from begin to commit in a worker thread; `database.read(work)`
the same on a snapshot. `work` is plain synchronous code and may be run again after a deadlock, so its only
effects are SQL. A cancelled caller leaves; the transaction ends whole all the same. SQLite has one writer
thread, because it has one writer; an idle writer costs nothing, and callers that meet here are batched
before they come.

What a newcomer gets wrong: a deferred SQLite transaction that reads, then writes, fails at once with
BUSY_SNAPSHOT whatever the time-out says. Writers therefore start with BEGIN IMMEDIATE.
"""

from __future__ import annotations

import asyncio
import fcntl
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

import sqlalchemy
from sqlalchemy import event
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.pool import QueuePool

from perron.chassis import telemetry
from perron.chassis.errors import SetupError, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sqlalchemy import Connection, CursorResult, Engine, Executable

    from perron.chassis.clock import Clock

__all__ = ["Database", "Dialect", "Transaction"]

T = TypeVar("T")
Dialect = Literal["sqlite", "postgresql"]

_READERS: Final = 4
_ATTEMPTS: Final = 4
_RETRIED_STATES: Final = frozenset({"40001", "40P01"})  # serialization failure, deadlock
_POSTGRESQL_NOW: Final = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
_POSTGRESQL_BEGAN: Final = "SELECT (extract(epoch FROM transaction_timestamp()) * 1000000)::bigint"
_PRAGMAS: Final = (
    "journal_mode=WAL",
    "synchronous=FULL",
    "foreign_keys=ON",
    "secure_delete=ON",
    "temp_store=MEMORY",
    "busy_timeout=5000",
    "cache_size=-16384",
)


_MAPPED_BYTES_MAX: Final = 512 * 1024 * 1024
"""How much of a SQLite file readers map: in a store beyond their caches, most of a small read is copying.

Mapped pages are the kernel's own cache, shared by the readers and given back where memory is short, though
they count as resident. They are never written through: a process that is killed leaves the file as without
them. What changes is a disk that cannot be read: instead of one call answered UNAVAILABLE the process ends.
"""


class Transaction:
    """One open transaction: what `work` gets, for as long as it runs."""

    __slots__ = ("_after", "_before", "_clock", "connection", "dialect")

    def __init__(self, connection: Connection, dialect: Dialect, clock: Clock | None) -> None:
        self.connection = connection
        self.dialect: Dialect = dialect
        self._clock = clock
        self._before: list[Callable[[], None]] = []
        self._after: list[Callable[[], None]] = []

    def execute(self, statement: Executable, parameters: Any = None) -> CursorResult[Any]:
        """Run one statement of SQLAlchemy Core; a list of parameters runs it once for each."""
        return self.connection.execute(statement, parameters)

    def driver_execute(
        self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] | None = None
    ) -> CursorResult[Any]:
        """Run SQL as the driver takes it, at a third of a Core statement's cost; for hot paths only."""
        return self.connection.exec_driver_sql(sql, parameters)

    def now_us(self) -> int:
        """The store's time in microseconds since 1970 UTC, read now and not at the transaction's start."""
        if self._clock is not None:
            return self._clock.now_us()
        if self.dialect == "sqlite":  # the store is this process
            return time.time_ns() // 1000
        return int(self.connection.exec_driver_sql(_POSTGRESQL_NOW).scalar_one())

    def began_us(self) -> int:
        """An instant not later than anything this transaction reads; call it before the first statement."""
        if self._clock is not None or self.dialect == "sqlite":
            return self.now_us()
        return int(self.connection.exec_driver_sql(_POSTGRESQL_BEGAN).scalar_one())

    def before_commit(self, callback: Callable[[], None]) -> None:
        """Run `callback` last in the transaction, after `work` has returned."""
        self._before.append(callback)

    def after_commit(self, callback: Callable[[], None]) -> None:
        """Run `callback` in the event loop once the transaction is durable; never after a rollback."""
        self._after.append(callback)

    def finish(self) -> list[Callable[[], None]]:
        """Run what was to be run last; return what is to be run after the commit."""
        for callback in self._before:
            callback()
        return self._after


class _Threads:
    """Threads of which the first that has least to do is taken.

    Each has a connection of its own, with its own pages and prepared statements: while calls come one after
    the other, one of them stays warm. A pool wakes whichever has slept longest.
    """

    def __init__(self, count: int, name: str) -> None:
        self._pools = [
            ThreadPoolExecutor(1, thread_name_prefix=f"{name}_{number}") for number in range(count)
        ]
        self._waiting = [0] * count

    def run(self, work: Callable[..., T], *arguments: object) -> asyncio.Future[T]:
        """Run `work` in one of them; call this in the event loop."""
        place = self._waiting.index(min(self._waiting))
        future = asyncio.get_running_loop().run_in_executor(self._pools[place], work, *arguments)
        self._waiting[place] += 1
        future.add_done_callback(lambda _: self._done(place))
        return future

    def shutdown(self) -> None:
        """Wait until all is done."""
        for pool in self._pools:
            pool.shutdown(wait=True)

    def _done(self, place: int) -> None:
        self._waiting[place] -= 1


class Database:
    """The store of one service: SQLite by path, PostgreSQL by URL.

    `clock` replaces the store's own time in tests. Raises SetupError for a URL of another kind.
    """

    def __init__(self, url: str, *, clock: Clock | None = None) -> None:
        self._url = sqlalchemy.make_url(url)
        self._clock = clock
        backend = self._url.get_backend_name()
        if backend not in {"sqlite", "postgresql"}:
            message = f"database URL: {backend} is not supported; use sqlite:///path or postgresql://…"
            raise SetupError(message)
        self.dialect: Dialect = "sqlite" if backend == "sqlite" else "postgresql"
        self._lock_file: Any = None
        self._hops: set[asyncio.Future[Any]] = set()
        writers = 1 if self.dialect == "sqlite" else _READERS
        self._write_engine = self._engine(writers, read_only=False)
        self._read_engine = self._engine(_READERS, read_only=True)
        self._own = threading.local()
        self._connections: list[Connection] = []
        self._writers = _Threads(writers, "write")
        self._readers = _Threads(_READERS, "read")

    async def write(self, work: Callable[[Transaction], T]) -> T:
        """Run `work` in one read-write transaction and return its result once it is durable.

        Raises what `work` raises, after a rollback; Unavailable (STORE_UNAVAILABLE) where the store cannot
        be reached, is full or read-only.
        """
        with telemetry.database_span("write", self.dialect):
            return await self._hop(self._writers, self._write_engine, work)

    async def read(self, work: Callable[[Transaction], T]) -> T:
        """Run `work` on one consistent snapshot; a write in it fails. Raises as `write` does."""
        with telemetry.database_span("read", self.dialect):
            return await self._hop(self._readers, self._read_engine, work)

    def lock(self) -> None:
        """Claim a SQLite store for this process. Raises SetupError where another process serves it."""
        if self.dialect != "sqlite" or self._lock_file is not None or not self._url.database:
            return
        path = Path(f"{self._url.database}.lock")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle = path.open("w")
        except OSError as error:
            message = f"database {self._url.database}: {error.strerror}"
            raise SetupError(message) from None
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            handle.close()
            message = f"database {self._url.database}: another process serves it; replicas need PostgreSQL"
            raise SetupError(message) from None
        self._lock_file = handle

    async def checkpoint(self) -> bool:
        """Empty the write-ahead log into the file and truncate it; False where a reader was in the way."""
        if self.dialect != "sqlite":
            return True
        return await self._writers.run(self._truncate)

    async def aclose(self) -> None:
        """Wait for running transactions, then close every connection."""
        while self._hops:
            await asyncio.wait(self._hops)
        for pool in (self._writers, self._readers):
            pool.shutdown()
        while self._connections:
            self._connections.pop().close()
        self._write_engine.dispose()
        self._read_engine.dispose()
        if self._lock_file is not None:
            self._lock_file.close()
            self._lock_file = None

    async def _hop(self, pool: _Threads, engine: Engine, work: Callable[[Transaction], T]) -> T:
        future: asyncio.Future[tuple[T, list[Callable[[], None]]]] = pool.run(self._run, engine, work)
        self._hops.add(future)
        future.add_done_callback(self._landed)
        result, _ = await asyncio.shield(future)
        return result

    def _landed(self, future: asyncio.Future[Any]) -> None:
        """Tell who wanted to know; here and not at the caller, who may have left."""
        self._hops.discard(future)
        if future.cancelled() or future.exception() is not None:
            return
        _, after = future.result()
        for callback in after:
            callback()

    def _run(self, engine: Engine, work: Callable[[Transaction], T]) -> tuple[T, list[Callable[[], None]]]:
        for _ in range(_ATTEMPTS):
            is_ending = False  # once it is, nobody knows whether a lost connection took the work along
            try:
                connection = self._connection(engine)
                with connection.begin():
                    tx = Transaction(connection, self.dialect, self._clock)
                    result = work(tx)
                    after = tx.finish()
                    is_ending = True
                return result, after
            except DBAPIError as error:
                if is_ending or error.connection_invalidated:
                    # A connection whose COMMIT has failed is still within its transaction.
                    self._drop_connection()
                if error.connection_invalidated and not is_ending:
                    continue
                if getattr(error.orig, "sqlstate", None) in _RETRIED_STATES:
                    continue
                if not isinstance(error, OperationalError | InterfaceError):
                    raise _without_values(error) from None
                break
        raise _unavailable()

    def _connection(self, engine: Engine) -> Connection:
        """The connection of this thread, kept open: taking one from a pool costs as much as a small read."""
        connection: Connection | None = getattr(self._own, "connection", None)
        if connection is None:
            connection = self._own.connection = engine.connect()
            self._connections.append(connection)
        return connection

    def _drop_connection(self) -> None:
        """Let go of a connection that is gone; the next transaction of this thread opens another."""
        connection: Connection | None = getattr(self._own, "connection", None)
        if connection is not None:
            del self._own.connection
            self._connections.remove(connection)
            connection.close()

    def _truncate(self) -> bool:
        driver: Any = self._connection(self._write_engine).connection.driver_connection
        driver.execute("PRAGMA busy_timeout=100")
        busy, _, _ = driver.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        driver.execute("PRAGMA busy_timeout=5000")
        return not busy

    def _engine(self, connections: int, *, read_only: bool) -> Engine:
        url = self._url
        options: dict[str, Any] = {}
        if self.dialect == "sqlite":
            options = {"connect_args": {"check_same_thread": False, "cached_statements": 256}}
        else:
            url = url.set(drivername="postgresql+psycopg")
            options = {
                "connect_args": {
                    "connect_timeout": 5,
                    "options": "-c statement_timeout=10000 -c lock_timeout=5000",
                },
                "isolation_level": "REPEATABLE READ" if read_only else "READ COMMITTED",
            }
        engine = sqlalchemy.create_engine(
            url,
            poolclass=QueuePool,
            pool_size=connections,
            max_overflow=0,
            pool_timeout=5,
            hide_parameters=True,
            **options,
        )
        if self.dialect == "sqlite":
            _prepare_sqlite(engine, read_only=read_only)
        return engine


def _prepare_sqlite(engine: Engine, *, read_only: bool) -> None:
    begin = "BEGIN" if read_only else "BEGIN IMMEDIATE"

    @event.listens_for(engine, "connect")
    def connect(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # the driver's own BEGIN is deferred: off
        for pragma in _PRAGMAS:
            connection.execute(f"PRAGMA {pragma}")
        if read_only:
            connection.execute("PRAGMA query_only=ON")
            connection.execute(f"PRAGMA mmap_size={_MAPPED_BYTES_MAX}")

    @event.listens_for(engine, "begin")
    def start(connection: Connection) -> None:
        connection.exec_driver_sql(begin)


def _without_values(error: DBAPIError) -> DBAPIError:
    """The error without PostgreSQL's DETAIL, which quotes the values of the offending row."""
    error.args = tuple(str(part).split("\nDETAIL", 1)[0] for part in error.args)
    return error


def _unavailable() -> Unavailable:
    return Unavailable("STORE_UNAVAILABLE", "the store of this service cannot be reached or written to")
