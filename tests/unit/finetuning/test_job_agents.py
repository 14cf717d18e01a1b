"""What a job promised is kept sealed, made after its success and told once; both stores."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from perron.chassis.database import Database
from perron.chassis.errors import (
    AlreadyExists,
    FailedPrecondition,
    Internal,
    NotFound,
    PerronError,
    ResourceExhausted,
    Unavailable,
)
from perron.chassis.events import Event
from perron.chassis.leases import Lease, Leases
from perron.chassis.testing import BOTH
from perron.finetuning import following, job_agents, tables
from perron.finetuning.agent_making import AgentMaking
from perron.finetuning.job_agent_model import AgentState, WantedAgent
from perron.finetuning.job_agents import JobAgents
from perron.finetuning.model import EventKind, FailureReason, Job, JobState, Model
from perron.finetuning.moves import as_of, has_ended
from perron.finetuning.peers import Agents
from perron.finetuning.store import Store
from tests.unit.finetuning.platform import (
    ENTITLEMENTS,
    ORGANIZATION,
    WORKSPACE,
    Platform,
    caller,
    identifier,
    wanted,
)
from tests.unit.finetuning.workshop import Workshop

both = pytest.mark.parametrize("database", BOTH, indirect=True)
AGENT, TAKEN = identifier("agt", 1), AlreadyExists("NAME_TAKEN", "the workspace has this name already")
CONFIGURATION = b"\x1a\x1eSpeak of the lighthouse alone."
KEEPER = WantedAgent("Keeper", name_attested=True, configuration=CONFIGURATION)


async def promised(platform: Platform, number: int = 1) -> Job:
    """A job that waits for a worker, and is to make an agent."""
    command = replace(wanted(await platform.file(number)), agent=KEEPER)
    job = await platform.create_of(command)
    await platform.write(platform.jobs.validate)
    return job


async def succeeded(platform: Platform, number: int = 1) -> Job:
    job = await promised(platform, number)
    await platform.complete(await platform.lend())
    return await found(platform, job)


async def found(platform: Platform, job: Job) -> Job:
    return await platform.read(lambda store: store.job(WORKSPACE, job.job_id))


async def blob_state(platform: Platform, job: Job) -> str:
    blobs = tables.blobs
    query = select(blobs.c.state).where(blobs.c.owner_id == job.job_id, blobs.c.kind == "AGENT")
    return str(await platform.read(lambda store: store.tx.execute(query).scalar_one()))


async def rows(platform: Platform) -> str:
    """Everything that the store holds."""

    def read(store: Store) -> str:
        return repr([store.tx.execute(select(table)).all() for table in tables.metadata.sorted_tables])

    return await platform.read(read)


@both
async def test_what_an_agent_is_told_stands_nowhere_unsealed(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    platform = Platform(database)
    job = await succeeded(platform)
    assert "lighthouse" not in await rows(platform)
    assert "lighthouse" not in repr(KEEPER)
    monkeypatch.setattr(job_agents, "seal", lambda key, content, bound: content)
    await promised(platform, 2)
    assert "lighthouse" in await rows(platform)  # had it not been sealed

    model, configuration = await platform.read(lambda store: platform.job_agents.open(store, job))

    assert (model.model_id, configuration) == (job.model_id, CONFIGURATION)


@both
async def test_an_agent_is_due_when_its_job_has_succeeded_and_not_before(database: Database) -> None:
    platform = Platform(database)
    job = await promised(platform)

    async def due() -> list[str]:
        jobs = await platform.read(lambda store: platform.job_agents.due(store, "", 10))
        return [one.job_id for one in jobs]

    assert await due() == []
    await platform.complete(await platform.lend())
    assert await due() == [job.job_id]
    assert not has_ended(await found(platform, job))
    await platform.write(lambda store: platform.job_agents.settle(store, job, AGENT))
    assert await due() == []
    assert has_ended(await found(platform, job))


@both
@pytest.mark.parametrize(
    ("outcome", "state", "reason", "agent_id", "left"),
    [
        (AGENT, AgentState.MADE, "", AGENT, "DROPPING"),
        (TAKEN, AgentState.NOT_MADE, "NAME_TAKEN", "", "HELD"),
    ],
)
async def test_what_became_of_an_agent_is_told_once_with_its_event_and_entry(
    database: Database, outcome: str | PerronError, state: AgentState, reason: str, agent_id: str, left: str
) -> None:
    platform = Platform(database)
    job = await succeeded(platform)

    for late in (outcome, NotFound("RESOURCE_NOT_FOUND", "late"), identifier("agt", 2)):
        await platform.write(lambda store, late=late: platform.job_agents.settle(store, job, late))  # type: ignore[misc]

    told = await found(platform, job)
    assert told.agent is not None
    assert (told.state, told.agent.state) == (JobState.SUCCEEDED, state)
    assert (told.agent.reason, told.agent.agent_id) == (reason, agent_id)
    events = await platform.read(lambda store: store.events(job.job_id, 0, 100))
    before, after = (as_of(told, event).agent for event in events[-2:])
    assert before is not None
    assert (before.state, after, told.events) == (AgentState.PROMISED, told.agent, len(events))
    assert await blob_state(platform, job) == left
    written = await rows(platform)
    what = f"job.agent_{state.lower()}"
    assert written.count(f"'{what}'") == 2  # the entry of the audit, and the event for other services


@both
async def test_whatever_answers_come_at_once_one_is_told(database: Database) -> None:
    platform = Platform(database)
    job = await succeeded(platform)
    outcomes: list[str | PerronError] = [identifier("agt", number) for number in range(1, 8)] + [TAKEN]

    await asyncio.gather(
        *(
            platform.write(lambda store, one=one: platform.job_agents.settle(store, job, one))  # type: ignore[misc]
            for one in outcomes
        )
    )

    events = await platform.read(lambda store: store.events(job.job_id, 0, 100))
    succeeded_so = [one for one in events if one.kind is EventKind.STATE and one.body["state"] == "SUCCEEDED"]
    assert len(succeeded_so) == 2


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
async def test_without_the_lock_two_answers_would_both_be_told(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The racy variant: what the lock of the job's row is for (SQLite has one writer anyway)."""
    platform = Platform(database)
    job = await succeeded(platform)
    both_read, loop = asyncio.Barrier(2), asyncio.get_running_loop()
    apart = iter((0, 10))

    def unlocked(store: Store, workspace_id: str, job_id: str) -> Job:
        seen = store.job(workspace_id, job_id)
        asyncio.run_coroutine_threadsafe(both_read.wait(), loop).result(timeout=10)
        return replace(seen, events=seen.events + next(apart))  # else the numbers of events collide

    monkeypatch.setattr(Store, "lock_job", unlocked)
    await asyncio.gather(
        *(
            platform.write(lambda store, one=one: platform.job_agents.settle(store, job, one))  # type: ignore[misc]
            for one in (AGENT, TAKEN)
        )
    )

    assert (await rows(platform)).count("'job.agent_") == 4


async def fail(platform: Platform, job: Job) -> None:
    file_id = job.files[0].file_id
    await platform.write(lambda store: platform.jobs.file_gone(store, file_id, FailureReason.FILE_GONE))


async def cancel(platform: Platform, job: Job) -> None:
    await platform.write(lambda store: platform.jobs.cancel(store, caller(), job.job_id))


@both
@pytest.mark.parametrize("end", [fail, cancel])
async def test_a_job_that_does_not_succeed_keeps_nothing_of_its_agent(
    database: Database, end: Callable[[Platform, Job], Any]
) -> None:
    platform = Platform(database)
    job = await promised(platform)

    await end(platform, job)

    ended = await found(platform, job)
    assert ended.agent is not None
    assert (ended.agent.state, ended.agent.reason) == (AgentState.NOT_MADE, "")
    assert has_ended(ended)
    assert await blob_state(platform, job) == "HELD"  # until governance, asked, says that nothing holds it


@both
async def test_a_deleted_workspace_takes_its_promises_along(database: Database) -> None:
    platform = Platform(database)
    done, waiting = await succeeded(platform), await promised(platform, 2)
    follow = following.of_identity(platform.jobs, platform.models)

    for _ in range(2):  # an event may come again
        await database.write(lambda tx: follow(tx, Event(1, "workspace.deleted", 0, ORGANIZATION, WORKSPACE)))

    for job, reason in ((done, "RESOURCE_NOT_FOUND"), (waiting, "")):
        agent = (await found(platform, job)).agent
        assert agent is not None
        assert (agent.state, agent.reason) == (AgentState.NOT_MADE, reason)
        assert await blob_state(platform, job) == "HELD"
    before = await found(platform, done)
    await platform.write(lambda store: platform.job_agents.settle(store, done, AGENT))
    assert await found(platform, done) == before


@both
async def test_over_a_deleted_model_nothing_is_made(database: Database) -> None:
    platform = Platform(database)
    job = await succeeded(platform)
    await platform.write(lambda store: platform.models.delete(store, caller(), job.model_id, held=False))

    with pytest.raises(FailedPrecondition) as refusal:
        await platform.read(lambda store: platform.job_agents.open(store, job))

    assert refusal.value.reason == "MODEL_DELETED"


@both
async def test_what_an_agent_is_told_counts_as_stored(database: Database) -> None:
    platform = Platform(database)
    file_id = await platform.file()
    call = caller(ENTITLEMENTS | {"fine_tuning_bytes": str(100 + len(CONFIGURATION) - 1)})

    command = replace(wanted(file_id), agent=KEEPER)
    for ask in (
        platform.read(lambda store: platform.jobs.foresee(store, call, command)),
        platform.create_of(command, call),
    ):
        with pytest.raises(ResourceExhausted) as refusal:
            await ask
        assert refusal.value.reason == "STORED_BYTES_EXCEEDED"
    await platform.create_of(wanted(file_id), call)


class Answers(Agents):
    """An agents service that answers some jobs."""

    def __init__(self, **answers: str | PerronError) -> None:
        super().__init__(None)
        self.answers = answers
        self.asked: list[str] = []

    async def make(self, job: Job, model: Model, configuration: bytes) -> str:
        self.asked.append(job.job_id)
        answer = self.answers[job.job_id]
        if isinstance(answer, PerronError):
            raise answer
        return answer


class Forgetful(AgentMaking):
    """Begins every round with the first job."""

    async def make_due(self, lease: Lease) -> bool:
        self._after = ""
        return await super().make_due(lease)


@both
@pytest.mark.parametrize("making", [AgentMaking, Forgetful])
@pytest.mark.parametrize("stuck", [Unavailable("PEER_UNAVAILABLE", "x"), Internal("INTERNAL", "x")])
async def test_a_job_that_gets_no_answer_waits_and_keeps_no_other_waiting(
    database: Database, making: type[AgentMaking], stuck: PerronError
) -> None:
    platform = Platform(database)
    first, second, third = [await succeeded(platform, number) for number in (1, 2, 3)]
    agents = Answers(**{first.job_id: stuck, second.job_id: TAKEN, third.job_id: AGENT})
    work = making(database, platform.job_agents, agents)
    lease = await Leases(database).acquire("agents")
    assert lease is not None

    for _ in range(4):
        try:
            await work.make_due(lease)
        except type(stuck):
            pass

    states = [
        one.agent.state for one in [await found(platform, job) for job in (first, second, third)] if one.agent
    ]
    if making is Forgetful:  # what remembering the place is for
        assert states == [AgentState.PROMISED] * 3
        return
    assert states == [AgentState.PROMISED, AgentState.NOT_MADE, AgentState.MADE]
    agents.answers[first.job_id] = identifier("agt", 3)
    for _ in range(2):
        await work.make_due(lease)
    assert (await found(platform, first)).agent != first.agent
    assert agents.asked.count(third.job_id) == 1


@both
async def test_an_installation_that_has_lost_its_agents_says_so(database: Database) -> None:
    platform = Platform(database)
    job = await succeeded(platform)
    lease = await Leases(database).acquire("agents")
    assert lease is not None

    await AgentMaking(database, platform.job_agents, Agents(None)).make_due(lease)

    told = (await found(platform, job)).agent
    assert told is not None
    assert (told.state, told.reason) == (AgentState.NOT_MADE, "AGENT_NOT_AVAILABLE")


@both
async def test_what_no_agent_needs_is_erased_when_no_hold_keeps_it(
    database: Database, tmp_path: Path
) -> None:
    workshop, platform = Workshop(database, tmp_path), Platform(database)
    platform.job_agents = JobAgents(workshop.blobs)
    platform.jobs._job_agents = platform.job_agents
    job = await promised(platform)
    (old,) = workshop.key_files()
    workshop.rules.held.add(job.job_id)
    await cancel(platform, job)
    await workshop.keep_up()
    assert (await blob_state(platform, job), workshop.key_files()) == ("HELD", [old])

    workshop.rules.held.clear()
    await workshop.keep_up()

    assert (await blob_state(platform, job), old.exists()) == ("ERASED", False)
    with pytest.raises(NotFound):
        await platform.read(lambda store: store.configuration(job.job_id))
