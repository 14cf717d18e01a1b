"""A page of a list costs what it shows: not what the workspace has, and not what the caller may not see."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy
from sqlalchemy import event

from perron.agents.list_store import Listing, ListStore, Order, key_of
from perron.agents.model import Agent, AgentState
from perron.agents.visibility import Entitlements, Person, SharingMode, sees
from perron.chassis.database import Database
from perron.chassis.testing import BOTH
from tests.unit.agents.workshop import NAMED, OTHER, OWNER, WORKSPACE, Workshop, person

NOTHING = Entitlements(sharing=False, channels=frozenset())
PEOPLE = {
    "admin": person(is_admin=True),
    "owner": person(OWNER),
    "named": person(NAMED),
    "other": person(OTHER),
    "without sharing": person(NAMED, entitlements=NOTHING),
    "operator": None,
}


def listing(order: Order, **fields: Any) -> Listing:
    return Listing(
        **{"workspace_id": WORKSPACE, "state": None, "owner_member_id": None, "channel": None, "order": order}
        | fields
    )


@pytest.mark.parametrize("database", BOTH, indirect=True)
async def test_lists_show_in_every_order_exactly_what_visibility_says(
    database: Database, tmp_path: Any
) -> None:
    workshop = Workshop(database, tmp_path)
    named: dict[str, bool] = {}
    agents: list[Agent] = []
    for number in range(24):
        is_named = number % 3 == 0
        agent = await workshop.make(
            owner_member_id=OWNER if number % 4 else OTHER,
            mode=SharingMode.RESTRICTED if number % 2 else SharingMode.WORKSPACE,
            named=[NAMED] if is_named else [],
            state=AgentState.DISABLED if number % 5 == 0 else AgentState.ACTIVE,
        )
        agents.append(agent)
        named[agent.agent_id] = is_named
    await assert_listed(database, agents, named)
    renamed = [replace(one, listed_as=one.listed_as[::-1]) for one in agents]
    for one in renamed:
        await database.write(lambda tx: ListStore(tx).update_agent(one))  # noqa: B023 (used at once)
    await assert_listed(database, renamed, named)


async def assert_listed(database: Database, agents: list[Agent], named: dict[str, bool]) -> None:
    """Everybody is shown in every order what they see."""
    for who in PEOPLE.values():
        for order in Order:
            expected = sorted(
                (one for one in agents if is_seen(who, one, named)),
                key=lambda one: key_of(one, order),
                reverse=order is Order.CREATE_TIME_DESCENDING,
            )
            assert await paged(database, who, listing(order)) == [one.agent_id for one in expected]


def is_seen(who: Person | None, agent: Agent, named: dict[str, bool]) -> bool:
    return who is None or sees(who, agent, is_named=named[agent.agent_id] and who.member_id == NAMED)


async def paged(database: Database, who: Person | None, wanted: Listing, size: int = 5) -> list[str]:
    found: list[str] = []
    after = None
    while True:
        page = await database.read(
            lambda tx: ListStore(tx).list_agents(wanted, who, after, size)  # noqa: B023 (used at once)
        )
        found += [one.agent_id for one in page]
        if len(page) < size:
            return found
        after = key_of(page[-1], wanted.order)


@pytest.mark.parametrize("state", [None, AgentState.DISABLED])
@pytest.mark.parametrize("order", Order)
@pytest.mark.parametrize("who", PEOPLE)
async def test_every_list_is_read_in_the_order_of_an_index(
    database: Database, who: str, order: Order, state: AgentState | None
) -> None:
    wanted = listing(order, state=state)
    with statements(database) as seen:
        await database.read(lambda tx: ListStore(tx).list_agents(wanted, PEOPLE[who], (1, "agt_1"), 50))
    ((sql, parameters),) = seen
    plan = await database.read(
        lambda tx: [row[-1] for row in tx.driver_execute(f"EXPLAIN QUERY PLAN {sql}", parameters)]
    )
    reading = [step for step in plan if " agents " in step]
    assert reading
    by_id = [step for step in reading if "(id=?)" in step]
    assert len(by_id) == len(reading) // 3, plan  # those that name the person, one way of three
    assert all("workspace_id=?" in step for step in reading if step not in by_id), plan
    naming = [step for step in plan if " agent_shares " in step]
    assert len(naming) == len(by_id), plan
    index = "agent_shares_by_name" if order is Order.DISPLAY_NAME else "agent_shares_by_time"
    assert all(f"{index} (workspace_id=? AND member_id=? AND" in step for step in naming), plan


@contextmanager
def statements(database: Database) -> Iterator[list[tuple[str, Any]]]:
    """Collects the statements that are read while it is open."""
    seen: list[tuple[str, Any]] = []

    def note(_c: Any, _u: Any, sql: str, parameters: Any, _x: Any, _m: Any) -> None:
        if sql.startswith("SELECT"):
            seen.append((sql, parameters))

    engine: sqlalchemy.Engine = database._read_engine
    event.listen(engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        event.remove(engine, "before_cursor_execute", note)
