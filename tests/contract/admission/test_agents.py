"""Agents and fine-tuned models through Admit and Complete, beside services that stand in for theirs."""

import uuid
from pathlib import Path
from typing import Any

import pytest

from perron.api.admission.v1 import admission_service_pb2 as pb
from perron.api.admission.v1 import admission_service_pb2_grpc
from perron.api.common.v1 import roles_pb2
from perron.api.governance.v1 import decision_pb2, record_service_pb2, record_service_pb2_grpc
from perron.chassis.errors import FailedPrecondition
from perron.client import Denied, InvalidRequest, NotFound, Perron, PerronError, Refused, Unavailable
from perron.client.errors import from_status
from tests.contract.admission.conftest import Platform, Tenant, bearer

MODEL, TUNED = "small-1", "ft:small-1:acme"
SECRET = "Speak as the lighthouse keeper of Kermorvan."


def reasons(decision: decision_pb2.Decision) -> set[str]:
    return {decision_pb2.ClauseReason.Name(clause.reason) for clause in decision.clauses}


def requests_left(admission: Any) -> int:
    return int(admission.response.limits[0].remaining)


def test_an_agent_is_admitted_with_the_version_and_configuration_to_run(
    perron: Perron, platform: Platform, tenant: Tenant
) -> None:
    agent = platform.agents.make(
        tenant.workspace_id, "agent:keeper", instructions=SECRET, handoff_agent_ids=["agt_" + "0" * 26]
    )

    for name in (agent.agent_id, "agent:keeper"):
        admission = perron.admit(tenant.secret, name, tokens=10)
        assert admission.model == MODEL
        assert admission.agent is not None
        assert (admission.agent.agent_id, admission.agent.version) == (agent.agent_id, 1)
        assert admission.agent.configuration == agent.configuration
        assert admission.agent.handoff_agent_ids == ("agt_" + "0" * 26,)
        assert SECRET not in repr(admission)
    assert perron.admit(tenant.secret, MODEL, tokens=1).agent is None


def test_a_record_names_agent_and_version_and_no_file_holds_its_instructions(
    perron: Perron, platform: Platform, tenant: Tenant
) -> None:
    agent = platform.agents.make(tenant.workspace_id, "agent:secretive", instructions=SECRET)
    admission = perron.admit(tenant.secret, "agent:secretive", tokens=10)
    agent.version = 2  # what was admitted is recorded, not what is there when it is completed
    completed = perron.complete(admission, tokens=7, prompt=b"question", output=b"answer")

    (record,) = records(platform, tenant)
    assert record.record_id == completed.record_id
    assert (record.model, record.agent_id, record.agent_version) == (MODEL, agent.agent_id, 1)
    written = [path for path in Path(platform.suite.folder).rglob("*") if path.is_file()]
    assert any(agent.agent_id.encode() in path.read_bytes() for path in written)
    assert not [path for path in written if SECRET.encode() in path.read_bytes()]


@pytest.mark.parametrize("by_agent", [False, True])
def test_what_a_fine_tuned_model_answers_is_never_eligible(
    perron: Perron, platform: Platform, tenant: Tenant, *, by_agent: bool
) -> None:
    platform.models.owners[TUNED] = tenant.workspace_id
    platform.agents.make(tenant.workspace_id, "agent:tuned", model=TUNED)

    admission = perron.admit(tenant.secret, "agent:tuned" if by_agent else TUNED, tokens=10)
    perron.complete(admission, tokens=7, prompt=b"question", output=b"answer")

    assert admission.model == TUNED
    assert not admission.response.decision.training_eligible
    assert "CLAUSE_REASON_FINE_TUNED_MODEL" in reasons(admission.response.decision)
    (record,) = records(platform, tenant)
    assert (record.model, record.training_eligible) == (TUNED, False)
    assert perron.admit(tenant.secret, MODEL, tokens=1).response.decision.training_eligible


def test_an_agent_in_chat_is_decided_under_the_terms_of_chat(
    perron: Perron, platform: Platform, tenant: Tenant
) -> None:
    platform.agents.make(tenant.workspace_id, "agent:chatty")

    admission = perron.admit(tenant.secret, "agent:chatty", tokens=10, chat=True)

    decision = admission.response.decision
    assert decision.channel == roles_pb2.CHANNEL_CHAT
    assert reasons(decision) == {"CLAUSE_REASON_RULE_MISSING"}  # none are loaded
    assert not admission.keep_content
    assert perron.admit(tenant.secret, "agent:chatty", tokens=10).keep_content


@pytest.mark.parametrize("name", ["agent:of-another", "agent:unknown", TUNED, "mdl_" + "0" * 26])
def test_another_tenants_agent_or_model_is_refused_as_one_that_does_not_exist(
    perron: Perron, platform: Platform, tenant: Tenant, name: str
) -> None:
    other = platform.tenant()
    platform.agents.make(other.workspace_id, "agent:of-another")
    platform.models.owners[TUNED] = other.workspace_id

    with pytest.raises(NotFound) as refused:
        perron.admit(tenant.secret, name, tokens=1)
    assert refused.value.reason == "RESOURCE_NOT_FOUND"


@pytest.mark.parametrize("reason", ["AGENT_DISABLED", "MODEL_DELETED", "THIRD_PARTY_NOT_ACKNOWLEDGED"])
def test_a_refusal_of_agents_reaches_the_gateway_whole_and_consumes_nothing(
    perron: Perron, platform: Platform, tenant: Tenant, reason: str
) -> None:
    agent = platform.agents.make(tenant.workspace_id)
    agent.refusal = FailedPrecondition(reason, "It is so.", metadata={"third_party": "web_search"})
    before = requests_left(perron.admit(tenant.secret, MODEL, tokens=1))

    with pytest.raises(Refused) as refused:
        perron.admit(tenant.secret, agent.agent_id, tokens=1)

    assert (refused.value.reason, refused.value.metadata) == (reason, {"third_party": "web_search"})
    assert before - requests_left(perron.admit(tenant.secret, MODEL, tokens=1)) == 1


def test_the_channel_of_the_call_is_the_one_that_is_asked_for(
    perron: Perron, platform: Platform, tenant: Tenant
) -> None:
    agent = platform.agents.make(tenant.workspace_id)
    agent.channels = (roles_pb2.CHANNEL_API,)

    assert perron.admit(tenant.secret, agent.agent_id, tokens=1).agent
    with pytest.raises(Refused) as refused:
        perron.admit(tenant.secret, agent.agent_id, tokens=1, chat=True)
    assert refused.value.metadata == {"channel": "CHAT", "because": "agent"}


def test_a_key_bound_to_models_needs_the_agent_and_its_model(
    perron: Perron, platform: Platform, tenant: Tenant
) -> None:
    platform.agents.make(tenant.workspace_id, "agent:bound")
    for bound in (["agent:bound"], [MODEL]):
        _, secret = platform.key(tenant, allowed_models=bound)
        with pytest.raises(Denied) as refused:
            perron.admit(secret, "agent:bound", tokens=1)
        assert refused.value.reason == "MODEL_NOT_ALLOWED"
    _, secret = platform.key(tenant, allowed_models=["agent:bound", MODEL])
    assert perron.admit(secret, "agent:bound", tokens=1).agent


def test_a_repetition_after_the_agent_changed_is_the_same_admission_of_the_new_version(
    perron: Perron, platform: Platform, tenant: Tenant
) -> None:
    agent = platform.agents.make(tenant.workspace_id, "agent:moving", instructions="old")
    request_id = str(uuid.uuid4())
    first = perron.admit(tenant.secret, "agent:moving", tokens=10, request_id=request_id)

    agent.version, agent.configuration.instructions = 2, "new"
    second = perron.admit(tenant.secret, "agent:moving", tokens=10, request_id=request_id)

    assert (second.decision_id, requests_left(second)) == (first.decision_id, requests_left(first))
    assert second.agent is not None
    assert (second.agent.version, second.agent.configuration.instructions) == (2, "new")
    perron.complete(second, tokens=7, prompt=b"question", output=b"answer")
    assert [record.agent_version for record in records(platform, tenant)] == [2]


def test_a_repetition_after_the_agent_changed_its_model_is_refused_and_reserves_nothing_more(
    perron: Perron, platform: Platform, tenant: Tenant
) -> None:
    agent = platform.agents.make(tenant.workspace_id, "agent:moving")
    request_id = str(uuid.uuid4())
    first = perron.admit(tenant.secret, "agent:moving", tokens=10, request_id=request_id)

    for model in ("large-1", TUNED):
        agent.version, agent.configuration.model = agent.version + 1, model
        with pytest.raises(InvalidRequest) as refused:
            perron.admit(tenant.secret, "agent:moving", tokens=10, request_id=request_id)
        assert refused.value.reason == "REQUEST_ID_REUSED"

    perron.complete(first, tokens=7)
    last = perron.admit(tenant.secret, MODEL, tokens=1)
    assert requests_left(first) - requests_left(last) == 1


def test_what_agents_had_no_room_for_is_asked_again_until_all_is_answered(
    platform: Platform, tenant: Tenant
) -> None:
    made = [
        platform.agents.make(tenant.workspace_id, instructions="i" * 65_536, description=str(number))
        for number in range(40)
    ]
    platform.agents.batches.clear()
    names = [agent.agent_id for agent in [*made, made[0], made[39]]]

    answers = batch(platform, tenant, names)

    assert len(platform.agents.batches) == 3
    assert [result.response.agent.agent_id for result in answers] == names
    carried = [result.response.agent.HasField("configuration") for result in answers]
    assert carried == [True] * 40 + [False, False]
    described = [result.response.agent.configuration.description for result in answers[:40]]
    assert described == [str(number) for number in range(40)]


def test_a_batch_beyond_what_an_answer_holds_refuses_what_does_not_fit(
    platform: Platform, tenant: Tenant
) -> None:
    platform.cap(tenant, requests=48)
    names = [platform.agents.make(tenant.workspace_id, instructions="i" * 65_536).agent_id for _ in range(50)]

    answers = batch(platform, tenant, [*names, MODEL])

    refused = [place for place, result in enumerate(answers) if result.HasField("error")]
    errors = {from_status(answers[place].error).reason for place in refused}
    assert (refused, errors) == ([47, 48, 49], {"ANSWER_TOO_LARGE"})
    # 47 agents and a base model were reserved, and what did not fit was not.
    with pytest.raises(PerronError) as full, Perron(platform.target, platform.suite.gateway_key) as perron:
        perron.admit(tenant.secret, MODEL, tokens=1)
    assert full.value.reason == "LIMIT_REACHED"


@pytest.mark.parametrize(("peer", "name"), [("agents", "agent:any"), ("finetuning", TUNED)])
def test_a_service_that_is_down_is_unavailable_to_those_who_need_it_alone(
    platform: Platform, tenant: Tenant, peer: str, name: str
) -> None:
    platform.stand_ins[peer].stop()
    try:
        with Perron(platform.target, platform.suite.gateway_key) as perron:
            assert perron.admit(tenant.secret, MODEL, tokens=1).decision_id
            with pytest.raises(Unavailable) as refused:
                perron.admit(tenant.secret, name, tokens=1)
            assert (refused.value.reason, refused.value.metadata) == ("PEER_UNAVAILABLE", {"peer": peer})
    finally:
        platform.stand_ins[peer].start()
    answers = batch(platform, tenant, [MODEL])
    assert answers[0].HasField("response")


def batch(platform: Platform, tenant: Tenant, names: list[str]) -> list[pb.AdmitResult]:
    items = [
        pb.AdmitRequest(
            credential=tenant.secret, model=name, estimated_tokens=1, channel=roles_pb2.CHANNEL_API
        )
        for name in names
    ]
    stub = admission_service_pb2_grpc.AdmissionServiceStub(platform.channel("admission"))
    answer = stub.BatchAdmit(pb.BatchAdmitRequest(items=items), metadata=bearer(platform.suite.gateway_key))
    return list(answer.results)


def records(platform: Platform, tenant: Tenant) -> list[Any]:
    stub = record_service_pb2_grpc.RecordServiceStub(platform.channel("governance"))
    response = stub.ListRecords(
        record_service_pb2.ListRecordsRequest(workspace_id=tenant.workspace_id),
        metadata=bearer(tenant.secret),
    )
    return list(response.records)
