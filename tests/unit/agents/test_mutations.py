"""Every change is audited and told in its own transaction, once, and a change of nothing is neither."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from perron.agents import aliases, availability, convert, naming, reserved_names, tables
from perron.agents.agents import Agents, CreateCommand, UpdateCommand
from perron.agents.aliases import Target
from perron.agents.model import Agent, Occasion, Source, SourceKind
from perron.agents.name_store import NameStore
from perron.agents.versions import Versions
from perron.agents.visibility import Channel
from perron.api.agents.v1.configuration_pb2 import AgentConfiguration
from perron.chassis import tombstones
from perron.chassis.database import Database
from perron.chassis.errors import NotFound
from perron.chassis.idempotency import IdempotentRequest
from perron.chassis.ids import new_id
from perron.chassis.interceptors.access import Call
from perron.chassis.testing import BOTH, customer_call
from tests.unit.agents.workshop import ORGANIZATION, OWNER, WORKSPACE, Workshop, person

each_store = pytest.mark.parametrize("database", BOTH, indirect=True)
Mutation = Callable[[NameStore, Call, Agent, Agents], object]


def configured(**fields: Any) -> Any:
    return convert.configuration(AgentConfiguration(model="small", **fields))


def create(store: NameStore, call: Call, _agent: Agent, agents: Agents) -> object:
    command = CreateCommand(
        organization_id=ORGANIZATION,
        workspace_id=WORKSPACE,
        owner_member_id=OWNER,
        author=person(OWNER),
        name=naming.agent_name("Support", is_attested=True),
        occasion=Occasion.CREATE,
        configuration=configured(),
        source=Source(SourceKind.BUILDER),
    )
    return agents.create(store, call, command, "dec")


def update(**fields: Any) -> Mutation:
    return lambda store, call, agent, agents: agents.update(
        store, call, person(OWNER, is_admin=True), UpdateCommand(agent.agent_id, "", **fields), "dec"
    )


def delete(store: NameStore, call: Call, agent: Agent, agents: Agents) -> object:
    return agents.delete(store, call, person(OWNER), agent.agent_id, "", may_erase=True)


def publish(store: NameStore, call: Call, agent: Agent, _agents: Agents) -> object:
    return availability.publish(store, call, person(OWNER), agent.agent_id, Channel.CHAT, "")


def unpublish(store: NameStore, call: Call, agent: Agent, _agents: Agents) -> object:
    return availability.unpublish(store, call, person(OWNER), agent.agent_id, Channel.API, "")


def disable(store: NameStore, call: Call, agent: Agent, _agents: Agents) -> object:
    return availability.disable(store, call, ORGANIZATION, agent.agent_id, "why")


def make_alias(store: NameStore, call: Call, agent: Agent, _agents: Agents) -> object:
    name = naming.alias("fresh", is_attested=True)
    return aliases.create(store, call, person(OWNER), name, Target(agent.agent_id, 0))


def move_alias(store: NameStore, call: Call, agent: Agent, _agents: Agents) -> object:
    return aliases.move(store, call, person(OWNER), "there", Target(agent.agent_id, 1), "")


def delete_alias(store: NameStore, call: Call, _agent: Agent, _agents: Agents) -> object:
    aliases.delete(store, call, person(OWNER), "there", "")
    return None


MUTATIONS: dict[str, tuple[Mutation, list[str]]] = {
    "create": (create, ["agent.created"]),
    "version": (update(configuration=configured(instructions="two")), ["agent.versioned"]),
    "rename": (update(name=naming.agent_name("Sales", is_attested=True)), ["agent.updated"]),
    "hand on": (update(owner_member_id="mem_00000000000000000000000009"), ["agent.updated"]),
    "delete": (delete, ["agent.deleted", "agent.erased"]),
    "publish": (publish, ["agent.published"]),
    "unpublish": (unpublish, ["agent.unpublished"]),
    "disable": (disable, ["agent.disabled"]),
    "make alias": (make_alias, ["alias.created"]),
    "move alias": (move_alias, ["alias.moved"]),
    "delete alias": (delete_alias, ["alias.deleted"]),
}
each_mutation = pytest.mark.parametrize("name", MUTATIONS)


class Scene:
    """One agent, published to the API, and an alias of it."""

    def __init__(self, database: Database, folder: Path) -> None:
        self.database = database
        self.workshop = Workshop(database, folder)
        self.agents = Agents(Versions(self.workshop.seals), new_id)

    async def change(self, name: str) -> tuple[object, object]:
        agent = await self.workshop.make(channels=frozenset({Channel.API}))
        await self.workshop.alias("there", agent)
        identity = IdempotentRequest("key", name, b"0123456789abcdef", b"digest")
        call = customer_call(identity=identity)
        mutation = MUTATIONS[name][0]

        def work(tx: Any) -> object:
            return mutation(NameStore(tx), call, agent, self.agents)

        first = await self.database.write(work)
        return first, await self.database.write(work)

    async def told(self) -> tuple[list[str], int]:
        """Returns the kinds of the events, and how many entries the audit has."""
        events, entries = tables.chassis_tables.events, tables.chassis_tables.audit_entries
        return await self.database.read(
            lambda tx: (
                [row.kind for row in tx.execute(select(events.c.kind).order_by(events.c.number))],
                len(tx.execute(select(entries.c.number)).all()),
            )
        )


@pytest.fixture
def scene(database: Database, tmp_path: Path) -> Scene:
    return Scene(database, tmp_path)


@each_store
@each_mutation
async def test_a_change_is_audited_and_told_once_also_when_it_is_sent_again(scene: Scene, name: str) -> None:
    first, again = await scene.change(name)
    assert first == again
    assert await scene.told() == (MUTATIONS[name][1], 1)


@each_mutation
async def test_nothing_is_changed_for_a_workspace_that_is_no_more(scene: Scene, name: str) -> None:
    await scene.database.write(
        lambda tx: tombstones.bury(tx, organization_id=ORGANIZATION, workspace_id=WORKSPACE)
    )
    with pytest.raises(NotFound):
        await scene.change(name)
    assert await scene.told() == ([], 0)


async def test_a_change_of_nothing_is_neither_audited_nor_told(scene: Scene) -> None:
    agent = await scene.workshop.make()
    same = await scene.database.write(lambda tx: publish(NameStore(tx), customer_call(), agent, scene.agents))
    assert same == agent
    assert await scene.told() == ([], 0)


@each_store
async def test_the_list_of_reserved_names_is_audited_and_takes_the_same_name_once(scene: Scene) -> None:
    for names, size in ((("Acme", "ACME"), 1), (("Acme", "Zeta"), 2)):

        def work(tx: Any, names: tuple[str, ...] = names) -> int:
            return reserved_names.change(NameStore(tx), customer_call(), names, ())

        assert await scene.database.write(work) == size
    assert await scene.told() == ([], 2)
