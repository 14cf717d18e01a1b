"""What a workspace has costs nobody who asks for a page of it, or for one agent: counted, not timed.

SQLite's own steps are counted, so the same work is the same number on every machine.
"""

import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Table, insert, select

from perron.agents import tables
from perron.agents.list_store import Listing, ListStore, Order
from perron.agents.model import AgentState
from perron.agents.resolve_calls import read_content
from perron.agents.resolve_store import ResolveStore
from perron.agents.resolving import ResolveCommand, Resolving
from perron.agents.visibility import Channel, Person, SharingMode
from perron.chassis.database import Database, Transaction
from perron.chassis.ids import new_id
from tests import scale
from tests.unit.agents.workshop import NAMED, OTHER, OWNER, WORKSPACE, Workshop, person

FEW, MANY = 100, scale.times(3_000, 100_000)
AT_MOST = 1.3
PAGE, BATCH = 20, 32
CHUNK = 500
PEOPLE = {
    "admin": person(is_admin=True),
    "owner": person(OWNER),
    "named": person(NAMED),
    "other": person(OTHER),
    "operator": None,
}


class Grown:
    """A workspace that grows by agents of every kind, in proportion."""

    def __init__(self, database: Database, folder: Path) -> None:
        self.database = database
        self.workshop = Workshop(database, folder)
        self.size = 0

    async def to(self, size: int) -> None:
        if not self.size:
            self.sample = await self.workshop.make(handoffs=[])
        while self.size < size:
            count = min(CHUNK, size - self.size)
            await self.database.write(lambda tx: self._add(tx, count))  # noqa: B023 (used at once)
            self.size += count

    def _add(self, tx: Transaction, count: int) -> None:
        """Copies of the sample, two owners' in turn; every third is restricted to a member."""
        pattern: dict[str, Any] = dict(self._row(tx, tables.agents.c.id))
        version: dict[str, Any] = dict(self._row(tx, tables.agent_versions.c.agent_id))
        agents, versions, shares, aliases = [], [], [], []
        for number in range(self.size, self.size + count):
            agent_id, name = new_id("agt"), secrets.token_hex(8)
            restricted = number % 3 == 0
            mode = SharingMode.RESTRICTED if restricted else SharingMode.WORKSPACE
            agents.append(
                pattern
                | {"id": agent_id, "display_name": name, "listed_as": name, "sharing_mode": mode.value}
                | {"create_time": number, "owner_member_id": OWNER if number % 2 else OTHER}
            )
            versions.append(version | {"agent_id": agent_id})
            if restricted:
                share = {"workspace_id": WORKSPACE, "agent_id": agent_id, "member_id": NAMED}
                shares.append(share | {"listed_as": name, "create_time": number})
            alias = {"alias": name, "reading": name, "agent_id": agent_id, "version": 0, "revision": 1}
            aliases.append(
                alias
                | {"workspace_id": WORKSPACE, "attest_member_id": OWNER, "attest_occasion": "ALIAS"}
                | {"attest_time": 1, "create_time": 1, "update_time": 1}
            )
        tx.execute(insert(tables.agents), agents)
        tx.execute(insert(tables.agent_versions), versions)
        tx.execute(insert(tables.aliases), aliases)
        if shares:
            tx.execute(insert(tables.agent_shares), shares)

    def _row(self, tx: Transaction, key: Any) -> Any:
        found = tx.execute(select(key.table).where(key == self.sample.agent_id).limit(1))
        return found.mappings().one()

    async def steps(self, work: Callable[[Transaction], object]) -> int:
        """The steps that SQLite takes for a transaction."""
        taken = 0

        def step() -> int:
            nonlocal taken
            taken += 1
            return 0

        def counted(tx: Transaction) -> None:
            raw: Any = tx.connection.connection.driver_connection
            work(tx)  # statements are prepared once
            raw.set_progress_handler(step, 1)
            try:
                work(tx)
            finally:
                raw.set_progress_handler(None, 1)

        await self.database.read(counted)
        return taken


def page(
    who: Person | None, order: Order, state: AgentState | None = None
) -> Callable[[Transaction], object]:
    wanted = Listing(WORKSPACE, state, None, None, order)
    return lambda tx: ListStore(tx).list_agents(wanted, who, None, PAGE)


@pytest.fixture
def grown(database: Database, tmp_path: Path) -> Grown:
    return Grown(database, tmp_path)


async def test_a_page_of_a_list_costs_the_same_in_a_large_workspace(grown: Grown) -> None:
    asked = {(name, order): page(who, order) for name, who in PEOPLE.items() for order in Order}
    await grown.to(FEW)
    few = {name: await grown.steps(work) for name, work in asked.items()}
    await grown.to(MANY)
    many = {name: await grown.steps(work) for name, work in asked.items()}

    assert {name: (few[name], many[name]) for name in few if many[name] > AT_MOST * few[name]} == {}
    worst = max(many[name] / few[name] for name in few)
    scale.record("a page of a list costs the same in a large workspace", agents=MANY, worst=round(worst, 3))


async def test_resolving_costs_the_same_in_a_large_workspace(grown: Grown) -> None:
    made = [await grown.workshop.make() for _ in range(BATCH)]
    await grown.workshop.alias("one", made[0])
    names = ["agent:one", *(one.agent_id for one in made)]
    commands = [ResolveCommand(name, Channel.API, person(), "passport") for name in names]
    resolving = Resolving(grown.workshop.seals, read_content)

    def work(tx: Transaction) -> object:
        return resolving.resolve(ResolveStore(tx), commands)

    await grown.to(FEW)
    few = await grown.steps(work)
    await grown.to(MANY)
    many = await grown.steps(work)

    assert 0 < many <= AT_MOST * few
    scale.record("resolving costs the same in a large workspace", agents=MANY, worst=round(many / few, 3))


@pytest.mark.parametrize(
    ("who", "table"), [("other", tables.agents), ("named", tables.agent_shares)], ids=["shared", "named"]
)
async def test_a_list_without_its_indexes_is_caught_by_the_same_count(
    grown: Grown, who: str, table: Table
) -> None:
    await grown.to(FEW)
    few = await grown.steps(page(PEOPLE[who], Order.DISPLAY_NAME))
    await grown.to(MANY)
    await grown.database.write(
        lambda tx: [
            tx.driver_execute(f"DROP INDEX {index.name}")
            for index in table.indexes
            if str(index.name).endswith("name")
        ]
    )

    assert await grown.steps(page(PEOPLE[who], Order.DISPLAY_NAME)) > 3 * few
