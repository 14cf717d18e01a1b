"""A job that succeeds makes the agent that it promised, once or says why not; with the real agents beside."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from perron.agents.authoring import Authoring
from perron.agents.version_store import VersionStore
from perron.api.agents.v1 import agent_pb2, agent_service_pb2, configuration_pb2
from perron.api.common.v1 import error_reason_pb2
from perron.api.finetuning.v1 import job_pb2, model_service_pb2
from perron.api.finetuning.v1 import job_service_pb2 as pb
from perron.chassis.clock import SystemClock
from perron.chassis.errors import PerronError
from perron.chassis.testing import FakeClock
from perron.finetuning import app
from perron.finetuning.job_agents import JobAgents
from perron.finetuning.model import Job
from perron.finetuning.store import Store
from tests.contract.agents.world import RESTRICTED, Member, refused
from tests.contract.finetuning.beside_agents import Both, running
from tests.contract.finetuning.stand_in import bearer

CANARY = "Speak of the lighthouse alone."
ONE = "0192f0c1-7d0b-7c3f-9f0a-5d1c6a8e2b47"
PROMISED, MADE, NOT_MADE = (
    job_pb2.PromisedAgent.STATE_PROMISED,
    job_pb2.PromisedAgent.STATE_MADE,
    job_pb2.PromisedAgent.STATE_NOT_MADE,
)


@pytest.fixture
def every() -> timedelta:
    """How often agents are made by the service itself; seldom where a test does it by its own hand."""
    return timedelta(milliseconds=20)


@pytest.fixture
async def both(
    tmp_path: Path, clock: FakeClock, every: timedelta, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Both]:
    monkeypatch.setattr(app, "_AGENTS_EVERY", every)
    async with running(tmp_path, clock) as both:
        yield both


@pytest.fixture
def ada(both: Both) -> Member:
    return both.join("ada")


by_hand = pytest.mark.parametrize("every", [timedelta(days=1)])


def wanted(name: str = "Keeper", **configuration: Any) -> job_pb2.JobAgent:
    return job_pb2.JobAgent(
        display_name=name,
        name_attested=True,
        configuration=configuration_pb2.AgentConfiguration(**{"instructions": CANARY} | configuration),
    )


async def promised(both: Both, **fields: Any) -> Any:
    """A job of ada's that is to make an agent."""
    file = await both.finetuning.upload("ada")
    return await both.finetuning.create_job("ada", [file.file_id], **{"agent": wanted()} | fields)


async def settled(both: Both, job_id: str) -> Any:
    """The job as the last event tells of it, once there will be no other."""
    request = pb.WatchJobRequest(job_id=job_id)
    events = [
        event
        async for message in both.finetuning.jobs.WatchJob(request, metadata=bearer("ada"))
        for event in message.events
    ]
    assert [event.number for event in events] == list(range(1, len(events) + 1))
    return events[-1].job


def why(job: Any) -> str:
    return error_reason_pb2.ErrorReason.Name(job.agent.reason).removeprefix("ERROR_REASON_")


async def test_a_job_that_succeeds_makes_its_agent_over_its_model_and_for_its_owner(
    both: Both, ada: Member, caplog: pytest.LogCaptureFixture
) -> None:
    job = await promised(both)
    assert (job.agent.display_name, job.agent.state, job.agent_id) == ("Keeper", PROMISED, "")
    model_id = await both.succeed(job.job_id)
    done = await settled(both, job.job_id)

    assert (done.state, done.agent.state) == (job_pb2.Job.STATE_SUCCEEDED, MADE)
    assert done == await both.finetuning.job("ada", job.job_id)
    (agent,) = await both.agents_of(ada)
    assert (agent.agent_id, agent.owner_member_id) == (done.agent_id, ada.member_id)
    assert agent.source.kind == agent_pb2.AgentSource.KIND_FINE_TUNING_JOB
    assert (agent.source.job_id, agent.source.model_id) == (job.job_id, model_id)

    resolved = await both.world.resolve(ada, agent.agent_id)
    model = await both.finetuning.models.GetModel(
        model_service_pb2.GetModelRequest(model_id=model_id), metadata=bearer("ada")
    )
    assert (resolved.model, resolved.configuration.instructions) == (model.model.name, CANARY)

    await both.finetuning.models.DeleteModel(
        model_service_pb2.DeleteModelRequest(model_id=model_id), metadata=bearer("ada")
    )
    assert (await refused(both.world.resolve(ada, agent.agent_id))).reason == "MODEL_DELETED"
    assert CANARY not in caplog.text
    assert [path for path in both.folder.rglob("*") if holds(path, CANARY)] == []


def holds(path: Path, text: str) -> bool:
    return path.is_file() and text.encode() in path.read_bytes()


@pytest.mark.parametrize("dry_run", [False, True])
@pytest.mark.parametrize(
    ("fields", "reason", "field"),
    [
        ({"name": "Taken"}, "NAME_TAKEN", "agent.display_name"),
        ({"name": "ACME desk"}, "NAME_RESERVED", "agent.display_name"),
        ({"name": "a\u200bb"}, "FIELD_INVALID", "agent.display_name"),
        ({"instructions": "\x00"}, "FIELD_INVALID", "agent.configuration.instructions"),
        ({"instructions": "x" * 65537}, "FIELD_INVALID", "agent.configuration.instructions"),
        ({"model": "small"}, "FIELD_INVALID", "agent.configuration.model"),
        (
            {"tools": [{"function": {"name": "f", "parameters_schema": "{"}}]},
            "TOOL_SCHEMA_INVALID",
            "agent.configuration.tools[0].function.parameters_schema",
        ),
        ({"handoff_agent_ids": ["agt_00000000000000000000000009"]}, "HANDOFF_UNKNOWN", "agent"),
    ],
)
async def test_an_agent_that_could_not_be_made_is_refused_before_anything_is_trained(
    both: Both, ada: Member, fields: dict[str, Any], reason: str, field: str, *, dry_run: bool
) -> None:
    await both.world.create(ada, "Taken")
    await both.world.agents.SetReservedNames(
        agent_service_pb2.SetReservedNamesRequest(add=["Acme"]), metadata=both.world.operator("ADMIN")
    )

    error = await refused(promised(both, agent=wanted(**fields), dry_run=dry_run))

    assert (error.reason, [one.field for one in error.violations]) == (reason, [field])
    listed = await both.finetuning.jobs.ListJobs(pb.ListJobsRequest(), metadata=bearer("ada"))
    assert (len(listed.jobs), len(await both.agents_of(ada))) == (0, 1)


async def test_nobody_gets_an_agent_through_a_job_who_would_get_none_without(both: Both, ada: Member) -> None:
    unattested = wanted()
    unattested.name_attested = False
    error = await refused(promised(both, agent=unattested))
    assert (error.reason, error.violations[0].field) == ("NAME_NOT_ATTESTED", "agent.name_attested")

    private = await both.world.create(both.join("bob"), "Bob's")
    await both.world.share(both.join("bob", member_id=private.owner_member_id), private.agent_id, RESTRICTED)
    error = await refused(promised(both, agent=wanted(handoff_agent_ids=[private.agent_id])))
    assert (error.reason, error.metadata["agent"]) == ("HANDOFF_UNKNOWN", private.agent_id)

    both.join("ada", scopes=("FINE_TUNING_READ", "FINE_TUNING_WRITE"))
    error = await refused(promised(both))
    assert (error.code, error.metadata["scope"]) == ("PERMISSION_DENIED", "AGENTS_WRITE")
    await promised(both, agent=None)


async def test_a_dry_run_of_what_could_be_made_makes_nothing(both: Both, ada: Member) -> None:
    assert (await promised(both, dry_run=True)).agent.state == PROMISED
    assert await both.agents_of(ada) == []


async def test_agents_that_do_not_answer_refuse_the_promise_and_delay_what_was_promised(
    both: Both, ada: Member
) -> None:
    job = await promised(both)
    await both.stop_agents()
    error = await refused(promised(both))
    assert (error.reason, error.metadata["peer"]) == ("PEER_UNAVAILABLE", "agents")
    await both.succeed(job.job_id)
    done = await both.finetuning.job("ada", job.job_id)
    assert (done.state, done.agent.state) == (job_pb2.Job.STATE_SUCCEEDED, PROMISED)

    await both.start_agents()

    assert (await settled(both, job.job_id)).agent.state == MADE


async def test_a_name_that_was_taken_meanwhile_is_told_and_the_model_is_there_to_mend_it(
    both: Both, ada: Member
) -> None:
    job = await promised(both)
    await both.world.create(ada, "Keeper")
    model_id = await both.succeed(job.job_id)

    done = await settled(both, job.job_id)

    assert (done.state, done.agent.state, done.agent_id) == (job_pb2.Job.STATE_SUCCEEDED, NOT_MADE, "")
    assert (why(done), bool(done.agent.description)) == ("NAME_TAKEN", True)
    request = model_service_pb2.GetModelRequest(model_id=model_id)
    model = (await both.finetuning.models.GetModel(request, metadata=bearer("ada"))).model
    mended = await both.world.create(ada, "Second keeper", model=model.name, instructions=CANARY)
    assert mended.source.model_id == model_id


async def test_of_an_owner_who_has_left_the_admins_own_the_agent(both: Both, ada: Member) -> None:
    job = await promised(both)
    both.tenant.members.discard(ada.member_id)
    await both.succeed(job.job_id)

    done = await settled(both, job.job_id)

    (agent,) = await both.agents_of(both.join("admin", workspace_role="ADMIN"))
    assert (agent.agent_id, agent.owner_member_id) == (done.agent_id, "")


@by_hand
async def test_over_a_model_that_was_deleted_at_once_no_agent_is_made(both: Both, ada: Member) -> None:
    job = await promised(both)
    model_id = await both.succeed(job.job_id)
    request = model_service_pb2.DeleteModelRequest(model_id=model_id)
    await both.finetuning.models.DeleteModel(request, metadata=bearer("ada"))

    await both.make_due()

    done = await settled(both, job.job_id)
    assert (done.agent.state, why(done)) == (NOT_MADE, "MODEL_DELETED")
    assert await both.agents_of(ada) == []


class Dies(JobAgents):
    """Falls over when agents has answered and the answer is about to be kept."""

    def settle(self, store: Store, job: Job, outcome: str | PerronError) -> None:
        super().settle(store, job, outcome)
        raise RuntimeError("the process dies here")


async def dies_after_the_answer(both: Both) -> str:
    """A job whose agent was made by a process that could not keep the answer."""
    job = await promised(both)
    await both.succeed(job.job_id)
    with pytest.raises(RuntimeError):
        await both.make_due(Dies(both.job_agents()._blobs))
    assert (await both.finetuning.job("ada", job.job_id)).agent.state == PROMISED
    return str(job.job_id)


@by_hand
async def test_an_answer_that_was_lost_is_asked_for_again_and_makes_no_second_agent(
    both: Both, ada: Member
) -> None:
    job_id = await dies_after_the_answer(both)
    assert len(await both.agents_of(ada)) == 1

    for _ in range(2):
        await both.make_due()

    done = await settled(both, job_id)
    (agent,) = await both.agents_of(ada)
    assert (done.agent.state, done.agent_id) == (MADE, agent.agent_id)


@by_hand
async def test_without_the_id_of_the_job_a_lost_answer_would_lose_the_agent(
    both: Both, ada: Member, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The careless variant: what agents' look for the job's agent is for."""
    monkeypatch.setattr(VersionStore, "agent_of_job", lambda self, job_id: None)
    job_id = await dies_after_the_answer(both)

    await both.make_due()

    assert why(await settled(both, job_id)) == "NAME_TAKEN"
    assert len(await both.agents_of(ada)) == 1


async def test_killed_between_the_answer_and_its_keeping_there_is_one_agent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    create = Authoring.create_for_job

    async with running(tmp_path, SystemClock(), as_process=True) as both:
        ada, killed = both.join("ada"), asyncio.Event()

        async def made_for_a_dead_process(self: Authoring, *args: Any) -> Any:
            agent = await create(self, *args)
            made.append(agent.agent_id)
            if not killed.is_set():
                both.kill()
                killed.set()
            return agent

        monkeypatch.setattr(Authoring, "create_for_job", made_for_a_dead_process)
        job = await promised(both)
        await both.succeed(job.job_id)
        async with asyncio.timeout(60):
            await killed.wait()

        await both.make_due()  # as another replica would: the dead one's lease is not over
        await both.start_process()

        done = await settled(both, job.job_id)
        (agent,) = await both.agents_of(ada)
        assert (done.agent.state, [done.agent_id] * 2, agent.agent_id) == (MADE, made, done.agent_id)


async def test_a_repeated_request_is_not_refused_for_what_it_has_made(
    both: Both, ada: Member, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = await both.finetuning.upload("ada")
    same: dict[str, Any] = {"agent": wanted(), "request_id": ONE}
    job = await both.finetuning.create_job("ada", [file.file_id], **same)
    await both.succeed(job.job_id)
    await settled(both, job.job_id)

    again = await both.finetuning.create_job("ada", [file.file_id], **same)

    assert again.job_id == job.job_id
    monkeypatch.setattr(Store, "seen_before", lambda *_: None)  # what looks for the earlier request first
    error = await refused(both.finetuning.create_job("ada", [file.file_id], **same))
    assert error.reason == "NAME_TAKEN"
