"""Erasure: what is marked DROPPING loses its keys, then its rows, then their copies in the log.

The mark is the promise and is kept whatever happens after it: nothing reads through an epoch that is not
open. Whoever marked it carries it out; where they did not live to, or were interrupted, a replica that runs
goes on where they stopped.
"""

from functools import partial
from typing import Final

from perron.chassis import telemetry
from perron.chassis.database import Database, Transaction
from perron.chassis.vault import Vault
from perron.governance.record_store import RecordStore

_ROWS_PER_TRANSACTION: Final = 500
_CHECKPOINTS: Final = 10  # each waits a moment for readers in the way

_log = telemetry.logger("erasure")


class Erasure:
    """Carries out the erasures that were promised."""

    def __init__(self, database: Database, vault: Vault) -> None:
        self._database = database
        self._vault = vault

    async def start(self) -> None:
        """Drops the keys of the drop list again, as a restored vault may hold them, and goes on."""
        await self._drop_keys("DROPPED")
        await self.run()

    async def run(self) -> None:
        """Erases every epoch that is marked, its key first: from then on nothing can read its content."""
        marked = await self._drop_keys("DROPPING")
        for epoch in marked:
            while not await self._database.write(partial(_delete, epoch=epoch)):
                pass
        if marked and not await self._checkpoint():
            _log.warning("erased rows stay in the log until the next checkpoint; their keys are gone")

    def go_on(self, tx: Transaction) -> bool:
        """Goes on with erasures that were left half done, keys first; returns whether there is more to do."""
        marked = RecordStore(tx).epochs_in("DROPPING")
        self._vault.drop(marked)
        return bool(marked) and (not _delete(tx, marked[0]) or len(marked) > 1)

    async def _drop_keys(self, state: str) -> list[str]:
        def drop(tx: Transaction) -> list[str]:
            epochs = RecordStore(tx).epochs_in(state)
            self._vault.drop(epochs)
            return epochs

        return await self._database.read(drop)

    async def _checkpoint(self) -> bool:
        for _ in range(_CHECKPOINTS):
            if await self._database.checkpoint():
                return True
        return False


def _delete(tx: Transaction, epoch: str) -> bool:
    """Deletes some records of an epoch, and ends it with the last ones; returns whether it is over."""
    store = RecordStore(tx)
    if store.delete_records_of(epoch, _ROWS_PER_TRANSACTION) == _ROWS_PER_TRANSACTION:
        return False
    store.end_epoch(epoch)
    return True
