"""Agents and fine-tuned models on the way through an admission."""

import asyncio
from typing import Any

import pytest

from perron.admission.admission_ids import AdmissionIds
from perron.admission.admissions import Admissions
from perron.api.admission.v1.admission_service_pb2 import AdmitResponse
from perron.api.common.v1 import roles_pb2
from perron.chassis.errors import (
    FailedPrecondition,
    NotFound,
    PermissionDenied,
    PerronError,
    Unavailable,
)
from perron.chassis.testing import FakeClock
from tests.unit.admission.exchange import (
    GATEWAY,
    TUNED,
    FakePeers,
    admit,
    ask,
    complete,
    completion,
    resolved,
)


async def test_an_agent_is_run_on_its_own_model_in_the_channel_of_the_call(
    admissions: Admissions, peers: FakePeers
) -> None:
    peers.resolving.answer = resolved(model=TUNED, handoffs=["agt_b"])

    response = await admit(admissions, ask(model="agent:support", channel=roles_pb2.CHANNEL_CHAT))

    (asked,) = peers.resolving.asked
    assert (asked.agent, asked.channel) == ("agent:support", roles_pb2.CHANNEL_CHAT)
    assert (
        response.effective_model == peers.reserving.asked[0].model == peers.deciding.asked[0].model == TUNED
    )
    assert peers.deciding.asked[0].channel == roles_pb2.CHANNEL_CHAT
    assert (response.agent.agent_id, response.agent.version) == ("agt_a", 3)
    assert list(response.agent.third_parties) == ["web_search"]
    assert list(response.agent.handoff_agent_ids) == ["agt_b"]
    assert response.agent.configuration.instructions == "Be kind."
    assert not peers.tuned.asked  # agents has asked


async def test_what_is_kept_names_agent_and_version_and_the_id_holds_no_instructions(
    admissions: Admissions, peers: FakePeers, clock: FakeClock
) -> None:
    response = await admit(admissions, ask(model="agt_a"))
    await complete(admissions, completion(response.admission_id))

    (put,) = peers.putting.asked
    assert (put.model, put.agent_id, put.agent_version) == ("small-1", "agt_a", 3)
    assert "Be kind." not in str(put)
    remembered = AdmissionIds([b"k" * 32], clock).open(response.admission_id, GATEWAY)
    assert (remembered.agent_id, remembered.agent_version) == ("agt_a", 3)
    assert "Be kind." not in str(remembered)


async def test_a_fine_tuned_model_is_run_by_the_name_that_finetuning_vouches_for(
    admissions: Admissions, peers: FakePeers
) -> None:
    response = await admit(admissions, ask(model="mdl_a"))

    assert (
        response.effective_model == peers.reserving.asked[0].model == peers.deciding.asked[0].model == TUNED
    )
    assert not response.HasField("agent")
    assert not peers.resolving.asked


async def test_a_base_model_costs_no_question(admissions: Admissions, peers: FakePeers) -> None:
    response = await admit(admissions, ask())

    assert not response.HasField("agent")
    assert not peers.resolving.asked
    assert not peers.tuned.asked


@pytest.mark.parametrize("slow", ["resolving", "tuned"])
async def test_a_service_that_hangs_holds_up_nobody_who_does_not_need_it(
    admissions: Admissions, peers: FakePeers, slow: str
) -> None:
    names = {"resolving": "agent:support", "tuned": TUNED}
    question = getattr(peers, slow)
    question.gate = asyncio.Event()
    waiting = asyncio.create_task(admit(admissions, ask(model=names.pop(slow))))
    await question.reached.wait()

    (other,) = names.values()
    assert (await admit(admissions, ask())).admission_id
    assert (await admit(admissions, ask(model=other))).admission_id
    assert not waiting.done()
    question.gate.set()
    assert (await waiting).admission_id


@pytest.mark.parametrize(
    "refusal",
    [
        NotFound("RESOURCE_NOT_FOUND", "no such agent"),
        FailedPrecondition("AGENT_DISABLED", "disabled"),
        FailedPrecondition("AGENT_NOT_PUBLISHED", "no", metadata={"channel": "CHAT", "because": "plan"}),
        FailedPrecondition("MODEL_DELETED", "deleted"),
        Unavailable("PEER_UNAVAILABLE", "agents does not answer", metadata={"peer": "agents"}),
    ],
)
@pytest.mark.parametrize(("asked", "name"), [("resolving", "agt_a"), ("tuned", TUNED)])
async def test_what_cannot_be_resolved_is_refused_as_it_was_and_reserves_nothing(
    admissions: Admissions, peers: FakePeers, refusal: PerronError, asked: str, name: str
) -> None:
    getattr(peers, asked).answer = refusal

    with pytest.raises(type(refusal)) as refused:
        await admit(admissions, ask(model=name))

    assert refused.value is refusal
    assert not peers.reserving.asked
    assert not peers.releasing.asked


async def test_a_key_must_be_bound_to_the_agent_and_to_its_model(
    admissions: Admissions, peers: FakePeers
) -> None:
    allowed = peers.verifying.answer.principal.allowed_models
    for bound, resolves in ((["small-1"], 0), (["agent:support"], 1), (["agent:support", "small-1"], 2)):
        allowed[:] = bound
        if len(bound) == 1:
            with pytest.raises(PermissionDenied) as refused:
                await admit(admissions, ask(model="agent:support"))
            assert refused.value.reason == "MODEL_NOT_ALLOWED"
            assert not peers.reserving.asked
        else:
            assert (await admit(admissions, ask(model="agent:support"))).effective_model == "small-1"
        assert len(peers.resolving.asked) == resolves


async def test_a_key_bound_to_a_fine_tuned_models_id_alone_does_not_run_it(
    admissions: Admissions, peers: FakePeers
) -> None:
    peers.verifying.answer.principal.allowed_models.append("mdl_a")

    with pytest.raises(PermissionDenied):
        await admit(admissions, ask(model="mdl_a"))


async def test_an_agent_over_a_base_model_that_the_operator_no_longer_lists_is_unknown(
    admissions: Admissions, peers: FakePeers
) -> None:
    peers.resolving.answer = resolved(model="gone-1")

    with pytest.raises(NotFound) as refused:
        await admit(admissions, ask(model="agt_a"))
    assert refused.value.reason == "MODEL_UNKNOWN"
    assert not peers.reserving.asked


async def test_a_batch_carries_each_versions_configuration_once_and_each_callers_own_handoffs(
    admissions: Admissions, peers: FakePeers
) -> None:
    peers.by_agent = {
        "agent:a": resolved(handoffs=["agt_x"]),
        "agt_a": resolved(handoffs=["agt_y"]),
        "agt_b": resolved("agt_b", 1),
    }
    asks = [ask(model=name) for name in ("agent:a", "small-1", "agt_a", "agt_b", "agent:a")]

    answers = await answered(admissions, asks)

    carried = [answer.agent.HasField("configuration") for answer in answers]
    assert carried == [True, False, False, True, False]
    assert list(answers[0].agent.configuration.handoff_agent_ids) == ["agt_x"]
    assert list(answers[2].agent.handoff_agent_ids) == ["agt_y"]
    assert [answer.effective_model for answer in answers] == ["small-1"] * 5


async def test_calls_that_meet_in_a_batch_are_each_given_the_configuration(
    admissions: Admissions, peers: FakePeers
) -> None:
    shared = resolved().configuration
    own, other = (peers_of(resolved(handoffs=[handoff]), shared) for handoff in ("agt_x", "agt_y"))
    peers.by_agent = {"agent:a": own, "agt_a": other}

    first, second = await asyncio.gather(
        admit(admissions, ask(model="agent:a")), admit(admissions, ask(model="agt_a"))
    )

    assert list(first.agent.configuration.handoff_agent_ids) == ["agt_x"]
    assert list(second.agent.configuration.handoff_agent_ids) == ["agt_y"]
    assert first.agent.configuration.instructions == second.agent.configuration.instructions


async def test_an_item_that_is_refused_leaves_the_configuration_to_the_next(
    admissions: Admissions, peers: FakePeers
) -> None:
    peers.by_agent = {"agent:gone": FailedPrecondition("AGENT_DISABLED", "disabled")}

    answers = await admissions.admit(
        GATEWAY, [ask(model="agent:gone"), ask(model="agt_a", credential="typo"), ask(model="agt_a")]
    )

    assert isinstance(answers[0], FailedPrecondition)
    assert isinstance(answers[1], PerronError)
    assert isinstance(answers[2], AdmitResponse)
    assert answers[2].agent.configuration.instructions == "Be kind."


async def test_what_an_answer_has_no_room_for_reserves_nothing_and_is_admitted_by_itself(
    admissions: Admissions, peers: FakePeers
) -> None:
    size = 256 * 1024
    peers.by_agent = {
        f"agt_{number:02d}": resolved(f"agt_{number:02d}", instructions="i" * (size - 64))
        for number in range(14)
    }
    names = [*sorted(peers.by_agent), "agt_00"]

    answers = await admissions.admit(GATEWAY, [ask(model=name) for name in names])

    refused = [place for place, answer in enumerate(answers) if isinstance(answer, PerronError)]
    assert refused == [12, 13]
    assert {answer.reason for answer in answers if isinstance(answer, PerronError)} == {"ANSWER_TOO_LARGE"}
    assert len(peers.reserving.asked) == len(peers.deciding.asked) == 13
    assert not peers.releasing.asked
    assert sum(answer.ByteSize() for answer in answers if isinstance(answer, AdmitResponse)) < 4 * 1024 * 1024
    assert (await admit(admissions, ask(model="agt_13"))).agent.HasField("configuration")


def peers_of(agent: Any, configuration: Any) -> Any:
    """The agent with a configuration that was resolved for several callers at once."""
    return type(agent)(agent.response, configuration)


async def answered(admissions: Admissions, asks: list[Any]) -> list[AdmitResponse]:
    answers = await admissions.admit(GATEWAY, asks)
    assert all(isinstance(answer, AdmitResponse) for answer in answers), answers
    return [answer for answer in answers if isinstance(answer, AdmitResponse)]
