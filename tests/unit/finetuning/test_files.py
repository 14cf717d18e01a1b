"""Files and their sealed bytes in the store and the vault, on both dialects."""

import asyncio
import contextlib
import threading
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from perron.chassis.database import Database
from perron.chassis.errors import NotFound, ResourceExhausted, Unavailable
from perron.chassis.testing import BOTH, FakeClock
from perron.finetuning.blob_store import WorkspaceKey
from perron.finetuning.file_model import (
    PART_BYTES,
    BlobState,
    Retention,
    Upload,
)
from perron.finetuning.file_store import FileStore
from perron.finetuning.model import FailureReason
from tests.unit.finetuning.horrors import GOOD
from tests.unit.finetuning.workshop import CALL, DAY, HELD, PLAIN, Workshop

pytestmark = pytest.mark.parametrize("database", BOTH, indirect=True)


@pytest.fixture
def shop(database: Database, tmp_path: Path) -> Workshop:
    return Workshop(database, tmp_path)


async def test_bytes_stored_are_exact_whatever_comes_at_once(shop: Workshop) -> None:
    content, most = GOOD * 10, len(GOOD) * 35
    answers = await asyncio.gather(
        *(shop.announced(content, bytes_max=most) for _ in range(12)), return_exceptions=True
    )
    refused = [one for one in answers if isinstance(one, BaseException)]
    assert len(refused) == 9
    assert all(isinstance(one, ResourceExhausted) for one in refused)


@pytest.mark.parametrize("locked", [True, False])
async def test_announcements_queue_up_at_their_organizations_row(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch, locked: bool
) -> None:
    if shop.database.dialect == "sqlite":
        pytest.skip("SQLite has one writer")
    if not locked:  # the racy variant: what is admitted beyond the plan shows that the test can fail
        monkeypatch.setattr(FileStore, "lock_allowance", lambda _, __, most: most)
    meeting = threading.Barrier(2)
    count = FileStore.count_stored_bytes

    def slowly(store: FileStore, organization_id: str) -> int:
        counted = count(store, organization_id)
        with contextlib.suppress(threading.BrokenBarrierError):
            meeting.wait(0.2)
        return counted

    monkeypatch.setattr(FileStore, "count_stored_bytes", slowly)
    answers = await asyncio.gather(
        *(shop.announced(GOOD, bytes_max=len(GOOD)) for _ in range(2)), return_exceptions=True
    )
    assert sum(isinstance(one, Upload) for one in answers) == (1 if locked else 2)


async def test_bytes_of_deleted_files_and_given_up_uploads_are_free_again(
    shop: Workshop, clock: FakeClock
) -> None:
    file = await shop.uploaded(GOOD)
    await shop.announced(GOOD)
    with pytest.raises(ResourceExhausted):
        await shop.announced(GOOD, bytes_max=2 * len(GOOD))
    await shop.delete(file)
    await shop.announced(GOOD, bytes_max=2 * len(GOOD))
    clock.advance(timedelta(hours=25))
    await shop.keep_up()
    await shop.announced(GOOD, bytes_max=len(GOOD))


async def test_deleting_takes_the_last_key_out_of_the_world_and_leaves_the_others(shop: Workshop) -> None:
    kept, gone = await shop.uploaded(GOOD + b"\n" + GOOD), await shop.uploaded(GOOD)
    copy = {path: path.read_bytes() for path in shop.objects()}
    read = "SELECT key_id, wrapped_key FROM blobs WHERE id = '" + gone.blob_id + "'"
    backup = await shop.database.read(lambda tx: tx.driver_execute(read).one())
    assert shop.vault.read(backup.key_id) is not None
    assert not await shop.delete(gone)
    with pytest.raises(NotFound):
        await shop.content(gone)
    await shop.keep_up()
    assert shop.vault.read(backup.key_id) is None  # so the row of the backup opens nothing
    assert sorted(await shop.states()) == ["ERASED", "READY"]
    assert len(shop.objects()) == 1 < len(copy)
    assert await shop.content(kept) == GOOD + b"\n" + GOOD
    assert len(shop.key_files()) == 1
    kinds = "SELECT kind FROM events ORDER BY number"
    events = await shop.database.read(lambda tx: tx.driver_execute(kinds).scalars().all())
    assert events == ["file.created", "file.created", "file.deleted", "file.erased"]


async def test_survivors_are_wrapped_anew_step_by_step(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("perron.finetuning.upkeep.ROWS_MAX", 2)
    kept = [await shop.uploaded(GOOD) for _ in range(5)]
    unfinished = await shop.announced(GOOD)
    await shop.delete(await shop.uploaded(GOOD))
    await shop.keep_up()
    await shop.keep_up()
    assert len(shop.key_files()) == 1
    for file in kept:
        assert await shop.content(file) == GOOD
    assert (await shop.received(unfinished, GOOD))[1].is_complete


async def test_what_begins_while_a_key_retires_is_never_lost(shop: Workshop) -> None:
    for _ in range(4):
        gone = await shop.uploaded(GOOD)
        await shop.delete(gone)
        made = await asyncio.gather(shop.keep_up(), *(shop.announced(GOOD) for _ in range(6)))
        for upload in made[1:]:
            assert isinstance(upload, Upload)
            assert (await shop.received(upload, GOOD))[1].is_complete


async def test_a_restored_vault_loses_its_dropped_keys_at_the_start(shop: Workshop) -> None:
    await shop.delete(await shop.uploaded(GOOD))
    (key,) = shop.key_files()
    copy = key.read_bytes()
    await shop.keep_up()
    assert not key.exists()
    key.write_bytes(copy)
    await shop.upkeep.start()
    assert not key.exists()


async def test_a_hold_keeps_the_content_and_its_release_erases_it(shop: Workshop) -> None:
    file = await shop.uploaded(GOOD)
    shop.rules.held.add(file.file_id)
    assert await shop.delete(file, HELD)
    with pytest.raises(NotFound):
        await shop.content(file)
    await shop.keep_up()
    assert await shop.states() == ["HELD"]
    assert shop.objects()
    shop.rules.held.clear()
    await shop.keep_up()
    assert await shop.states() == ["ERASED"]
    assert not shop.objects()


async def test_a_file_that_is_bound_to_jobs_lives_a_day_without_one(shop: Workshop, clock: FakeClock) -> None:
    file = await shop.uploaded(GOOD, Retention("dec_1", job_bound_us=clock.now_us()))
    clock.advance(DAY - timedelta(seconds=1))
    await shop.keep_up()
    assert await shop.content(file) == GOOD
    clock.advance(timedelta(seconds=1))
    with pytest.raises(NotFound):  # from its deadline on, swept or not
        await shop.content(file)
    await shop.keep_up()
    assert await shop.states() == ["ERASED"]
    assert shop.ended == [(file.file_id, FailureReason.RETENTION_ENDED)]


@pytest.mark.parametrize("governed", [True, False])
async def test_a_job_that_needs_a_file_keeps_it_and_one_that_waits_does_not(
    shop: Workshop, clock: FakeClock, monkeypatch: pytest.MonkeyPatch, governed: bool
) -> None:
    file = await shop.uploaded(GOOD, Retention("dec_1", job_bound_us=clock.now_us()))
    needed_until = 0
    monkeypatch.setattr(FileStore, "file_needed_until_us", lambda *_: needed_until)
    for _ in range(3):
        clock.advance(DAY)
        needed_until = clock.now_us()
        if governed:
            await shop.keep_up()
        assert await shop.content(file) == GOOD
    clock.advance(DAY)
    with pytest.raises(NotFound):
        await shop.content(file)
    await shop.keep_up()
    assert await shop.states() == ["ERASED"]


async def test_files_of_an_ended_subscription_have_thirty_days_and_it_may_be_reinstated(
    shop: Workshop, clock: FakeClock
) -> None:
    paid = await shop.uploaded(GOOD, Retention("dec_1", subscription_id="sub_1"))
    free = await shop.uploaded(GOOD)
    organization_id = paid.organization_id
    await shop.write(lambda store: store.follow_subscription(organization_id, "sub_1"))
    clock.advance(40 * DAY)
    assert await shop.content(paid) == GOOD
    await shop.write(lambda store: store.follow_subscription(organization_id, ""))
    clock.advance(29 * DAY)
    await shop.keep_up()
    assert await shop.content(paid) == GOOD
    await shop.write(lambda store: store.follow_subscription(organization_id, "sub_1"))
    clock.advance(40 * DAY)
    await shop.keep_up()
    assert await shop.content(paid) == GOOD
    await shop.write(lambda store: store.follow_subscription(organization_id, "sub_2"))
    clock.advance(30 * DAY)
    with pytest.raises(NotFound):
        await shop.content(paid)
    await shop.keep_up()
    assert await shop.content(free) == GOOD
    assert sorted(await shop.states()) == ["ERASED", "READY"]


async def test_zero_retention_binds_what_is_there_and_what_is_on_its_way(
    shop: Workshop, clock: FakeClock
) -> None:
    file, upload = await shop.uploaded(GOOD), await shop.announced(GOOD)
    await shop.write(lambda store: store.bind_to_jobs(file.organization_id, ""))
    taken, receiving = await shop.received(upload, GOOD)
    finished = await receiving.finish()
    assert finished is not None
    _, late = await shop.write(
        lambda store: shop.files.complete(store, CALL, taken, receiving.runs, *finished, PLAIN)
    )
    now = await shop.uploaded(GOOD, now=replace(PLAIN, zero_retention=True))
    assert {late.expire_us, now.expire_us} == {clock.now_us() + DAY // timedelta(microseconds=1)}
    clock.advance(DAY)
    await shop.keep_up()
    assert await shop.states() == ["ERASED"] * 3


async def test_an_upload_under_zero_retention_has_one_day_however_it_moves(
    shop: Workshop, clock: FakeClock
) -> None:
    content = b"\n".join([GOOD] * (2 * PART_BYTES // len(GOOD)))
    bound = await shop.announced(content, Retention("dec_1", job_bound_us=clock.now_us()))
    free = await shop.announced(content)
    clock.advance(timedelta(hours=23))
    half = content[: PART_BYTES + 1]
    moved = [(await shop.received(upload, half))[0] for upload in (bound, free)]
    assert {upload.received_bytes for upload in moved} == {PART_BYTES}
    clock.advance(timedelta(hours=1))
    with pytest.raises(NotFound):
        await shop.received(moved[0], content)
    assert (await shop.received(moved[1], content))[1].is_complete


async def test_what_is_due_waits_for_governance_and_is_not_read_meanwhile(
    shop: Workshop, clock: FakeClock
) -> None:
    file = await shop.uploaded(GOOD, Retention("dec_1", job_bound_us=clock.now_us()))
    clock.advance(DAY)
    shop.rules.reachable = False
    with pytest.raises(Unavailable):
        await shop.keep_up()
    with pytest.raises(NotFound):
        await shop.content(file)
    assert await shop.states() == ["READY"]
    shop.rules.reachable = True
    shop.rules.held.add(file.file_id)
    await shop.keep_up()
    assert await shop.states() == ["HELD"]


async def test_nothing_is_left_in_storage_that_no_row_owns(shop: Workshop, clock: FakeClock) -> None:
    content = b"\n".join([GOOD] * (2 * PART_BYTES // len(GOOD)))
    upload = await shop.announced(content)
    half, first = await shop.received(upload, content[: PART_BYTES + (2 << 20)])
    await first._writer.finish()  # a part that was never acknowledged
    del first
    half, second = await shop.received(half, content)
    finished = await second.finish()
    assert finished is not None
    _, file = await shop.write(
        lambda store: shop.files.complete(store, CALL, half, second.runs, *finished, PLAIN)
    )
    await shop.storage.put("blobs/blob_nobody/00000000-1", b"x")
    (shop.folder / "objects/blobs/draft#1").write_bytes(b"x")
    given_up = await shop.announced(content)
    await shop.received(given_up, content)
    before = len(shop.objects())
    await shop.keep_up()
    assert await shop.content(file) == content
    assert len(shop.objects()) == before - 3
    clock.advance(timedelta(hours=49))
    await shop.keep_up()
    assert await shop.content(file) == content
    assert sorted(await shop.states()) == ["ERASED", "READY"]
    assert len(shop.objects()) == -(-len(content) // PART_BYTES)


async def test_a_deleted_workspace_takes_its_files_along(shop: Workshop) -> None:
    file, upload = await shop.uploaded(GOOD), await shop.announced(GOOD)

    def end(store: FileStore) -> None:
        store.bury(file.organization_id, file.workspace_id)
        store.end_tenant(file.organization_id, file.workspace_id)

    await shop.write(end)
    with pytest.raises(NotFound):
        await shop.content(file)
    with pytest.raises(NotFound):
        await shop.received(upload, GOOD)
    with pytest.raises(NotFound):
        await shop.announced(GOOD)
    await shop.keep_up()
    assert await shop.states() == ["ERASED", "ERASED"]
    assert not shop.objects()


async def test_a_lost_vault_key_loses_its_content_and_new_content_gets_another(shop: Workshop) -> None:
    file = await shop.uploaded(GOOD)
    for path in shop.key_files():
        path.unlink()
    with pytest.raises(Unavailable):
        await shop.content(file)
    assert await shop.content(await shop.uploaded(GOOD)) == GOOD
    assert BlobState.READY in await shop.states()


async def test_a_hold_on_a_model_keeps_its_artifacts(shop: Workshop) -> None:
    file = await shop.uploaded(GOOD)
    insert = (
        "INSERT INTO artifacts (blob_id, job_id, model_id, kind, name, bytes, sha256, create_time) "
        f"VALUES ('{file.blob_id}', 'job_1', 'mdl_1', 'WEIGHTS', 'w', 1, '', 0)"
    )
    await shop.database.write(lambda tx: tx.driver_execute(insert))
    await shop.write(lambda store: store.drop_blobs([file.blob_id], held=True))
    shop.rules.held.add("mdl_1")
    await shop.keep_up()
    assert await shop.states() == ["HELD"]
    shop.rules.held.clear()
    await shop.keep_up()
    assert await shop.states() == ["ERASED"]


@pytest.mark.parametrize("shared", [True, False])
async def test_a_key_never_retires_under_what_is_being_begun(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch, shared: bool
) -> None:
    if shop.database.dialect == "sqlite":
        pytest.skip("SQLite has one writer")
    await shop.delete(await shop.uploaded(GOOD))
    has_key, erased = threading.Event(), threading.Event()
    read = shop.vault.read

    def slowly(key_id: str) -> bytes | None:
        secret = read(key_id)
        if not has_key.is_set():
            has_key.set()
            erased.wait(0.5)
        return secret

    monkeypatch.setattr(shop.vault, "read", slowly)
    if not shared:  # the racy variant: what is begun without the lock is lost with the key
        monkeypatch.setattr(FileStore, "open_key", unlocked)
    beginning = asyncio.ensure_future(shop.announced(GOOD))
    await asyncio.to_thread(has_key.wait, 5)
    await shop.keep_up()
    erased.set()
    upload = await beginning
    if shared:
        assert (await shop.received(upload, GOOD))[1].is_complete
    else:
        with pytest.raises(Unavailable):
            await shop.received(upload, GOOD)


def unlocked(store: FileStore, workspace_id: str) -> WorkspaceKey | None:
    row = store.tx.driver_execute(
        "SELECT id, organization_id FROM workspace_keys WHERE workspace_id = %s AND state = 'OPEN'",
        (workspace_id,),
    ).first()
    return None if row is None else WorkspaceKey(row.id, row.organization_id, workspace_id)
