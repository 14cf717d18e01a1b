"""Seals: a record's content under a data key of its own, the data key under the key of the record's epoch.

So one small file decides over many records, and content is never touched when they change hands. The key
comes first, then the row: a row whose key was lost in a crash would be lost with it, a key without rows harms
nobody.
"""

import secrets
from collections.abc import Collection
from dataclasses import dataclass, field

from perron.chassis import telemetry
from perron.chassis.sealing import new_key, open_sealed, seal, unwrap, wrap
from perron.chassis.vault import Vault
from perron.governance.model import Record, SealedContent
from perron.governance.record_store import EpochKey, RecordStore

_log = telemetry.logger("seals")


@dataclass(frozen=True, slots=True)
class OpenEpoch:
    """An epoch that takes records, with its key for the length of one batch."""

    epoch: str
    key: bytes = field(repr=False)


class Seals:
    """Seals and opens content with keys of the vault."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault

    def open_epochs(self, store: RecordStore, wanted: Collection[EpochKey]) -> dict[EpochKey, OpenEpoch]:
        """Returns the open epoch of each key, begun now where there is none; open until the commit."""
        return {key: self._open(store, key, epoch) for key, epoch in self._begun(store, wanted).items()}

    def seal(self, epoch: OpenEpoch, record: Record, given: bytes, answered: bytes) -> SealedContent:
        """Seals the input and output of a record."""
        data_key = new_key()
        bound = _bound_to(record)
        framed = len(given).to_bytes(4, "big") + given + answered
        return SealedContent(wrap(epoch.key, data_key, bound), seal(data_key, framed, bound))

    def open(self, record: Record, content: SealedContent) -> tuple[bytes, bytes] | None:
        """Returns input and output of a record; None where the key of its epoch was dropped."""
        key = self._vault.read(record.epoch)
        if key is None:
            return None
        bound = _bound_to(record)
        framed = open_sealed(unwrap(key, content.wrapped_key, bound), content.sealed, bound)
        end = 4 + int.from_bytes(framed[:4], "big")
        return framed[4:end], framed[end:]

    def _begun(self, store: RecordStore, wanted: Collection[EpochKey]) -> dict[EpochKey, str]:
        found = store.open_epochs(wanted)
        for key in sorted(set(wanted) - found.keys()):
            epoch = secrets.token_hex(16)
            self._vault.create(epoch)
            if not store.insert_epoch(key, epoch):  # another replica was faster; its key is the one
                self._vault.drop([epoch])
        return found if len(found) == len(set(wanted)) else store.open_epochs(wanted)

    def _open(self, store: RecordStore, key: EpochKey, epoch: str) -> OpenEpoch:
        found = self._vault.read(epoch)
        if found is not None:
            return OpenEpoch(epoch, found)
        # The vault is older or emptier than the database, as after a restore: what it sealed cannot be read
        # until the key is back, if it ever is; new content is not lost.
        _log.error("the vault lacks the key of an epoch that takes records", epoch=epoch)
        store.abandon_epoch(epoch)
        return self._open(store, key, self._begun(store, [key])[key])


def _bound_to(record: Record) -> bytes:
    return record.ruling.organization_id.encode() + b"\0" + record.record
