"""Seals: a configuration under a data key of its own, the data key under the key of the workspace.

So an agent is forgotten by forgetting one small key, and a workspace by forgetting one more. A key comes
before its row: a row whose key was lost in a crash would be lost with it, a key without rows harms nobody.
"""

import secrets
from collections.abc import Sequence

from perron.agents import errors
from perron.agents.model import Sealed, Version
from perron.agents.version_store import VersionStore
from perron.chassis import telemetry
from perron.chassis.errors import Unavailable
from perron.chassis.sealing import SealBrokenError, new_key, open_sealed, seal, unwrap, wrap
from perron.chassis.vault import Vault

_log = telemetry.logger("seals")


class Seals:
    """Seals and opens configurations with keys of the vault."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault

    def seal(self, store: VersionStore, workspace_id: str, version: Version, configuration: bytes) -> Sealed:
        """Seals a configuration under the workspace's key; the workspace is held."""
        key_id, key = self.current(store, workspace_id)
        data_key = new_key()
        bound = bound_to(version.agent_id, version.version)
        return Sealed(key_id, wrap(key, data_key, bound), seal(data_key, configuration, bound))

    def open(self, version: Version, sealed: Sealed) -> bytes:
        """Returns a configuration as it was written. Raises Unavailable where its key is not at hand."""
        (found,) = self.open_all([(version.agent_id, version.version, sealed)])
        if isinstance(found, Unavailable):
            raise found
        return found

    def open_all(self, wanted: Sequence[tuple[str, int, Sealed]]) -> list[bytes | Unavailable]:
        """Opens (agent, version, sealed) each, and reads every key of the vault once.

        What has no key at hand is refused by itself, among the others that are opened.
        """
        keys = {key_id: self._vault.read(key_id) for key_id in {sealed.key_id for _, _, sealed in wanted}}
        return [
            _opened(keys[sealed.key_id], bound_to(agent_id, version), sealed)
            for agent_id, version, sealed in wanted
        ]

    def move(self, store: VersionStore, workspace_id: str, key_id: str, rows_max: int) -> None:
        """Wraps data keys of a retired key under the workspace's current one; the workspace is held.

        With none left the key is marked to be dropped.
        """
        rows = store.wrapped_under(key_id, rows_max)
        if not rows:
            store.move_key(key_id, "DROPPING")
            return
        old = self._vault.read(key_id)
        if old is None:
            _log.error("the vault lacks a key that is to be exchanged", key=key_id)
            store.move_key(key_id, "LOST")
            return
        new_id, new = self.current(store, workspace_id)
        try:
            moved = [_moved(old, new, *row) for row in rows]
        except SealBrokenError:  # one damaged row must not keep every other workspace's keys from going
            _log.error("a data key does not open under the key that it names", key=key_id)
            store.move_key(key_id, "LOST")
            return
        store.rewrap(new_id, moved)

    def current(self, store: VersionStore, workspace_id: str) -> tuple[str, bytes]:
        """Returns id and key that seal for a workspace, drawn now where there are none; it is held."""
        key_id = store.current_key(workspace_id)
        key = self._vault.read(key_id) if key_id is not None else None
        if key_id is not None and key is not None:
            return key_id, key
        if key_id is not None:
            # The vault is older or emptier than the database, as after a restore: what the key sealed cannot
            # be read until it is back, if it ever is; what is written now is not lost.
            _log.error("the vault lacks the key of a workspace", key=key_id)
            store.move_key(key_id, "LOST")
        key_id = secrets.token_hex(16)
        key = self._vault.create(key_id)
        store.insert_key(workspace_id, key_id)
        return key_id, key


def bound_to(agent_id: str, version: int) -> bytes:
    """Returns what a configuration and its data key are bound to: the row that they stand in."""
    return f"{agent_id}\0{version}".encode()


def _moved(old: bytes, new: bytes, agent_id: str, version: int, wrapped: bytes) -> tuple[str, int, bytes]:
    bound = bound_to(agent_id, version)
    return agent_id, version, wrap(new, unwrap(old, wrapped, bound), bound)


def _opened(key: bytes | None, bound: bytes, sealed: Sealed) -> bytes | Unavailable:
    if key is None:
        _log.error("the vault lacks the key of a configuration", key=sealed.key_id)
        return errors.key_missing()
    return open_sealed(unwrap(key, sealed.wrapped_key, bound), sealed.content, bound)
