"""Erasure: what deleted agents were told goes, and the keys that opened it; what is held stays, unreadable.

To delete an agent nulls what is sealed, with its data keys. A copy of the database, made before, still has
both: so the key of the workspace is exchanged. What lives on is wrapped under a new one, in small steps, and
then the old one leaves the vault, which is in no copy of the database.

What a newcomer gets wrong: a held agent is not left under the old key, or nothing would ever be dropped. Its
data keys move along like those of the living, and nothing reads them.
"""

from collections.abc import Sequence
from functools import partial
from typing import Final, Protocol

from perron.agents.agents import tell
from perron.agents.erasing_store import ErasingStore
from perron.agents.model import Agent, ErasureState
from perron.agents.seals import Seals
from perron.chassis.database import Database, Transaction
from perron.chassis.leases import Lease
from perron.chassis.vault import Vault

_AGENTS_MAX: Final = 128
_ROWS_MAX: Final = 500


class Holds(Protocol):
    """Who knows what must not be erased."""

    async def may_erase(self, scopes: Sequence[tuple[str, str, str]]) -> list[bool]:
        """Tells of each (organization, workspace, agent) whether nothing holds it; silence says nothing."""


class Erasure:
    """Carries out the erasures that were promised."""

    def __init__(self, database: Database, vault: Vault, seals: Seals, holds: Holds) -> None:
        self._database = database
        self._vault = vault
        self._seals = seals
        self._holds = holds

    async def start(self) -> None:
        """Drops the keys of the drop list again, as a restored vault may hold them."""
        dropped = await self._database.read(lambda tx: ErasingStore(tx).keys_in("DROPPED"))
        self._vault.drop(key_id for key_id, _ in dropped)

    async def go_on(self, lease: Lease) -> bool:
        """Does a part of what is left to do; returns whether there is more."""
        if await self._end(lease) or await self._database.write(partial(self._fenced_exchange, lease=lease)):
            return True
        return await self._ask_again(lease)

    def exchange(self, tx: Transaction) -> bool:
        """Wraps up to 500 data keys anew and drops a key that opens nothing any more; True for more to do.

        A key leaves the vault only in the step after the one that committed that nothing needs it.
        """
        store = ErasingStore(tx)
        dropping = store.keys_in("DROPPING", _ROWS_MAX)
        self._vault.drop(key_id for key_id, _ in dropping)
        for key_id, _ in dropping:
            store.move_key(key_id, "DROPPED")
        retired = store.keys_in("RETIRED", 1)
        for key_id, workspace_id in retired:
            store.wait_for_workspace(workspace_id)
            self._seals.move(store, workspace_id, key_id, _ROWS_MAX)
        return bool(retired or dropping)

    def _fenced_exchange(self, tx: Transaction, lease: Lease) -> bool:
        lease.fence(tx)
        return self.exchange(tx)

    async def _end(self, lease: Lease) -> bool:
        """Ends agents of a workspace that was deleted for good; returns whether there was one."""
        workspace_id = await self._database.read(lambda tx: ErasingStore(tx).ended_workspace())
        if workspace_id is None:
            return False
        found = await self._database.read(lambda tx: ErasingStore(tx).live_agents(workspace_id, _AGENTS_MAX))
        free = await self._holds.may_erase([_scope(agent) for agent in found])

        def end(tx: Transaction) -> None:
            lease.fence(tx)
            store = ErasingStore(tx)
            store.wait_for_workspace(workspace_id)
            alive = store.agents([agent.agent_id for agent in found])
            for agent, may_erase in zip(found, free, strict=True):
                if agent.agent_id not in alive:
                    continue
                store.end_agent(agent.agent_id, ErasureState.PENDING)
                tell(store, agent, "agent.deleted")
                if may_erase:
                    _erase(store, agent)
            if not found:
                store.forget_workspace(workspace_id)

        await self._database.write(end)
        return True

    async def _ask_again(self, lease: Lease) -> bool:
        """Erases what is no longer held; returns whether there was any."""
        after, erased = "", False
        while found := await self._database.read(partial(_pending, after=after)):
            after = found[-1].agent_id
            free = await self._holds.may_erase([_scope(agent) for agent in found])
            released = [agent for agent, may_erase in zip(found, free, strict=True) if may_erase]
            if released:
                await self._database.write(partial(_release, lease=lease, agents=released))
                erased = True
        return erased


def _pending(tx: Transaction, after: str) -> list[Agent]:
    return ErasingStore(tx).pending(after, _AGENTS_MAX)


def _release(tx: Transaction, lease: Lease, agents: Sequence[Agent]) -> None:
    lease.fence(tx)
    store = ErasingStore(tx)
    for agent in sorted(agents, key=lambda one: (one.workspace_id, one.agent_id)):
        store.wait_for_workspace(agent.workspace_id)
        if store.is_pending(agent.agent_id):
            _erase(store, agent)


def _erase(store: ErasingStore, agent: Agent) -> None:
    store.erased(agent.agent_id)
    store.erase_versions(agent.agent_id)
    store.retire_key(agent.workspace_id)
    tell(store, agent, "agent.erased")


def _scope(agent: Agent) -> tuple[str, str, str]:
    return agent.organization_id, agent.workspace_id, agent.agent_id
