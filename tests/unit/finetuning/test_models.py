from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select, update

from perron.chassis.database import Database
from perron.chassis.errors import PerronError
from perron.chassis.events import Event
from perron.chassis.tables import OWN
from perron.chassis.testing import BOTH, FakeClock
from perron.finetuning import following, tables
from perron.finetuning.disclosures import DownloadCommand, Holdings
from perron.finetuning.model import ErasureState, Model, ModelState
from perron.finetuning.models import ResolveCommand
from perron.finetuning.store import Store
from tests.unit.finetuning.platform import ORGANIZATION, WORKSPACE, Platform, caller, identifier

pytestmark = pytest.mark.parametrize("database", BOTH, indirect=True)
HOUR = timedelta(hours=1)


async def seen(platform: Platform, model: Model) -> Model:
    return await platform.read(lambda store: store.model(WORKSPACE, model.model_id))


async def delete(platform: Platform, model: Model, *, held: bool = False) -> Model:
    return await platform.write(
        lambda store: platform.models.delete(store, caller(), model.model_id, held=held)
    )


async def storage_lets_go(platform: Platform) -> None:
    """As upkeep does once objects and keys are gone."""
    dropping = update(tables.blobs).where(tables.blobs.c.state == "DROPPING").values(state="ERASED")
    await platform.write(lambda store: store.tx.execute(dropping))
    await platform.write(platform.models.follow_erasures)


async def test_an_erasure_is_over_when_storage_and_holders_have_let_go(
    database: Database, clock: FakeClock
) -> None:
    platform = Platform(database)
    model = await platform.trained()
    holdings = Holdings(platform.new_id)
    command = DownloadCommand(model.model_id, "", HOUR // timedelta(microseconds=1))
    _, holding = await platform.write(lambda store: holdings.register(store, caller(), command))

    assert (await delete(platform, model)).erasure is ErasureState.PENDING
    await storage_lets_go(platform)
    assert (await seen(platform, model)).erasure is ErasureState.PENDING
    await platform.write(lambda store: holdings.release(store, caller(), holding.holding_id))
    await platform.write(platform.models.follow_erasures)

    assert (await seen(platform, model)).erasure is ErasureState.ERASED
    assert await told(database, OWN.events, "kind", "model.erased") == 1
    assert await told(database, OWN.audit_entries, "action", "model.erased") == 1


async def test_a_holder_that_is_not_heard_of_any_more_delays_an_erasure_until_its_time_is_over(
    database: Database, clock: FakeClock
) -> None:
    platform = Platform(database)
    model = await platform.trained()
    holdings = Holdings(platform.new_id)
    command = DownloadCommand(model.model_id, "", HOUR // timedelta(microseconds=1))
    await platform.write(lambda store: holdings.register(store, caller(), command))
    await delete(platform, model)
    await storage_lets_go(platform)
    clock.advance(HOUR)

    await platform.write(platform.models.follow_erasures)

    assert (await seen(platform, model)).erasure is ErasureState.ERASED


async def test_a_hold_keeps_the_bytes_and_their_release_erases_them(database: Database) -> None:
    platform = Platform(database)
    model = await platform.trained()

    deleted = await delete(platform, model, held=True)

    assert (deleted.state, deleted.erasure) == (ModelState.DELETED, ErasureState.DEFERRED)
    await storage_lets_go(platform)
    assert (await seen(platform, model)).erasure is ErasureState.DEFERRED
    await platform.write(lambda store: store.drop_blobs([one.blob_id for one in model.artifacts]))
    await storage_lets_go(platform)
    assert (await seen(platform, model)).erasure is ErasureState.ERASED


async def test_a_workspace_that_ends_takes_its_models_out_of_use(database: Database) -> None:
    platform = Platform(database)
    model = await platform.trained()
    follow = following.of_identity(platform.jobs, platform.models)

    await database.write(lambda tx: follow(tx, Event(1, "organization.terminated", 0, ORGANIZATION)))

    assert (await seen(platform, model)).state is ModelState.DELETED
    assert await resolved(platform, model.name) == "MODEL_DELETED"


async def test_a_name_means_a_model_of_its_own_workspace_only(database: Database) -> None:
    platform = Platform(database)
    model = await platform.trained()

    assert await resolved(platform, model.name) == model.model_id
    assert await resolved(platform, model.model_id) == model.model_id
    assert await resolved(platform, model.name, workspace=2) == "RESOURCE_NOT_FOUND"
    assert await resolved(platform, "ft:tiny:x:y:z") == "RESOURCE_NOT_FOUND"


async def resolved(platform: Platform, name: str, workspace: int = 1) -> str:
    command = ResolveCommand(identifier("ws", workspace), name)
    (outcome,) = await platform.read(lambda store: platform.models.resolve(store, [command]))
    return outcome.reason if isinstance(outcome, PerronError) else outcome.model_id


async def told(database: Database, table: Any, column: str, value: str) -> int:
    query = select(table).where(table.c[column] == value)
    return await database.read(lambda tx: len(Store(tx).tx.execute(query).all()))
