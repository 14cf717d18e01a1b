"""Leases: periodic work has one holder at a time, whichever replica that is.

A lease is a row. What a newcomer gets wrong: holding one proves nothing a moment later, for its holder may
have been stopped for a minute without noticing. So the work's own transaction fences itself: it renews the
row under its fencing token, and where another has taken over it fails and nothing of it happens.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, NoReturn

from sqlalchemy import text

from perron.chassis import telemetry
from perron.chassis.database import Database, Transaction
from perron.chassis.errors import PerronError
from perron.chassis.ids import new_id

TTL: Final = timedelta(seconds=15)

_log = telemetry.logger("leases")
_ACQUIRE: Final = text(
    "INSERT INTO leases (name, holder, token, expire_time) VALUES (:name, :holder, 1, :expire_time) "
    "ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, token = leases.token + 1, "
    "expire_time = excluded.expire_time WHERE leases.expire_time <= :now OR leases.holder = excluded.holder "
    "RETURNING token"
)
_FENCE: Final = text(
    "UPDATE leases SET expire_time = :expire_time WHERE name = :name AND token = :token AND holder = :holder"
)
_RELEASE: Final = text(
    "UPDATE leases SET expire_time = 0, holder = '' "
    "WHERE name = :name AND token = :token AND holder = :holder"
)


class LeaseLostError(Exception):
    """Another holder has taken the lease; the transaction that was fenced with it is rolled back."""


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to do the work of a name, until another token is given out."""

    name: str
    holder: str
    token: int
    ttl_us: int

    def fence(self, tx: Transaction) -> None:
        """Renews the lease within the work's own transaction; raises LeaseLostError where it is another's.

        First statement of the transaction: the row's lock then keeps any other holder out until the commit.
        """
        renewed = tx.execute(_FENCE, self._key() | {"expire_time": tx.now_us() + self.ttl_us})
        if not renewed.rowcount:
            raise LeaseLostError(self.name)

    def release(self, tx: Transaction) -> None:
        """Gives the lease up, so that the next holder need not wait for its end."""
        tx.execute(_RELEASE, self._key())

    def _key(self) -> dict[str, str | int]:
        return {"name": self.name, "token": self.token, "holder": self.holder}


class Leases:
    """Takes leases in one store, in the name of one process."""

    def __init__(self, database: Database, *, holder: str = "", ttl: timedelta = TTL) -> None:
        self._database = database
        self._holder = holder or new_id("proc")
        self._ttl_us = ttl // timedelta(microseconds=1)

    async def acquire(self, name: str) -> Lease | None:
        """Takes the lease if it is free or overdue by the store's time; else returns None."""
        return await self._database.write(lambda tx: self._acquire(tx, name))

    async def release(self, lease: Lease) -> None:
        """Gives a lease up."""
        await self._database.write(lease.release)

    async def run(self, name: str, interval: timedelta, work: Callable[[Transaction], object]) -> NoReturn:
        """Does `work` every `interval` while this process holds the lease `name`; ends only by cancellation.

        `work` is one short transaction, of at most 500 rows; if it returns True there is more to do, and it
        runs again after the writes that wait. A failure is logged and tried again after the interval.
        """
        await self.run_asking(name, interval, lambda lease: self._database.write(_fenced(lease, work)))

    async def run_asking(
        self, name: str, interval: timedelta, work: Callable[[Lease], Awaitable[object]]
    ) -> NoReturn:
        """Does what `run` does, for work that asks other services between its transactions.

        Each write transaction of `work` begins with `lease.fence(tx)`.
        """
        seconds = interval.total_seconds()
        lease: Lease | None = None
        try:
            while True:
                more = False
                try:
                    lease = lease or await self.acquire(name)
                    if lease is not None:
                        more = await work(lease) is True
                except LeaseLostError:
                    lease = None
                except Exception as error:  # noqa: BLE001 (one failure must not end the work of all days)
                    _log.warning("periodic work failed", work=name, reason=_reason(error))
                # Replicas that started together should not ask together.
                await asyncio.sleep(0 if more else seconds * random.uniform(0.9, 1.1))  # noqa: S311 (no secret)
        finally:
            if lease is not None:
                await self._let_go(lease)

    async def _let_go(self, lease: Lease) -> None:
        try:
            await self.release(lease)
        except PerronError as error:
            _log.warning("lease not released; it runs out by itself", work=lease.name, reason=error.reason)

    def _acquire(self, tx: Transaction, name: str) -> Lease | None:
        now = tx.now_us()
        token = tx.execute(
            _ACQUIRE,
            {"name": name, "holder": self._holder, "now": now, "expire_time": now + self._ttl_us},
        ).scalar()
        return Lease(name, self._holder, token, self._ttl_us) if token is not None else None


def _fenced(lease: Lease, work: Callable[[Transaction], object]) -> Callable[[Transaction], object]:
    def fenced(tx: Transaction) -> object:
        lease.fence(tx)
        return work(tx)

    return fenced


def _reason(error: Exception) -> str:
    # The text of a foreign exception may hold content; its type does not.
    return error.reason if isinstance(error, PerronError) else type(error).__name__
