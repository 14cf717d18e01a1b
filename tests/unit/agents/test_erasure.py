"""What was said to a deleted agent is gone, also from copies of the database that were made before."""

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from perron.agents import tables
from perron.agents.agents import Agents
from perron.agents.erasing_store import ErasingStore
from perron.agents.erasure import Erasure
from perron.agents.following import follow_identity
from perron.agents.model import Agent, ErasureState, Sealed
from perron.agents.seals import Seals
from perron.agents.version_store import VersionStore
from perron.agents.versions import Versions
from perron.chassis.database import Database
from perron.chassis.errors import NotFound, Unavailable
from perron.chassis.events import Event
from perron.chassis.ids import new_id
from perron.chassis.leases import Lease, Leases
from perron.chassis.testing import BOTH, customer_call
from perron.chassis.vault import Vault
from tests.unit.agents.workshop import ELSEWHERE, ORGANIZATION, OWNER, WORKSPACE, Workshop, person

each_store = pytest.mark.parametrize("database", BOTH, indirect=True)


class Holds:
    """Holds some agents, by their ids."""

    def __init__(self) -> None:
        self.held: set[str] = set()

    async def may_erase(self, scopes: Any) -> list[bool]:
        return [agent_id not in self.held for _, _, agent_id in scopes]


class Scene:
    """A store with agents, and what erases them."""

    def __init__(self, database: Database, folder: Path) -> None:
        self.database = database
        self.workshop = Workshop(database, folder)
        self.vault = self.workshop.vault
        self.seals = self.workshop.seals
        self.holds = Holds()
        self.erasure = Erasure(database, self.vault, self.seals, self.holds)

    async def delete(
        self, agent: Agent, *, may_erase: bool = True, workspace_id: str = WORKSPACE
    ) -> ErasureState:
        agents = Agents(Versions(self.seals), new_id)
        owner = person(OWNER, workspace_id=workspace_id)
        return await self.database.write(
            lambda tx: agents.delete(
                VersionStore(tx), customer_call(), owner, agent.agent_id, "", may_erase=may_erase
            )
        )

    async def rows(self) -> list[tuple[str, int, Sealed]]:
        """Returns every version as a copy of the database would hold it."""
        found = await self.database.read(lambda tx: tx.execute(select(tables.agent_versions)).all())
        return [
            (row.agent_id, row.version, Sealed(row.key_id, bytes(row.wrapped_key), bytes(row.sealed)))
            for row in found
            if row.sealed is not None
        ]

    async def finish(self) -> int:
        """Goes on until nothing is left to do; returns in how many steps."""
        lease = await self._lease()
        steps = 0
        while await self.erasure.go_on(lease):
            steps += 1
        return steps

    async def keys(self) -> list[str]:
        found = await self.database.read(lambda tx: tx.execute(select(tables.workspace_keys.c.state)).all())
        return sorted(row.state for row in found)

    async def _lease(self) -> Lease:
        lease = await Leases(self.database, holder="test").acquire("erasure")
        assert lease is not None
        return lease


@pytest.fixture
def scene(database: Database, tmp_path: Path) -> Scene:
    return Scene(database, tmp_path)


def opened(seals: Seals, rows: list[tuple[str, int, Sealed]]) -> list[bool]:
    return [not isinstance(one, Unavailable) for one in seals.open_all(rows)]


@each_store
async def test_a_copy_of_the_database_opens_nothing_that_was_deleted(scene: Scene) -> None:
    doomed, kept = await scene.workshop.make(2), await scene.workshop.make(3)
    copy = sorted(await scene.rows())
    assert all(opened(scene.seals, copy))

    assert await scene.delete(doomed) is ErasureState.ERASED
    assert {row[0] for row in await scene.rows()} == {kept.agent_id}
    await scene.finish()
    assert opened(scene.seals, copy) == [False] * 5
    assert opened(scene.seals, await scene.rows()) == [True] * 3
    assert await scene.keys() == ["CURRENT", "DROPPED"]


@each_store
async def test_without_the_exchange_a_copy_would_open(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    doomed = await scene.workshop.make()
    copy = await scene.rows()
    monkeypatch.setattr(VersionStore, "retire_key", lambda *_: None)
    await scene.delete(doomed)
    await scene.finish()
    assert all(opened(scene.seals, copy))


@each_store
async def test_keys_move_in_small_steps_and_reading_goes_on_between_them(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("perron.agents.erasure._ROWS_MAX", 2)
    doomed, kept = await scene.workshop.make(), await scene.workshop.make(7)
    await scene.delete(doomed)
    for _ in range(20):
        assert opened(scene.seals, await scene.rows()) == [True] * 7
        if not await scene.database.write(scene.erasure.exchange):
            break
    assert await scene.keys() == ["CURRENT", "DROPPED"]
    assert {row[0] for row in await scene.rows()} == {kept.agent_id}


@each_store
async def test_a_crash_between_any_two_steps_loses_nothing_and_forgets_nothing(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    doomed = await scene.workshop.make()
    await scene.workshop.make()
    copy = [row for row in await scene.rows() if row[0] == doomed.agent_id]
    await scene.delete(doomed)

    def crash(self: Vault, key_ids: Any) -> None:
        if list(key_ids):
            raise OSError

    with monkeypatch.context() as broken:
        broken.setattr(Vault, "drop", crash)
        with pytest.raises(OSError):
            await scene.finish()
    assert await scene.keys() == ["CURRENT", "DROPPING"]
    assert opened(scene.seals, await scene.rows()) == [True]
    await scene.finish()
    assert opened(scene.seals, copy) == [False]


@each_store
async def test_a_vault_from_a_backup_loses_the_dropped_keys_again(scene: Scene) -> None:
    doomed = await scene.workshop.make()
    copy = await scene.rows()
    path = next(scene.vault._folder.glob("??/*.key"))
    backup = path.read_bytes()
    await scene.delete(doomed)
    await scene.finish()
    path.write_bytes(backup)
    assert opened(scene.seals, copy) == [True]
    await scene.erasure.start()
    assert opened(scene.seals, copy) == [False]


@each_store
async def test_a_held_agent_is_hidden_keeps_its_bytes_and_goes_when_it_is_released(scene: Scene) -> None:
    held, doomed = await scene.workshop.make(), await scene.workshop.make()
    scene.holds.held = {held.agent_id}
    assert await scene.delete(held, may_erase=False) is ErasureState.PENDING
    await scene.delete(doomed)
    await scene.finish()
    assert [row[0] for row in await scene.rows()] == [held.agent_id]
    assert opened(scene.seals, await scene.rows()) == [True]
    with pytest.raises(NotFound):
        await scene.database.read(lambda tx: VersionStore(tx).agent(held.agent_id))

    copy = await scene.rows()
    scene.holds.held = set()
    await scene.finish()
    assert await scene.rows() == []
    assert opened(scene.seals, copy) == [False]


@each_store
@pytest.mark.parametrize("whole", [True, False])
async def test_a_dead_workspace_is_erased_and_what_is_held_moves_to_another_key(
    scene: Scene, *, whole: bool
) -> None:
    agents = [await scene.workshop.make() for _ in range(3)]
    elsewhere = await scene.workshop.make(workspace_id="ws_00000000000000000000000009")
    copy = [row for row in await scene.rows() if row[0] != elsewhere.agent_id]
    scene.holds.held = {agents[0].agent_id}
    event = Event(1, "workspace.deleted", 1, ORGANIZATION, WORKSPACE)
    if whole:
        event = Event(1, "organization.terminated", 1, ORGANIZATION)
    await scene.database.write(lambda tx: follow_identity(tx, event))
    await scene.finish()
    left = {row[0] for row in await scene.rows()}
    assert left == ({agents[0].agent_id} if whole else {agents[0].agent_id, elsewhere.agent_id})
    assert opened(scene.seals, copy) == [False] * 3
    assert all(opened(scene.seals, await scene.rows()))
    scene.holds.held = set()
    await scene.finish()
    assert await scene.database.read(lambda tx: ErasingStore(tx).ended_workspace()) is None
    assert {row[0] for row in await scene.rows()} == (set() if whole else {elsewhere.agent_id})


@each_store
async def test_a_lost_key_is_told_and_new_versions_are_sealed_all_the_same(scene: Scene) -> None:
    await scene.workshop.make()
    for path in scene.vault._folder.glob("??/*.key"):
        path.unlink()
    assert opened(scene.seals, await scene.rows()) == [False]
    doomed = await scene.workshop.make()
    assert sorted(opened(scene.seals, await scene.rows())) == [False, True]
    await scene.delete(doomed)
    await scene.finish()
    assert await scene.keys() == ["DROPPED", "LOST"]


@each_store
async def test_a_sealed_configuration_does_not_open_in_the_place_of_another(scene: Scene) -> None:
    one, other = await scene.workshop.make(), await scene.workshop.make()
    moved = next(row for row in await scene.rows() if row[0] == one.agent_id)[2]
    await scene.database.write(
        lambda tx: tx.execute(
            update(tables.agent_versions)
            .where(tables.agent_versions.c.agent_id == other.agent_id)
            .values(wrapped_key=moved.wrapped_key, sealed=moved.content)
        )
    )
    with pytest.raises(Exception, match="does not open"):
        scene.seals.open_all(await scene.rows())


@each_store
async def test_a_damaged_row_keeps_no_other_workspace_from_being_erased(scene: Scene) -> None:
    damaged, beside = await scene.workshop.make(), await scene.workshop.make()
    doomed = await scene.workshop.make(workspace_id=ELSEWHERE)
    copy = [row for row in await scene.rows() if row[0] == doomed.agent_id]
    await scene.database.write(
        lambda tx: tx.execute(
            update(tables.agent_versions)
            .where(tables.agent_versions.c.agent_id == damaged.agent_id)
            .values(wrapped_key=b"damaged")
        )
    )
    await scene.delete(beside)
    await scene.delete(doomed, workspace_id=ELSEWHERE)
    await scene.finish()
    assert opened(scene.seals, copy) == [False]
    assert await scene.keys() == ["CURRENT", "DROPPED", "LOST"]
