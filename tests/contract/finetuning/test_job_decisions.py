"""Jobs beside a real governance: one decision for each that is made, none for what is not."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import pytest

from perron.api.finetuning.v1 import job_service_pb2, job_service_pb2_grpc
from perron.api.governance.v1 import decision_pb2, decision_service_pb2, decision_service_pb2_grpc
from perron.chassis.interceptors.access import Call
from perron.finetuning import peers
from perron.finetuning.jobs import CreateCommand, Jobs
from perron.finetuning.model import Job
from perron.finetuning.store import Store
from tests.contract.finetuning.world import Metadata, Tenant, World, lines
from tests.contract.governance.world import refused

SCOPES = ("FINE_TUNING_READ", "FINE_TUNING_WRITE", "DATA_READ")


class Customer:
    """Somebody of one workspace, what it asks of finetuning, and what governance has decided about it."""

    def __init__(self, world: World, tenant: Tenant, governance: grpc.aio.Channel) -> None:
        self.world = world
        self.tenant = tenant
        self.key: Metadata = world.customer(tenant, SCOPES)
        self._jobs: Any = job_service_pb2_grpc.JobServiceStub(world.channel)
        self._decisions: Any = decision_service_pb2_grpc.DecisionServiceStub(governance)

    async def upload(self, **fields: Any) -> str:
        return str((await self.world.upload(self.key, lines(2_000), **fields)).file_id)

    async def create(self, file_id: str, **fields: Any) -> Any:
        wanted = {"base_model": "tiny", "training_file_ids": [file_id]} | fields
        request = job_service_pb2.CreateJobRequest(**wanted)
        return (await self._jobs.CreateJob(request, metadata=self.key)).job

    async def jobs(self) -> list[Any]:
        request = job_service_pb2.ListJobsRequest()
        return list((await self._jobs.ListJobs(request, metadata=self.key)).jobs)

    async def decisions(self) -> list[Any]:
        """What was decided about models, newest first."""
        request = decision_service_pb2.ListDecisionsRequest()
        found = (await self._decisions.ListDecisions(request, metadata=self.key)).decisions
        return [one for one in found if one.data_kind == decision_pb2.DATA_KIND_FINE_TUNED_MODEL]


@pytest.fixture
async def customer(world: World) -> AsyncIterator[Customer]:
    async with grpc.aio.insecure_channel(world.governance_target) as governance:
        yield Customer(world, world.tenant(), governance)


def once() -> str:
    return str(uuid.uuid4())


@pytest.mark.parametrize("plan", ["free", "paid"])
async def test_models_may_be_kept_until_deleted_to_provide_them_and_never_trained_on(
    customer: Customer, plan: str
) -> None:
    if plan == "paid":
        customer.tenant.upgrade()
    job = await customer.create(await customer.upload())

    (decision,) = await customer.decisions()

    assert decision.decision_id == job.decision_id
    assert decision.workspace_id == customer.tenant.workspace_id
    (permission,) = decision.permissions
    assert permission.purpose == decision_pb2.PURPOSE_PROVIDE_SERVICES
    assert [one.kind for one in permission.deadlines] == [decision_pb2.DEADLINE_KIND_UNTIL_DELETED]
    assert not decision.training_eligible


async def too_many(customer: Customer, file_id: str) -> str:
    customer.tenant.entitlements |= {"fine_tuning_jobs": "0"}
    return (await refused(customer.create(file_id))).reason


async def not_entitled(customer: Customer, file_id: str) -> str:
    customer.tenant.entitlements.clear()
    return (await refused(customer.create(file_id))).reason


async def no_such_base(customer: Customer, file_id: str) -> str:
    return (await refused(customer.create(file_id, base_model="unheard-of"))).reason


async def no_agents(customer: Customer, file_id: str) -> str:
    agent = {"display_name": "Desk", "name_attested": True}
    return (await refused(customer.create(file_id, agent=agent))).reason


async def only_planned(customer: Customer, file_id: str) -> str:
    return str((await customer.create(file_id, dry_run=True)).decision_id)


@pytest.mark.parametrize(
    ("ask", "reason"),
    [
        (too_many, "JOBS_TOO_MANY"),
        (not_entitled, "ENTITLEMENT_MISSING"),
        (no_such_base, "BASE_MODEL_NOT_TRAINABLE"),
        (no_agents, "AGENT_NOT_AVAILABLE"),
        (only_planned, ""),
    ],
)
async def test_what_makes_no_job_leaves_no_decision(
    customer: Customer, ask: Callable[[Customer, str], Any], reason: str
) -> None:
    assert await ask(customer, await customer.upload()) == reason
    assert (await customer.jobs(), await customer.decisions()) == ([], [])


async def test_without_foresight_a_refused_job_would_leave_a_decision(
    customer: Customer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The careless variant: what counting before governance is asked is for."""

    def blind(self: Jobs, store: Store, call: Call, command: CreateCommand) -> Job:
        return self._planned(store, call, command)

    monkeypatch.setattr(Jobs, "foresee", blind)

    assert await too_many(customer, await customer.upload()) == "JOBS_TOO_MANY"
    assert len(await customer.decisions()) == 1


async def test_repetitions_at_once_have_one_job_and_one_decision(customer: Customer) -> None:
    file_id, same = await customer.upload(), once()

    made = await asyncio.gather(*(customer.create(file_id, request_id=same) for _ in range(6)))

    (decision,) = await customer.decisions()
    assert {(one.job_id, one.decision_id) for one in made} == {(made[0].job_id, decision.decision_id)}


@pytest.fixture
def dies_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Finetuning falls over once, when governance has decided and the job is about to be written."""
    create, died = Jobs.create, []

    def dies(self: Jobs, *arguments: Any) -> Job:
        if not died:
            died.append(True)
            raise RuntimeError("the process dies here")
        return create(self, *arguments)

    monkeypatch.setattr(Jobs, "create", dies)


@pytest.mark.usefixtures("dies_once")
async def test_what_was_decided_for_a_job_that_was_not_written_is_its_decision_the_next_time(
    customer: Customer,
) -> None:
    file_id, same = await customer.upload(), once()
    assert (await refused(customer.create(file_id, request_id=same))).code == "INTERNAL"
    assert await customer.jobs() == []

    job = await customer.create(file_id, request_id=same)

    assert [one.decision_id for one in await customer.decisions()] == [job.decision_id]


@pytest.mark.usefixtures("dies_once")
async def test_without_an_id_of_the_question_a_retry_would_be_decided_twice(
    customer: Customer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The careless variant of the last one."""
    monkeypatch.setattr(peers, "_request_id", lambda call: "")
    file_id, same = await customer.upload(), once()
    await refused(customer.create(file_id, request_id=same))

    await customer.create(file_id, request_id=same)

    assert len(await customer.decisions()) == 2


async def test_an_upload_and_a_job_of_one_request_id_are_two_questions(customer: Customer) -> None:
    same = once()

    job = await customer.create(await customer.upload(request_id=same), request_id=same)

    assert [one.decision_id for one in await customer.decisions()] == [job.decision_id]


async def test_without_the_method_in_its_id_the_question_would_be_taken_for_another(
    customer: Customer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The careless variant of the last one."""
    same = once()
    monkeypatch.setattr(peers, "_request_id", lambda call: same)
    file_id = await customer.upload(request_id=same)

    assert (await refused(customer.create(file_id, request_id=same))).reason == "REQUEST_ID_REUSED"
