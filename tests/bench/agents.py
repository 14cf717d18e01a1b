"""The agents of every load: written through the store of agents, at a thousand times the speed of the API.

What is written is what the API would write, apart from audit, events and the readings by which new names are
compared: nothing that is measured reads them.
"""

import asyncio
import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from perron.agents.model import Agent, AgentState, Attestation, Occasion, Source, SourceKind, Version
from perron.agents.seals import Seals
from perron.agents.version_store import VersionStore
from perron.agents.visibility import Channel, SharingMode
from perron.api.agents.v1.configuration_pb2 import AgentConfiguration, CompletionArguments
from perron.chassis.database import Database, Transaction
from perron.chassis.ids import new_id
from perron.chassis.vault import Vault
from tests.bench.calls import MODEL
from tests.bench.tenants import PLACES, Place

EACH, CROWD = 100, 100_000
EVERYWHERE, FEW, CROWDED = "agents.json", "few_agents.json", "crowded_agents.json"
_INSTRUCTION_BYTES = 1024
_BLOCK = 1000
_NO_JOB = Source(SourceKind.BUILDER)


def populate(folder: Path, environment: Mapping[str, str]) -> None:
    """Gives each workspace its agents and writes their ids beside the store, workspace by workspace."""
    places = [Place(**place) for place in json.loads((folder / PLACES).read_text())]
    made = [_fill(environment, place, EACH) for place in places]
    (folder / EVERYWHERE).write_text(json.dumps(made))
    (folder / FEW).write_text(json.dumps(made[:1]))


def crowd(folder: Path, environment: Mapping[str, str]) -> None:
    """Fills the first workspace up."""
    (place, *_) = (Place(**place) for place in json.loads((folder / PLACES).read_text()))
    (present,) = json.loads((folder / FEW).read_text())
    made = _fill(environment, place, CROWD - len(present))
    (folder / CROWDED).write_text(json.dumps([present + made]))


def _fill(environment: Mapping[str, str], place: Place, size: int) -> list[str]:
    root_key = bytes.fromhex(Path(environment["PERRON_AGENTS_ROOT_KEY_FILE"]).read_text())
    seals = Seals(Vault(Path(environment["PERRON_AGENTS_VAULT_FOLDER"]), root_key))
    agent_ids = [new_id("agt") for _ in range(size)]
    asyncio.run(_write_all(environment["PERRON_AGENTS_DATABASE_URL"], seals, place, agent_ids))
    return agent_ids


async def _write_all(url: str, seals: Seals, place: Place, agent_ids: Sequence[str]) -> None:
    database = Database(url)
    try:
        for start in range(0, len(agent_ids), _BLOCK):
            await database.write(partial(_write, seals, place, agent_ids[start : start + _BLOCK]))
    finally:
        await database.aclose()


def _write(seals: Seals, place: Place, agent_ids: Sequence[str], tx: Transaction) -> None:
    store = VersionStore(tx)
    store.hold_workspace(place.organization_id, place.workspace_id)
    now_us = store.now_us()
    attestation = Attestation(place.member_id, now_us, Occasion.CREATE)
    for agent_id in agent_ids:
        name = f"Agent {agent_id[-8:]}"
        store.insert_agent(
            Agent(
                agent_id=agent_id,
                organization_id=place.organization_id,
                workspace_id=place.workspace_id,
                display_name=name,
                listed_as=name.lower(),
                owner_member_id=place.member_id,
                source=_NO_JOB,
                state=AgentState.ACTIVE,
                disable_reason="",
                latest_version=1,
                sharing_mode=SharingMode.WORKSPACE,
                channels=frozenset(Channel),
                attestation=attestation,
                create_us=now_us,
                update_us=now_us,
                revision=1,
            )
        )
        version = Version(
            organization_id=place.organization_id,
            agent_id=agent_id,
            version=1,
            author_member_id=place.member_id,
            create_us=now_us,
            restored_version=0,
            decision_id="",
            third_parties=(),
        )
        store.insert_version(version, seals.seal(store, place.workspace_id, version, _configuration(name)))


def _configuration(name: str) -> bytes:
    return AgentConfiguration(
        model=MODEL,
        description=name,
        instructions=f"You are {name}. ".ljust(_INSTRUCTION_BYTES, "."),
        completion_arguments=CompletionArguments(temperature=0.3, max_tokens=500),
    ).SerializeToString()
