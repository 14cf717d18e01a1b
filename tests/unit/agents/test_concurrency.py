"""Writers of one workspace wait for each other; each promise is broken once the waiting is taken away."""

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from perron.agents import convert, naming, tables
from perron.agents.agents import Agents, CreateCommand, UpdateCommand
from perron.agents.model import Agent, Occasion, Source, SourceKind
from perron.agents.store import Store
from perron.agents.version_store import VersionStore
from perron.agents.versions import Versions
from perron.api.agents.v1.configuration_pb2 import AgentConfiguration
from perron.chassis.database import Database
from perron.chassis.errors import Aborted, AlreadyExists, FailedPrecondition
from perron.chassis.ids import new_id
from perron.chassis.testing import BOTH, customer_call
from tests.unit.agents.workshop import ORGANIZATION, OWNER, WORKSPACE, Workshop, person

each_store = pytest.mark.parametrize("database", BOTH, indirect=True)
where_writers_meet = pytest.mark.parametrize("database", ["postgresql"], indirect=True)


class Scene:
    """Changes agents, several at once."""

    def __init__(self, database: Database, folder: Path) -> None:
        self.database = database
        self.workshop = Workshop(database, folder)
        self.agents = Agents(Versions(self.workshop.seals), new_id)

    async def update(self, agent: Agent, etag: str = "", **fields: Any) -> Agent:
        configuration = convert.configuration(AgentConfiguration(model="small", **fields))
        command = UpdateCommand(agent.agent_id, etag, configuration=configuration)
        return await self.database.write(
            lambda tx: self.agents.update(VersionStore(tx), customer_call(), person(OWNER), command, "dec")
        )

    async def create(self, name: str) -> Agent:
        command = CreateCommand(
            organization_id=ORGANIZATION,
            workspace_id=WORKSPACE,
            owner_member_id=OWNER,
            author=person(OWNER),
            name=naming.agent_name(name, is_attested=True),
            occasion=Occasion.CREATE,
            configuration=convert.configuration(AgentConfiguration(model="small")),
            source=Source(SourceKind.BUILDER),
        )
        return await self.database.write(
            lambda tx: self.agents.create(VersionStore(tx), customer_call(), command, "dec")
        )

    async def versions(self) -> list[int]:
        found = await self.database.read(lambda tx: tx.execute(select(tables.agent_versions.c.version)).all())
        return sorted(row.version for row in found)

    def race(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Takes the waiting away, and lets two writers meet between what they check and what they write."""
        meeting = threading.Barrier(2)
        admit = Versions.admit

        def met(*arguments: Any) -> None:
            admit(*arguments)
            meeting.wait(5)

        monkeypatch.setattr(Store, "wait_for_workspace", lambda *_: None)
        monkeypatch.setattr(Versions, "admit", met)


@pytest.fixture
def scene(database: Database, tmp_path: Path) -> Scene:
    return Scene(database, tmp_path)


async def together(*calls: Any) -> list[Any]:
    return await asyncio.gather(*calls, return_exceptions=True)


@each_store
async def test_of_many_updates_with_one_etag_one_wins_and_the_others_are_aborted(scene: Scene) -> None:
    agent = await scene.workshop.make()
    outcomes = await together(*(scene.update(agent, agent.etag) for _ in range(8)))
    assert sum(isinstance(one, Agent) for one in outcomes) == 1
    assert sum(isinstance(one, Aborted) for one in outcomes) == 7
    assert await scene.versions() == [1, 2]


@each_store
async def test_updates_without_etag_all_become_versions(scene: Scene) -> None:
    agent = await scene.workshop.make()
    outcomes = await together(*(scene.update(agent) for _ in range(8)))
    assert sorted(one.latest_version for one in outcomes) == list(range(2, 10))
    assert await scene.versions() == list(range(1, 10))


@where_writers_meet
async def test_without_waiting_two_updates_pass_the_etag(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = await scene.workshop.make()
    scene.race(monkeypatch)
    outcomes = await together(scene.update(agent, agent.etag), scene.update(agent, agent.etag))
    assert not any(isinstance(one, Aborted) for one in outcomes)


@each_store
async def test_two_updates_never_close_a_circle_of_handoffs_together(scene: Scene) -> None:
    one, other = await scene.workshop.make(), await scene.workshop.make()
    outcomes = await together(
        scene.update(one, handoff_agent_ids=[other.agent_id]),
        scene.update(other, handoff_agent_ids=[one.agent_id]),
    )
    (refusal,) = [outcome for outcome in outcomes if isinstance(outcome, FailedPrecondition)]
    assert refusal.reason == "HANDOFF_CYCLE"


@where_writers_meet
async def test_without_waiting_two_updates_close_a_circle(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = await scene.workshop.make(), await scene.workshop.make()
    scene.race(monkeypatch)
    outcomes = await together(
        scene.update(one, handoff_agent_ids=[other.agent_id]),
        scene.update(other, handoff_agent_ids=[one.agent_id]),
    )
    assert all(isinstance(outcome, Agent) for outcome in outcomes)


@each_store
async def test_of_two_agents_that_look_alike_one_is_made(scene: Scene) -> None:
    outcomes = await together(scene.create("Support"), scene.create("supp0rt"))
    (refusal,) = [outcome for outcome in outcomes if not isinstance(outcome, Agent)]
    assert isinstance(refusal, AlreadyExists)
    assert refusal.reason == "NAME_TAKEN"


@where_writers_meet
async def test_without_waiting_look_alikes_meet_in_the_store(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    await scene.workshop.make()  # the row that writers wait on is there
    scene.race(monkeypatch)
    outcomes = await together(scene.create("Support"), scene.create("supp0rt"))
    (refusal,) = [outcome for outcome in outcomes if not isinstance(outcome, Agent)]
    assert isinstance(refusal, IntegrityError)
