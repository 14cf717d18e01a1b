import asyncio
import itertools
from dataclasses import replace
from datetime import timedelta

import pytest

from perron.chassis.database import Database
from perron.chassis.errors import NotFound, PerronError, ResourceExhausted
from perron.chassis.events import Event
from perron.chassis.testing import BOTH, FakeClock
from perron.finetuning import entitlements, following
from perron.finetuning.entitlements import Allowance
from perron.finetuning.model import (
    ArtifactKind,
    Capabilities,
    FailureReason,
    Job,
    JobState,
    Metrics,
    MetricSource,
    Progress,
)
from perron.finetuning.states import FINAL, TRANSITIONS, Verb
from perron.finetuning.store import Store
from perron.finetuning.worker_leases import Cancel, Report
from tests.scale import times
from tests.unit.finetuning.platform import (
    DECISION,
    ENTITLEMENTS,
    ORGANIZATION,
    TTL,
    WORKER,
    WORKSPACE,
    Platform,
    caller,
    reference,
    service,
    wanted,
)

both = pytest.mark.parametrize("database", BOTH, indirect=True)


def test_every_state_is_reached_and_no_verb_leads_out_of_a_final_one() -> None:
    assert {state for state, _ in TRANSITIONS} == set(JobState) - FINAL
    assert set(TRANSITIONS.values()) == set(JobState) - {JobState.QUEUED}
    assert {verb for _, verb in TRANSITIONS} == set(Verb)


def test_every_job_that_has_not_ended_can_be_ended() -> None:
    ends = (Verb.CANCEL, Verb.ACKNOWLEDGE)
    assert all(any((state, verb) in TRANSITIONS for verb in ends) for state in set(JobState) - FINAL)


@both
async def test_no_number_of_callers_gets_more_jobs_than_the_plan_gives(database: Database) -> None:
    platform = Platform(database)
    file_id = await platform.file()
    call = caller(ENTITLEMENTS | {"fine_tuning_jobs": "3"})

    async def create() -> PerronError | None:
        try:
            await platform.create(file_id, call=call)
        except PerronError as error:
            return error
        return None

    outcomes = await asyncio.gather(*(create() for _ in range(times(24, 200))))

    assert [error is None for error in outcomes].count(True) == 3
    assert {type(error) for error in outcomes if error is not None} == {ResourceExhausted}


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
async def test_without_its_lock_the_count_of_jobs_lets_too_many_in(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The racy variant: what the lock of the organization's row is for (SQLite has one writer anyway)."""
    platform = Platform(database)
    file_id = await platform.file()
    call = caller(ENTITLEMENTS | {"fine_tuning_jobs": "1"})
    both_counted = asyncio.Barrier(2)
    loop = asyncio.get_running_loop()

    def unlocked(store: Store, organization_id: str, given: Allowance) -> None:
        few = store.count_open_jobs(organization_id) < given.jobs_max
        asyncio.run_coroutine_threadsafe(both_counted.wait(), loop).result(timeout=10)
        assert few

    monkeypatch.setattr(entitlements, "require_job", unlocked)

    await asyncio.gather(*(platform.create(file_id, call=call) for _ in range(2)))

    assert await platform.read(lambda store: store.count_open_jobs(ORGANIZATION)) == 2


@both
async def test_stored_bytes_are_bounded_exactly(database: Database) -> None:
    platform = Platform(database)
    for number in range(1, 4):
        await platform.file(number)

    await platform.write(lambda store: entitlements.require_bytes(store, ORGANIZATION, 700, 1000))
    with pytest.raises(ResourceExhausted):
        await platform.write(lambda store: entitlements.require_bytes(store, ORGANIZATION, 701))


@both
async def test_a_deleted_workspace_ends_its_jobs_and_tells_the_worker(database: Database) -> None:
    platform = Platform(database)
    job = await platform.create(await platform.file())
    lent = await platform.lend()
    queued = await platform.create(await platform.file(2))
    event = Event(1, "workspace.deleted", 0, ORGANIZATION, WORKSPACE)
    follow = following.of_identity(platform.jobs, platform.models)

    for _ in range(2):  # an event may come again
        await database.write(lambda tx: follow(tx, event))

    for job_id in (job.job_id, queued.job_id):
        ended = await platform.read(lambda store, job_id=job_id: store.job(WORKSPACE, job_id))  # type: ignore[misc]
        assert (ended.state, ended.failure_reason) == (JobState.FAILED, FailureReason.WORKSPACE_ENDED)
    report = Report(reference(lent), Progress(1, 9, 10), ())
    assert (
        await platform.write(lambda store: platform.leases.report(store, report))
    ).cancel is Cancel.WORKSPACE_ENDED
    with pytest.raises(NotFound):
        await platform.create(await platform.file(3))


@both
async def test_a_file_is_needed_by_jobs_that_run_and_not_by_those_that_wait_for_their_owner(
    database: Database, clock: FakeClock
) -> None:
    platform = Platform(database)
    file_id = await platform.file()
    assert await platform.read(lambda store: store.file_needed_until_us(file_id)) == 0

    held = replace(wanted(file_id), auto_start=False)
    waiting = await platform.create_of(held)
    await platform.write(platform.jobs.validate)
    assert await platform.read(lambda store: store.file_needed_until_us(file_id)) == 0
    await platform.write(lambda store: platform.jobs.start(store, caller(), waiting.job_id))
    assert await platform.read(lambda store: store.file_needed_until_us(file_id)) == clock.now_us()

    lent = await platform.lend()
    ended_us = clock.now_us()
    await platform.complete(lent)
    clock.advance(timedelta(hours=1))
    assert await platform.read(lambda store: store.file_needed_until_us(file_id)) == ended_us


@both
async def test_a_lease_that_ran_out_in_a_cancellation_ends_the_job(
    database: Database, clock: FakeClock
) -> None:
    platform = Platform(database)
    job = await platform.create(await platform.file())
    await platform.lend()
    await platform.write(lambda store: platform.jobs.cancel(store, caller(), job.job_id))
    clock.advance(TTL)

    await platform.write(platform.leases.reclaim)

    assert (await platform.read(lambda store: store.job(WORKSPACE, job.job_id))).state is JobState.CANCELLED


@both
async def test_a_job_that_ended_keeps_weights_and_drops_what_only_a_training_needs(
    database: Database,
) -> None:
    platform = Platform(database)
    job = await platform.create(await platform.file())
    lent = await platform.lend()
    blobs = [
        await platform.weights(job.job_id),
        await platform.weights(job.job_id, kind=ArtifactKind.STATE),
    ]
    checkpoint = Report(reference(lent), None, (), checkpoint_step=3, checkpoint_blobs=tuple(blobs))
    await platform.write(lambda store: platform.leases.report(store, checkpoint))
    never_named = await platform.weights(job.job_id)

    await platform.complete(lent)

    states = await platform.read(lambda store: store.states_of([*blobs, never_named]))
    assert [states[blob_id][0].value for blob_id in (*blobs, never_named)] == [
        "READY",
        "DROPPING",
        "DROPPING",
    ]


@both
async def test_checkpoints_of_a_job_that_failed_are_kept_under_its_decision(database: Database) -> None:
    platform = Platform(database)
    job = await platform.create(await platform.file())
    lent = await platform.lend()
    blobs = (await platform.weights(job.job_id),)
    checkpoint = Report(reference(lent), None, (), checkpoint_step=3, checkpoint_blobs=blobs)
    await platform.write(lambda store: platform.leases.report(store, checkpoint))
    failed = await platform.write(
        lambda store: platform.leases.give_back(
            store, service(), reference(lent), FailureReason.DIVERGED, retriable=False, description=""
        )
    )

    (left,) = await platform.read(lambda store: store.checkpoints(job.job_id, None, 10))

    assert failed.state is JobState.FAILED
    assert (failed.decision_id, left.decision_id) == (DECISION, DECISION)


@both
async def test_a_job_is_lent_to_one_of_many_workers(database: Database) -> None:
    platform = Platform(database)
    await platform.create(await platform.file())

    lent = await asyncio.gather(
        *(platform.write(lambda store: platform.leases.lend(store, WORKER)) for _ in range(16))
    )

    assert sum(one is not None for one in lent) == 1


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
async def test_without_the_lock_two_workers_are_lent_the_same_job(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The racy variant: what the row's lock is for (SQLite has one writer anyway)."""
    platform = Platform(database)
    job = await platform.create(await platform.file())
    both_found, apart = asyncio.Barrier(2), itertools.count(step=10)
    loop = asyncio.get_running_loop()

    def unlocked(store: Store, _: Capabilities) -> Job:
        found = store.job(WORKSPACE, job.job_id)
        asyncio.run_coroutine_threadsafe(both_found.wait(), loop).result(timeout=10)
        return replace(found, events=found.events + next(apart))  # else the numbers of events collide

    monkeypatch.setattr(Store, "lock_next", unlocked)

    lent = await asyncio.gather(
        *(platform.write(lambda store: platform.leases.lend(store, WORKER)) for _ in range(2))
    )

    assert {one.job.job_id for one in lent if one is not None} == {job.job_id}
    assert [one.job.lease.fencing_token for one in lent if one is not None] == [1, 1]


@both
async def test_the_rate_that_a_worker_measured_makes_the_next_estimate(database: Database) -> None:
    platform = Platform(database)
    first = await platform.create(await platform.file())
    assert first.estimate.seconds == 0
    lent = await platform.lend()
    blob_id = await platform.weights(first.job_id)
    measured = Metrics(MetricSource.TRAINING, 9, 1.0, 0.5, 0.0, 1500.0)
    await platform.write(
        lambda store: platform.leases.complete(
            store, service(), reference(lent), [blob_id], Progress(9, 9, 3000), [measured]
        )
    )

    second = await platform.create(await platform.file(2))

    assert (second.estimate.tokens, second.estimate.seconds) == (3000, 2.0)
    assert second.estimate.cost_micros == 7500
