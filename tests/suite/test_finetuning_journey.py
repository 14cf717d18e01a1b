"""From a file to a model in use and back to nothing, through every service."""

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from perron.api.agents.v1 import configuration_pb2
from perron.api.finetuning.v1 import (
    file_pb2,
    file_service_pb2,
    job_pb2,
    model_pb2,
    model_service_pb2,
    worker_service_pb2,
)
from perron.api.governance.v1 import decision_pb2
from perron.cli import traces, tracing
from perron.cli.demo import search
from perron.cli.demo.customer import Customer, purposes, refusal
from perron.cli.listening import SERVICES
from tests.suite.builders import admin_of, configuration
from tests.suite.customers import FREE, PAID, PAID_HIGHER, assert_nowhere, exchange, new_workspace
from tests.suite.tuners import (
    DELETED,
    GONE,
    Tuner,
    blob_of,
    colleague,
    examples,
    objects_of,
    outcome,
    tuner,
    until,
)
from tests.suite.workers import WEIGHTS, Workshop

State = job_pb2.Job.State
LINE_BYTES = 1_000_000
NEWER_TERMS = """
  - name: terms-of-service
    version: "2026-01-01"
    effective_time: 2026-01-01
    accept_by_time: 2026-02-01
    text: Terms that nobody has accepted.
"""
NOTICE_US = 30 * 86_400_000_000


def test_a_file_is_kept_under_the_decision_that_governance_made_of_it(
    workshop: Workshop, customer: Customer, ada: Tuner
) -> None:
    file = ada.upload(examples(3))

    (decision,) = customer.decisions()
    assert decision.decision_id == file.decision_id
    assert decision.data_kind == decision_pb2.DATA_KIND_FINE_TUNING_DATA
    assert purposes(decision) == {
        decision_pb2.PURPOSE_PROVIDE_SERVICES,
        decision_pb2.PURPOSE_MONITOR_ABUSE,
    }
    assert decision.subscription_id
    assert not decision.training_eligible
    assert file.attestation.member_id == admin_of(customer).member_id
    eve = tuner(workshop.made, workshop.made.new(PAID))
    assert outcome(partial(eve.content, file.file_id)) == GONE


def test_an_upload_that_the_plan_refuses_is_not_decided_about(customer: Customer, ada: Tuner) -> None:
    assert outcome(partial(ada.announce, b"", bytes=1 << 36)) == "RESOURCE_EXHAUSTED STORED_BYTES_EXCEEDED"
    customer.change_plan(FREE)
    missing = "FAILED_PRECONDITION ENTITLEMENT_MISSING"
    assert outcome(partial(ada.announce, examples(3))) == missing
    assert list(customer.decisions()) == []


def test_a_file_outlives_a_change_of_tier_and_ends_30_days_after_its_subscription_for_good(
    customer: Customer, ada: Tuner
) -> None:
    """Cases 7 and 8, files."""

    def ends(file: file_pb2.File) -> int:
        now = ada.file(file.file_id)
        return now.expire_time.ToMicroseconds() if now.HasField("expire_time") else 0

    first = ada.upload(examples(3))
    customer.change_plan(PAID_HIGHER)
    lapsed_us = time.time_ns() // 1000
    customer.change_plan(FREE)
    until(lambda: ends(first) > 0)
    end_us = ends(first)
    assert 0 <= end_us - lapsed_us - NOTICE_US < 60_000_000
    customer.change_plan(PAID)
    second = ada.upload(examples(4))
    assert ends(second) == 0
    customer.change_plan(FREE)
    until(lambda: ends(second) > 0)

    assert ends(first) == end_us
    assert ada.content(first.file_id) == examples(3)


def test_a_job_makes_a_model_that_its_owner_uses_and_nobody_else_knows_of(
    workshop: Workshop, customer: Customer, ada: Tuner
) -> None:
    markers = [search.marker() for _ in range(2)]
    told = configuration_pb2.AgentConfiguration(instructions=f"Never say {markers[0]}.")
    content = examples(20, of=markers[1])
    wanted = job_pb2.JobAgent(display_name="Desk", name_attested=True, configuration=told)
    file = ada.upload(content)
    job = ada.create_job([file.file_id], agent=wanted, suffix="support")
    lease = workshop.worker.lease(job.job_id)
    assert workshop.worker.read(lease) == content
    workshop.worker.step(lease, 1)
    workshop.worker.checkpoint(lease, 2)
    model_id = workshop.worker.finish(lease)

    events = list(ada.watch(job.job_id))

    assert [event.number for event in events] == list(range(1, len(events) + 1))
    kinds = [event.WhichOneof("kind") for event in events]
    assert (kinds.count("metrics"), kinds.count("checkpoint")) == (1, 1)
    done = events[-1].job
    assert (done.state, done.model_id) == (State.STATE_SUCCEEDED, model_id)
    assert done.agent.state == job_pb2.PromisedAgent.STATE_MADE
    model = ada.model(model_id)
    assert model.name.startswith(f"ft:tiny:{customer.workspace_id}:support:")
    assert [one.sha256 for one in model.provenance.files] == [file.sha256]
    for name in (model.name, model_id, done.agent_id):
        assert customer.admit(exchange(), model=name).effective_model == model.name
    assert (
        customer.admit(exchange(), model=done.agent_id).agent.configuration.instructions == told.instructions
    )
    assert b"".join(part.chunk for part in ada.download(model_id)) == WEIGHTS
    assert_nowhere(workshop.suite, markers)

    stranger = tuner(workshop.made, workshop.made.new(PAID))
    next_door = colleague(workshop.made, customer, "next door", new_workspace(customer))
    for other in (stranger, next_door):
        for name, unheard_of in (
            (model.name, f"{model.name[:-10]}0000000000"),
            (model_id, f"mdl_{'0' * 26}"),
            (done.agent_id, f"agt_{'0' * 26}"),
        ):
            seen, absent = (
                refusal(partial(customer.admit, exchange(), other.secret, model=one))
                for one in (name, unheard_of)
            )
            assert (str(seen), seen.error.code) == (str(absent), "NOT_FOUND")
        for read in (other.model, other.delete, partial(_first, other)):
            assert outcome(partial(read, model_id)) == GONE
        assert outcome(partial(other.job, job.job_id)) == GONE


def _first(tuner: Tuner, model_id: str) -> Any:
    return next(tuner.download(model_id))


def test_an_archived_model_rests_and_a_deleted_one_is_gone_with_the_holding_told(
    workshop: Workshop, customer: Customer, ada: Tuner
) -> None:
    model = workshop.worker.train(ada)
    agent = admin_of(customer).create("Desk", configuration(model=model.name))

    def used() -> set[str]:
        names = (model.name, model.model_id, agent.agent_id)
        return {outcome(partial(customer.admit, exchange(), model=name)) for name in names}

    archive = model_service_pb2.ArchiveModelRequest(model_id=model.model_id)
    ada.connection.ask(ada.models.ArchiveModel, archive)
    assert used() == {"FAILED_PRECONDITION MODEL_ARCHIVED"}
    unarchive = model_service_pb2.UnarchiveModelRequest(model_id=model.model_id)
    ada.connection.ask(ada.models.UnarchiveModel, unarchive)
    assert used() == {"answered"}
    holding = next(ada.download(model.model_id)).holding

    erasure = ada.delete(model.model_id)

    assert (erasure.state, erasure.holdings) == (model_pb2.Erasure.STATE_PENDING, 1)
    assert used() == {DELETED}
    release = model_service_pb2.ReleaseHoldingRequest(holding_id=holding.holding_id)
    assert ada.connection.ask(ada.models.ReleaseHolding, release).model_deleted
    until(lambda: ada.model(model.model_id).erasure.state == model_pb2.Erasure.STATE_ERASED)


def test_an_admit_of_an_agent_over_a_fine_tuned_model_is_one_connected_tree_through_all_six(
    workshop: Workshop, customer: Customer, ada: Tuner
) -> None:
    model = workshop.worker.train(ada)
    agent = admin_of(customer).create("Traced", configuration(model=model.name))
    customer.admit(exchange(), model=agent.agent_id)
    trace_id = customer.gateway.trace_id

    spans = tracing.settled(workshop.suite.folder / "traces", trace_id)

    assert len(traces.trees(spans)) == 1
    assert {span.service for span in spans} == set(SERVICES)


@pytest.mark.parametrize("held", [False, True], ids=["free", "held"])
def test_a_file_that_is_deleted_ends_its_jobs_and_its_use_at_once(
    *, held: bool, workshop: Workshop, ada: Tuner
) -> None:
    """Case 32, files."""
    file = ada.upload(examples(32, size=LINE_BYTES))  # more than flow control lets be under way
    blob_id = blob_of(workshop.suite, file.file_id)
    waiting = ada.create_job([file.file_id], auto_start=False)
    lease = workshop.worker.lease(ada.create_job([file.file_id]).job_id)
    download = ada.pieces_of(file.file_id)
    next(download)
    workshop.holds.held |= {file.file_id} if held else set()

    request = file_service_pb2.DeleteFileRequest(file_id=file.file_id)
    assert ada.connection.ask(ada.files.DeleteFile, request).deferred is held

    for read in (ada.file, ada.content):
        assert outcome(partial(read, file.file_id)) == GONE
    assert outcome(lambda: list(download)) == GONE
    assert outcome(partial(workshop.worker.read, lease)) == "ABORTED LEASE_LOST"
    answer = workshop.worker.step(lease, 1)
    assert answer.instruction == worker_service_pb2.ReportResponse.INSTRUCTION_CANCEL
    assert answer.cancel_reason == worker_service_pb2.ReportResponse.CANCEL_REASON_FILE_GONE
    assert workshop.worker.give_back(lease) == State.STATE_FAILED
    for job_id in (waiting.job_id, lease.job.job_id):
        ended = ada.job(job_id)
        assert (ended.state, ended.failure.reason) == (
            State.STATE_FAILED,
            job_pb2.JobFailure.REASON_FILE_GONE,
        )
    if held:
        assert objects_of(workshop.suite, blob_id)
        workshop.holds.held.discard(file.file_id)
    until(lambda: not objects_of(workshop.suite, blob_id))


@pytest.fixture
def newer_terms(workshop: Workshop) -> Iterator[Callable[[], None]]:
    """Puts terms in force that nobody has accepted in time, and takes them back afterwards."""
    before = workshop.documents.read_text(encoding="utf-8")

    def put() -> None:
        workshop.documents.write_text(before + NEWER_TERMS, encoding="utf-8")
        workshop.suite.restart("identity")

    yield put
    workshop.documents.write_text(before, encoding="utf-8")
    workshop.suite.restart("identity")


def test_whoever_has_not_accepted_new_terms_in_time_reads_and_deletes_and_does_nothing_else(
    workshop: Workshop, customer: Customer, ada: Tuner, newer_terms: Callable[[], None]
) -> None:
    """Case 37, files, jobs and models."""
    model, file = workshop.worker.train(ada), ada.upload(examples(30))
    job = ada.create_job([file.file_id], auto_start=False)
    newer_terms()
    not_accepted = "PERMISSION_DENIED TERMS_NOT_ACCEPTED"
    until(lambda: outcome(partial(ada.announce, examples(3))) == not_accepted)
    until(lambda: outcome(partial(customer.admit, exchange(), model=model.name)) == not_accepted)
    until(lambda: outcome(lambda: list(customer.decisions())) == "answered")

    assert outcome(partial(ada.create_job, [file.file_id])) == not_accepted
    assert outcome(partial(_first, ada, model.model_id)) == not_accepted
    assert ada.content(file.file_id) == examples(30)
    assert ada.cancel(job.job_id).state == State.STATE_CANCELLED
    delete = file_service_pb2.DeleteFileRequest(file_id=file.file_id)
    assert not ada.connection.ask(ada.files.DeleteFile, delete).deferred
    assert ada.delete(model.model_id).state == model_pb2.Erasure.STATE_PENDING
    assert ada.model(model.model_id).state == model_pb2.Model.STATE_DELETED
