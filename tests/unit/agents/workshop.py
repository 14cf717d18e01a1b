"""Agents put into a store as they would stand there, for tests of what is read and followed."""

import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from perron.agents import tables
from perron.agents.model import Agent, AgentState, Attestation, Occasion, Source, SourceKind, Version
from perron.agents.seals import Seals
from perron.agents.sharing_store import SharingStore
from perron.agents.version_store import VersionStore
from perron.agents.visibility import Channel, Entitlements, Person, SharingMode
from perron.api.agents.v1.configuration_pb2 import AgentConfiguration
from perron.chassis.database import Database, Transaction
from perron.chassis.ids import new_id
from perron.chassis.vault import Vault

ORGANIZATION = "org_00000000000000000000000001"
WORKSPACE, ELSEWHERE = "ws_00000000000000000000000001", "ws_00000000000000000000000002"
OWNER, NAMED, OTHER = (f"mem_0000000000000000000000000{number}" for number in (1, 2, 3))
EVERYTHING = Entitlements(sharing=True, channels=frozenset(Channel))


def person(
    member_id: str = OTHER,
    *,
    is_admin: bool = False,
    entitlements: Entitlements = EVERYTHING,
    workspace_id: str = WORKSPACE,
) -> Person:
    return Person(ORGANIZATION, workspace_id, member_id, is_admin, entitlements)


class Workshop:
    """Makes agents in one store."""

    def __init__(self, database: Database, folder: Path) -> None:
        self.database = database
        self.vault = Vault(folder / "vault", b"r" * 32)
        self.seals = Seals(self.vault)

    async def make(self, versions: int = 1, **fields: Any) -> Agent:
        """Makes an agent of that many versions, owned by OWNER, shared with the workspace."""
        return await self.database.write(lambda tx: self._make(tx, versions, **fields))

    def _make(
        self,
        tx: Transaction,
        versions: int,
        *,
        workspace_id: str = WORKSPACE,
        owner_member_id: str = OWNER,
        mode: SharingMode = SharingMode.WORKSPACE,
        named: Sequence[str] = (),
        channels: frozenset[Channel] = frozenset(Channel),
        state: AgentState = AgentState.ACTIVE,
        model: str = "small",
        handoffs: Sequence[str] = (),
        third_parties: tuple[str, ...] = (),
        instructions: str = "be brief",
    ) -> Agent:
        store = SharingStore(tx)
        store.hold_workspace(ORGANIZATION, workspace_id)
        name = secrets.token_hex(8)
        agent = Agent(
            agent_id=new_id("agt"),
            organization_id=ORGANIZATION,
            workspace_id=workspace_id,
            display_name=name,
            listed_as=name,
            owner_member_id=owner_member_id,
            source=Source(SourceKind.BUILDER),
            state=state,
            disable_reason="",
            latest_version=versions,
            sharing_mode=mode,
            channels=channels,
            attestation=Attestation(owner_member_id, 1, Occasion.CREATE),
            create_us=1,
            update_us=1,
            revision=1,
        )
        store.insert_agent(agent)
        store.name_members(agent, named)
        version_store = VersionStore(tx)
        for number in range(1, versions + 1):
            version = Version(ORGANIZATION, agent.agent_id, number, owner_member_id, 1, 0, "", third_parties)
            configuration = AgentConfiguration(
                model=model, handoff_agent_ids=handoffs, instructions=f"{instructions} {number}"
            )
            version_store.insert_version(
                version,
                self.seals.seal(version_store, workspace_id, version, configuration.SerializeToString()),
            )
        return agent

    async def alias(self, name: str, agent: Agent, version: int = 0) -> None:
        """Gives an agent, or one version of it, an alias."""
        values = {"workspace_id": agent.workspace_id, "alias": name, "agent_id": agent.agent_id}
        await self.database.write(
            lambda tx: tx.execute(
                tables.aliases.insert(),
                values
                | {"version": version, "attest_member_id": OWNER, "attest_time": 1, "revision": 1}
                | {"attest_occasion": "ALIAS", "reading": name, "create_time": 1, "update_time": 1},
            )
        )
