"""Cases 12, 16, 28, 29, 31 and 32 of the terms, with files, jobs and models, over real sockets."""

from collections.abc import Callable
from functools import partial

import pytest

from perron.api.agents.v1 import agent_pb2
from perron.api.finetuning.v1 import job_pb2, job_service_pb2, model_pb2, worker_service_pb2
from perron.api.governance.v1 import decision_pb2
from perron.api.identity.v1 import workspace_pb2, workspace_pb2_grpc
from perron.api.quotas.v1 import limit_pb2, limit_service_pb2, limit_service_pb2_grpc
from perron.cli.demo.customer import Customer, purposes
from tests.suite.builders import admin_of, configuration
from tests.suite.customers import (
    FREE,
    ask_zero_retention,
    delete_workspace,
    exchange,
    new_workspace,
    review,
)
from tests.suite.tuners import (
    DELETED,
    GONE,
    Tuner,
    a_day_later,
    blob_of,
    colleague,
    examples,
    objects_of,
    outcome,
    until,
)
from tests.suite.workers import LARGE, Workshop

IMPROVE = decision_pb2.PURPOSE_IMPROVE_SERVICES
CONTINUE = worker_service_pb2.ReportResponse.INSTRUCTION_CONTINUE
CANCEL = worker_service_pb2.ReportResponse.INSTRUCTION_CANCEL
REFUSED = "UNAUTHENTICATED CREDENTIAL_INVALID"


def use(customer: Customer, model: str, secret: str = "") -> str:
    """What becomes of an exchange with a model or an agent."""
    return outcome(partial(customer.admit, exchange(), secret, model=model))


def suspend(customer: Customer) -> None:
    """Lets the customer reach a cap of its own."""
    request = limit_service_pb2.SetCapRequest(
        organization_id=customer.organization_id,
        metric=limit_pb2.METRIC_REQUESTS,
        window=limit_pb2.WINDOW_DAY,
        amount=1,
    )
    customer.admin.ask(customer.admin.stub(limit_service_pb2_grpc.LimitServiceStub).SetCap, request)
    outcome(partial(customer.admit, exchange()))
    assert use(customer, "small-1") == "RESOURCE_EXHAUSTED LIMIT_REACHED"


def downgrade(customer: Customer) -> None:
    customer.change_plan(FREE)


def test_a_free_exchange_through_a_fine_tuned_model_is_never_eligible(
    workshop: Workshop, customer: Customer, ada: Tuner
) -> None:
    """Case 12: by name, by id and through an agent."""
    model = workshop.worker.train(ada)
    agent = admin_of(customer).create("Desk", configuration(model=model.name))
    customer.change_plan(FREE)
    plain = customer.admit(exchange())
    assert plain.decision.training_eligible

    for name in (model.name, model.model_id, agent.agent_id):
        admitted = customer.admit(exchange(), model=name)
        assert admitted.effective_model == model.name
        assert not admitted.decision.training_eligible
        assert IMPROVE not in purposes(admitted.decision)
        reasons = {one.clause: one.reason for one in admitted.decision.clauses}
        assert reasons["1.2-conf"] == decision_pb2.CLAUSE_REASON_FINE_TUNED_MODEL
        assert customer.complete(exchange(), admitted).recorded
    customer.complete(exchange(), plain)

    assert [one.training_eligible for one in customer.records()] == [True, False, False, False]


def test_under_zero_retention_a_file_lives_a_day_beyond_the_jobs_that_need_it(
    workshop: Workshop, customer: Customer, ada: Tuner
) -> None:
    """Case 16, beside a job that runs."""
    review(customer, ask_zero_retention(customer))
    idle, used = ada.upload(examples(20)), ada.upload(examples(21))
    assert {one.HasField("expire_time") for one in (idle, used)} == {True}
    blobs = [blob_of(workshop.suite, one.file_id) for one in (idle, used)]
    never_started = ada.create_job([idle.file_id], auto_start=False)
    lease = workshop.worker.lease(ada.create_job([used.file_id]).job_id)

    a_day_later(workshop.suite, ada, customer.organization_id)

    for read in (ada.file, ada.content):
        assert outcome(partial(read, idle.file_id)) == GONE
    until(lambda: ada.job(never_started.job_id).state == job_pb2.Job.STATE_FAILED)
    failure = ada.job(never_started.job_id).failure
    assert failure.reason == job_pb2.JobFailure.REASON_RETENTION_ENDED
    assert ada.content(used.file_id) == examples(21)
    assert workshop.worker.step(lease, 1).instruction == CONTINUE
    model_id = workshop.worker.finish(lease)

    a_day_later(workshop.suite, ada, customer.organization_id)

    assert outcome(partial(ada.content, used.file_id)) == GONE
    until(lambda: not any(objects_of(workshop.suite, blob) for blob in blobs))
    assert ada.model(model_id).state == model_pb2.Model.STATE_ACTIVE
    until(lambda: use(customer, model_id) == "answered")


def remove(customer: Customer, member: Tuner) -> None:
    request = workspace_pb2.RemoveMemberRequest(
        member_id=member.member_id, workspace_id=customer.workspace_id
    )
    stub = customer.admin.stub(workspace_pb2_grpc.WorkspaceServiceStub)
    customer.admin.ask(stub.RemoveMember, request)
    assert outcome(partial(member.connection.ask, member.jobs.ListJobs, LIST_JOBS)) == REFUSED


LIST_JOBS = job_service_pb2.ListJobsRequest()
CHANGES: dict[str, Callable[[Customer, Tuner], None]] = {
    "member removed": remove,
    "downgraded": lambda customer, _: downgrade(customer),
    "suspended": lambda customer, _: suspend(customer),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_running_job_goes_on_and_its_model_serves_the_workspace(
    change: str, workshop: Workshop, customer: Customer, ada: Tuner
) -> None:
    """Case 28, a downgrade and a suspension: what ends is the member, the plan or the use, not the job."""
    bo = colleague(workshop.made, customer, "bo")
    file = bo.upload()
    promised = job_pb2.JobAgent(display_name="Desk", name_attested=True)
    lease = workshop.worker.lease(bo.create_job([file.file_id], agent=promised).job_id)
    waiting = ada.create_job([file.file_id], auto_start=False)
    CHANGES[change](customer, bo)

    assert workshop.worker.step(lease, 1).instruction == CONTINUE
    assert workshop.worker.read(lease) == examples(20)
    model_id = workshop.worker.finish(lease)

    done = ada.job(lease.job.job_id)
    assert (done.state, done.member_id) == (job_pb2.Job.STATE_SUCCEEDED, bo.member_id)
    until(lambda: ada.job(done.job_id).agent.state == job_pb2.PromisedAgent.STATE_MADE)
    agent = admin_of(customer).get(ada.job(done.job_id).agent_id)
    # Without the member it is the admins' of the workspace.
    assert agent.owner_member_id == ("" if change == "member removed" else bo.member_id)
    limit = "RESOURCE_EXHAUSTED LIMIT_REACHED"
    answer = limit if change == "suspended" else "answered"
    assert (use(customer, model_id), use(customer, agent.agent_id)) == (answer, answer)
    start = job_service_pb2.StartJobRequest(job_id=waiting.job_id)
    refused = "FAILED_PRECONDITION ENTITLEMENT_MISSING" if change == "downgraded" else "answered"
    assert outcome(partial(ada.connection.ask, ada.jobs.StartJob, start)) == refused
    assert outcome(partial(ada.create_job, [file.file_id], dry_run=True)) == refused
    assert ada.cancel(waiting.job_id).state == job_pb2.Job.STATE_CANCELLED


def test_everything_that_is_open_ends_with_its_workspace(workshop: Workshop, customer: Customer) -> None:
    """Case 29, as far as a workspace ends: no termination of organizations can be asked for yet."""
    workspace_id = new_workspace(customer)
    there = colleague(workshop.made, customer, "there", workspace_id)
    model = workshop.worker.train(there, LARGE)
    file, content = there.upload(), examples(30)
    upload = there.announce(content)
    lease = workshop.worker.lease(there.create_job([file.file_id]).job_id)
    watch, download = there.watch(lease.job.job_id), there.download(model.model_id)
    next(watch)
    next(download)
    assert use(customer, model.name, there.secret) == "answered"

    delete_workspace(customer, workspace_id)

    assert use(customer, model.name, there.secret) == REFUSED
    for late in (
        partial(there.model, model.model_id),
        partial(there.content, file.file_id),
        partial(there.send, upload.upload_id, content),
        partial(there.create_job, [file.file_id]),
    ):
        assert outcome(late) == REFUSED
    assert outcome(lambda: list(watch)) == GONE
    assert outcome(lambda: list(download)) in {GONE, DELETED}
    until(lambda: workshop.worker.report(lease).instruction == CANCEL)
    told = workshop.worker.report(lease).cancel_reason
    assert told == worker_service_pb2.ReportResponse.CANCEL_REASON_WORKSPACE_ENDED
    for write in (workshop.worker.finish, workshop.worker.read):
        assert outcome(partial(write, lease)) == "ABORTED LEASE_LOST"
    assert workshop.worker.give_back(lease) == job_pb2.Job.STATE_FAILED
    assert use(customer, model.name) == GONE


def test_a_deleted_model_is_said_to_be_deleted_and_no_other_takes_its_place(
    workshop: Workshop, customer: Customer, ada: Tuner
) -> None:
    """Case 31."""
    model = workshop.worker.train(ada)
    admin = admin_of(customer)
    agent = admin.create("Desk", configuration(model=model.name))
    assert (agent.source.kind, agent.source.model_id) == (
        agent_pb2.AgentSource.KIND_FINE_TUNED_MODEL,
        model.model_id,
    )
    names = (agent.agent_id, model.name, model.model_id)
    assert [customer.admit(exchange(), model=name).effective_model for name in names] == [model.name] * 3
    decided = len(list(customer.decisions()))

    ada.delete(model.model_id)

    assert [use(customer, name) for name in names] == [DELETED] * 3
    assert outcome(partial(admin.write, agent.agent_id, configuration("Again.", model.name))) == DELETED
    assert admin.get(agent.agent_id).latest_version == 1
    assert len(list(customer.decisions())) == decided


CIRCUMSTANCES: dict[str, Callable[[Customer], object]] = {
    "nothing special": lambda customer: None,
    "suspended": suspend,
    "downgraded": downgrade,
}


@pytest.mark.parametrize("circumstance", CIRCUMSTANCES)
@pytest.mark.parametrize("held", [False, True], ids=["free", "held"])
def test_deleting_ends_the_use_of_a_model_at_once_whatever_else_holds(
    circumstance: str, *, held: bool, workshop: Workshop, customer: Customer, ada: Tuner
) -> None:
    """Case 32."""
    model = workshop.worker.train(ada, LARGE)
    agent = admin_of(customer).create("Desk", configuration(model=model.name))
    assert use(customer, agent.agent_id) == "answered"
    download = ada.download(model.model_id)
    next(download)
    CIRCUMSTANCES[circumstance](customer)
    workshop.holds.held |= {model.model_id} if held else set()

    erasure = ada.delete(model.model_id)

    deferred, pending = model_pb2.Erasure.STATE_DEFERRED, model_pb2.Erasure.STATE_PENDING
    assert (erasure.state, erasure.holdings) == (deferred if held else pending, 1)
    assert model.model_id in workshop.holds.asked
    assert [use(customer, name) for name in (agent.agent_id, model.name, model.model_id)] == [DELETED] * 3
    assert outcome(lambda: list(download)) == DELETED
    assert outcome(lambda: next(ada.download(model.model_id))) == DELETED
    left = ada.model(model.model_id)
    assert (left.state, list(left.artifacts)) == (model_pb2.Model.STATE_DELETED, [])


def test_what_a_hold_kept_of_a_model_is_erased_once_it_is_released(workshop: Workshop, ada: Tuner) -> None:
    """Case 32, what becomes of the weights."""
    model = workshop.worker.train(ada)
    blob_id = model.artifacts[0].blob_id
    workshop.holds.held.add(model.model_id)
    assert ada.delete(model.model_id).state == model_pb2.Erasure.STATE_DEFERRED
    assert objects_of(workshop.suite, blob_id)

    workshop.holds.held.discard(model.model_id)

    until(lambda: ada.model(model.model_id).erasure.state == model_pb2.Erasure.STATE_ERASED)
    assert not objects_of(workshop.suite, blob_id)
