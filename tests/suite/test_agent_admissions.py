"""Admit beside the running agents: an alias on the move, chat, and more agents than an answer holds."""

import uuid
from collections.abc import Iterator

import pytest

from perron.api.admission.v1 import admission_service_pb2 as pb
from perron.api.admission.v1 import admission_service_pb2_grpc
from perron.api.agents.v1 import agent_pb2, agent_service_pb2
from perron.api.common.v1 import roles_pb2
from perron.api.governance.v1 import decision_pb2
from perron.chassis import status
from perron.cli.connection import RefusedError
from perron.cli.demo.customer import Customer
from perron.cli.demo.team import Member
from perron.cli.suite import Suite
from tests.suite.builders import MODEL, admin_of, alias, configuration, joined
from tests.suite.customers import PAID, Customers, customers

API, CHAT = roles_pb2.CHANNEL_API, roles_pb2.CHANNEL_CHAT


@pytest.fixture
def made(suite: Suite) -> Iterator[Customers]:
    with customers(suite) as opened:
        yield opened


@pytest.fixture
def customer(made: Customers) -> Customer:
    return made.new()


def ask(member: Member, name: str, **fields: object) -> pb.AdmitRequest:
    request = pb.AdmitRequest(credential=member.secret, model=name, estimated_tokens=10, channel=API)
    request.MergeFrom(pb.AdmitRequest(**fields))  # type: ignore[arg-type]  # by name
    return request


def admit(customer: Customer, request: pb.AdmitRequest) -> pb.AdmitResponse:
    stub = customer.gateway.stub(admission_service_pb2_grpc.AdmissionServiceStub)
    return customer.gateway.ask(stub.Admit, request)


def batch(customer: Customer, requests: list[pb.AdmitRequest]) -> list[pb.AdmitResult]:
    stub = customer.gateway.stub(admission_service_pb2_grpc.AdmissionServiceStub)
    return list(customer.gateway.ask(stub.BatchAdmit, pb.BatchAdmitRequest(items=requests)).results)


def test_a_repetition_follows_the_alias_while_its_model_stays_and_is_refused_when_it_does_not(
    customer: Customer,
) -> None:
    admin = admin_of(customer)
    old = admin.create("Old desk", configuration("Be old."))
    new = admin.create("New desk", configuration("Be new."))
    larger = admin.create("Larger desk", configuration("Be large.", model="large-1"))
    moving = alias(admin, "desk", old.agent_id)
    request = ask(admin, "agent:desk", request_id=str(uuid.uuid4()))
    first = admit(customer, request)

    def move(agent_id: str, etag: str) -> agent_pb2.Alias:
        moved = agent_service_pb2.MoveAliasRequest(alias="desk", agent_id=agent_id, etag=etag)
        return admin.connection.ask(admin.agents.MoveAlias, moved).alias

    moving = move(new.agent_id, moving.etag)
    second = admit(customer, request)
    move(larger.agent_id, moving.etag)
    with pytest.raises(RefusedError) as refused:
        admit(customer, request)

    assert first.agent.configuration.instructions == "Be old."
    assert (second.agent.agent_id, second.agent.configuration.instructions) == (new.agent_id, "Be new.")
    assert second.decision == first.decision
    assert [one.remaining for one in second.limits] == [one.remaining for one in first.limits]
    assert refused.value.error.reason == "REQUEST_ID_REUSED"
    anew = admit(customer, ask(admin, "agent:desk"))
    assert (anew.effective_model, anew.agent.agent_id) == ("large-1", larger.agent_id)


def test_chat_needs_the_plan_and_is_decided_under_the_terms_of_chat(made: Customers) -> None:
    customer = made.new()
    admin = admin_of(customer)
    agent = admin.create("Desk", configuration())
    chat = ask(admin, agent.agent_id, channel=CHAT)

    with pytest.raises(RefusedError) as refused:
        admit(customer, chat)
    customer.change_plan(PAID)
    admitted = admit(customer, chat)

    assert refused.value.error.reason == "AGENT_NOT_PUBLISHED"
    assert refused.value.error.metadata == {"channel": "CHAT", "because": "plan"}
    reasons = [clause.reason for clause in admitted.decision.clauses]
    assert reasons == [decision_pb2.CLAUSE_REASON_RULE_MISSING]  # no terms of chat are loaded
    assert not admitted.keep_content
    assert admit(customer, ask(admin, agent.agent_id)).keep_content


def test_members_of_one_batch_get_the_configuration_once_and_each_their_own_handoffs(
    made: Customers, customer: Customer
) -> None:
    admin, bo = admin_of(customer), joined(made, customer, "bo")
    private, shared = admin.create("Private", configuration()), admin.create("Shared", configuration())
    admin.share(private.agent_id, agent_pb2.SHARING_MODE_RESTRICTED)
    told = configuration("Hand over.")
    told.handoff_agent_ids.extend([private.agent_id, shared.agent_id])
    desk = admin.create("Desk", told)

    first, second = batch(customer, [ask(admin, desk.agent_id), ask(bo, desk.agent_id)])
    alone = admit(customer, ask(bo, desk.agent_id))

    assert list(first.response.agent.handoff_agent_ids) == [private.agent_id, shared.agent_id]
    assert list(second.response.agent.handoff_agent_ids) == [shared.agent_id]
    assert first.response.agent.HasField("configuration")
    assert not second.response.agent.HasField("configuration")
    assert list(alone.agent.configuration.handoff_agent_ids) == [shared.agent_id]


def test_more_agents_than_an_answer_holds_are_refused_by_the_item_and_admitted_in_the_next_batch(
    customer: Customer,
) -> None:
    admin = admin_of(customer)
    agents = [admin.create(f"Agent {number}", configuration("i" * 65_536)) for number in range(50)]
    requests = [ask(admin, name) for name in [MODEL, *(agent.agent_id for agent in agents)]]

    answers = batch(customer, requests)

    late = [place for place, result in enumerate(answers) if result.HasField("error")]
    assert late == [48, 49, 50]
    assert {status.from_status(answers[place].error).reason for place in late} == {"ANSWER_TOO_LARGE"}
    again = batch(customer, [requests[place] for place in late])
    assert [result.response.agent.agent_id for result in again] == [agent.agent_id for agent in agents[-3:]]
