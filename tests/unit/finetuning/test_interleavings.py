"""Owner, worker and clock come to one job at the same instant: it ends once, and tells of everything once."""

import asyncio
import random
from collections.abc import Callable
from datetime import timedelta

import pytest

from perron.chassis.database import Database
from perron.chassis.errors import PerronError
from perron.chassis.testing import BOTH, FakeClock
from perron.finetuning.model import EventKind, FailureReason, JobState, Metrics, MetricSource, Progress
from perron.finetuning.states import FINAL
from perron.finetuning.store import Store
from perron.finetuning.worker_leases import LeaseReference, Report
from tests.scale import times
from tests.unit.finetuning.platform import TTL, WORKER, WORKSPACE, Platform, caller, reference, service

DONE = Progress(9, 9, 3000)
LOSS = Metrics(MetricSource.TRAINING, 9, 1.0, 0.5, 0.0, 100.0)


@pytest.mark.parametrize("database", BOTH, indirect=True)
async def test_whatever_comes_at_once_a_job_ends_once(database: Database, clock: FakeClock) -> None:
    platform = Platform(database)
    chance = random.Random(7)
    ends = set()
    for number in range(1, times(12, 500)):
        file_id = await platform.file(number)
        job = await platform.create(file_id)
        lent = await platform.lend()
        lease, blob_id = reference(lent), await platform.weights(job.job_id)
        clock.advance(chance.choice([timedelta(0), TTL]))
        words: list[Callable[[Store], object]] = [
            lambda store, job_id=job.job_id: platform.jobs.cancel(store, caller(), job_id),  # type: ignore[misc]
            lambda store, lease=lease: platform.leases.report(store, Report(lease, DONE, (LOSS,))),  # type: ignore[misc]
            lambda store, lease=lease, blob_id=blob_id: platform.leases.complete(  # type: ignore[misc]
                store, service(), lease, [blob_id], DONE, (LOSS,)
            ),
            lambda store, lease=lease: give_back(platform, store, lease),  # type: ignore[misc]
            platform.leases.reclaim,
            lambda store: platform.leases.lend(store, WORKER),
            lambda store, file_id=file_id: platform.jobs.file_gone(store, file_id, FailureReason.FILE_GONE),  # type: ignore[misc]
        ]
        said = chance.sample(words, 4)

        outcomes = await asyncio.gather(*(platform.write(word) for word in said), return_exceptions=True)

        assert [
            one for one in outcomes if isinstance(one, Exception) and not isinstance(one, PerronError)
        ] == []
        ends.add(await told_once(platform, job.job_id))
        await platform.write(
            lambda store, file_id=file_id: platform.jobs.file_gone(store, file_id, FailureReason.FILE_GONE)
        )  # type: ignore[misc]
    assert len(ends) > 2


def give_back(platform: Platform, store: Store, lease: LeaseReference) -> object:
    reason = FailureReason.TRAINER_FAILED
    return platform.leases.give_back(store, service(), lease, reason, retriable=True, description="")


async def told_once(platform: Platform, job_id: str) -> JobState:
    """Where the job stands, once its events were looked through."""
    job = await platform.read(lambda store: store.job(WORKSPACE, job_id))
    events = await platform.read(lambda store: store.events(job_id, 0, 100))
    models = await platform.read(lambda store: store.models(WORKSPACE, job_id, "", 10))
    states = [JobState(str(event.body["state"])) for event in events if event.kind is EventKind.STATE]
    assert [event.number for event in events] == list(range(1, len(events) + 1))
    assert (job.events, job.state) == (len(events), states[-1])
    assert sum(state in FINAL for state in states) == (job.state in FINAL)
    assert sum(event.kind is EventKind.METRICS for event in events) <= 1
    assert [model.model_id for model in models] == ([job.model_id] if job.state is JobState.SUCCEEDED else [])
    return job.state
