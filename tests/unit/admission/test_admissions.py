import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from perron.admission.admission_ids import AdmissionIds
from perron.admission.admissions import Admissions
from perron.admission.base_models import BaseModels
from perron.admission.peers import Asked, Peers
from perron.api.admission.v1.admission_service_pb2 import (
    AdmitRequest,
    AdmitResponse,
    CompleteRequest,
    CompleteResponse,
    Content,
)
from perron.api.common.v1 import roles_pb2
from perron.api.governance.v1 import decision_pb2, decision_service_pb2, record_pb2, record_service_pb2
from perron.api.identity.v1 import api_key_pb2, principal_pb2
from perron.api.quotas.v1 import quota_service_pb2
from perron.chassis import credentials
from perron.chassis.errors import (
    DeadlineExceeded,
    FailedPrecondition,
    NotFound,
    PermissionDenied,
    PerronError,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
)
from perron.chassis.interceptors import deadline
from perron.chassis.testing import FakeClock

START = datetime(2026, 1, 1, tzinfo=UTC)
KEY = credentials.with_checksum("test", "k" * 43)
GATEWAY = "key_gateway"
REQUEST = "6a8f5f04-42a6-4a0c-9d2f-1f3a5b7c9d11"


@dataclass
class Question:
    """One question that a peer is asked; the answer may be a value, an error or a wait."""

    answer: Any
    asked: list[Any] = field(default_factory=list)
    gate: asyncio.Event | None = None
    reached: asyncio.Event = field(default_factory=asyncio.Event)

    async def put_to(self, items: Sequence[Any]) -> list[Any]:
        self.asked.extend(items)
        self.reached.set()
        if self.gate is not None:
            await self.gate.wait()
        return [self.answer for _ in items]


class FakePeers:
    """Identity, quotas and governance that answer what the test says."""

    def __init__(self, clock: FakeClock) -> None:
        principal = principal_pb2.Principal(
            kind=principal_pb2.PRINCIPAL_KIND_CUSTOMER, organization_id="org_a", workspace_id="ws_a"
        )
        reserved = quota_service_pb2.ReserveResponse(reservation_id="res_a")
        reserved.expire_time.FromDatetime(clock.now() + timedelta(minutes=1))
        decision = decision_pb2.Decision(decision_id="dec_a")
        decision.as_of_time.FromDatetime(clock.now())
        self.verifying = Question(
            api_key_pb2.VerifyResponse(
                state=api_key_pb2.KEY_STATE_VALID, principal=principal, passport="passport"
            )
        )
        self.reserving = Question(reserved)
        self.deciding = Question(decision_service_pb2.DecideResponse(decision=decision, keep_content=True))
        self.settling = Question(quota_service_pb2.SettleResponse(tokens=42))
        self.putting = Question(record_service_pb2.PutResponse(recorded=True, record_id="rec_a"))
        self.releasing = Question(None)
        self.by_credential: dict[str, str] = {}

    async def verify(self, items: Sequence[Any]) -> list[Any]:
        answers = await self.verifying.put_to(items)
        return [self._of(item, answer) for item, answer in zip(items, answers, strict=True)]

    def _of(self, item: Any, answer: Any) -> Any:
        """The answer, about the organization that the test gave the key to."""
        if item.credential not in self.by_credential:
            return answer
        own = api_key_pb2.VerifyResponse()
        own.CopyFrom(answer)
        own.principal.organization_id = self.by_credential[item.credential]
        return own

    async def reserve(self, asked: Sequence[Asked[Any]]) -> list[Any]:
        return await self.reserving.put_to([one.item for one in asked])

    async def decide(self, asked: Sequence[Asked[Any]]) -> list[Any]:
        return await self.deciding.put_to([one.item for one in asked])

    async def settle(self, items: Sequence[Any]) -> list[Any]:
        return await self.settling.put_to(items)

    async def put(self, items: Sequence[Any]) -> list[Any]:
        return await self.putting.put_to(items)

    async def release(self, request: Any) -> None:
        (answer,) = await self.releasing.put_to([request])
        if answer is not None:
            raise answer


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(START)


@pytest.fixture
def peers(clock: FakeClock) -> FakePeers:
    return FakePeers(clock)


@pytest.fixture
def admissions(peers: FakePeers, clock: FakeClock) -> Admissions:
    return Admissions(cast("Peers", peers), AdmissionIds([b"k" * 32], clock), BaseModels(["small-1"]))


def ask(**fields: Any) -> AdmitRequest:
    given: dict[str, Any] = {
        "credential": KEY,
        "model": "small-1",
        "estimated_tokens": 100,
        "channel": roles_pb2.CHANNEL_API,
    }
    return AdmitRequest(**(given | fields))


async def admit(admissions: Admissions, ask: AdmitRequest) -> AdmitResponse:
    (answer,) = await admissions.admit(GATEWAY, [ask])
    if isinstance(answer, PerronError):
        raise answer
    return answer


async def complete(
    admissions: Admissions, request: CompleteRequest, gateway: str = GATEWAY
) -> CompleteResponse:
    (answer,) = await admissions.complete(gateway, [request])
    if isinstance(answer, PerronError):
        raise answer
    return answer


def completion(admission_id: str, **fields: Any) -> CompleteRequest:
    content = Content(input=b"question", output=b"answer")
    return CompleteRequest(**({"admission_id": admission_id, "tokens": 42, "content": content} | fields))


async def test_an_admitted_call_is_verified_reserved_and_decided_in_this_order(
    admissions: Admissions, peers: FakePeers
) -> None:
    response = await admit(admissions, ask())

    assert response.effective_model == "small-1"
    assert response.keep_content
    assert response.decision.decision_id == "dec_a"
    assert response.organization_id == "org_a"
    assert peers.verifying.asked[0].required_scopes == [roles_pb2.SCOPE_INFERENCE]
    assert peers.reserving.asked[0].ttl.seconds == 60
    assert peers.deciding.asked[0].in_flight_until == peers.reserving.answer.expire_time
    assert not peers.releasing.asked


async def test_a_key_with_a_typo_costs_no_question(admissions: Admissions, peers: FakePeers) -> None:
    for typo in (KEY[:-1] + "x", "", KEY + " ", KEY.upper(), "\0", "a" * 8192):
        with pytest.raises(Unauthenticated) as refused:
            await admit(admissions, ask(credential=typo))
        assert refused.value.metadata == {"state": "MALFORMED"}
    assert not peers.verifying.asked


@pytest.mark.parametrize(
    "state", ["UNKNOWN", "EXPIRED", "REVOKED", "OWNER_REMOVED", "TERMINATED", "MALFORMED"]
)
async def test_a_key_that_is_not_valid_is_unauthenticated_with_its_state(
    admissions: Admissions, peers: FakePeers, state: str
) -> None:
    peers.verifying.answer = api_key_pb2.VerifyResponse(state=f"KEY_STATE_{state}")  # type: ignore[arg-type]  # by name

    with pytest.raises(Unauthenticated) as refused:
        await admit(admissions, ask())

    assert (refused.value.reason, refused.value.metadata) == ("CREDENTIAL_INVALID", {"state": state})
    assert not peers.reserving.asked


@pytest.mark.parametrize("state", ["TERMS_NOT_ACCEPTED", "NETWORK_NOT_ALLOWED", "SCOPE_MISSING"])
async def test_a_known_key_that_may_not_is_denied_with_the_reason(
    admissions: Admissions, peers: FakePeers, state: str
) -> None:
    peers.verifying.answer = api_key_pb2.VerifyResponse(state=f"KEY_STATE_{state}")  # type: ignore[arg-type]  # by name

    with pytest.raises(PermissionDenied) as refused:
        await admit(admissions, ask())

    assert refused.value.reason == state
    assert not peers.reserving.asked


async def test_a_gateways_own_key_runs_no_inference(admissions: Admissions, peers: FakePeers) -> None:
    peers.verifying.answer.principal.kind = principal_pb2.PRINCIPAL_KIND_SERVICE

    with pytest.raises(PermissionDenied):
        await admit(admissions, ask())


async def test_a_dependency_that_is_down_is_unavailable_and_nothing_else_is_asked(
    admissions: Admissions, peers: FakePeers
) -> None:
    peers.verifying.answer = Unavailable("PEER_UNAVAILABLE", "identity does not answer")

    with pytest.raises(Unavailable):
        await admit(admissions, ask())
    assert not peers.reserving.asked


async def test_a_model_the_key_may_not_use_consumes_nothing(admissions: Admissions, peers: FakePeers) -> None:
    peers.verifying.answer.principal.allowed_models.append("large-1")

    with pytest.raises(PermissionDenied):
        await admit(admissions, ask())
    with pytest.raises(NotFound):
        await admit(admissions, ask(model="large-1"))
    assert not peers.reserving.asked


async def test_a_call_over_a_limit_leaves_no_decision(admissions: Admissions, peers: FakePeers) -> None:
    peers.reserving.answer = ResourceExhausted("LIMIT_REACHED", "too many requests")

    with pytest.raises(ResourceExhausted):
        await admit(admissions, ask())
    assert not peers.deciding.asked
    assert not peers.releasing.asked


@pytest.mark.parametrize("release", [None, Unavailable("PEER_UNAVAILABLE", "quotas does not answer")])
async def test_an_undecided_call_gives_back_what_it_reserved(
    admissions: Admissions, peers: FakePeers, release: PerronError | None
) -> None:
    peers.deciding.answer = Unavailable("PEER_UNAVAILABLE", "governance does not answer")
    peers.releasing.answer = release

    with pytest.raises(Unavailable) as refused:
        await admit(admissions, ask())

    assert refused.value is peers.deciding.answer
    assert [request.reservation_id for request in peers.releasing.asked] == ["res_a"]


@pytest.mark.parametrize("slow", ["reserving", "deciding"])
async def test_a_caller_that_leaves_halfway_leaves_nothing_reserved(
    admissions: Admissions, peers: FakePeers, slow: str
) -> None:
    question = getattr(peers, slow)
    question.gate = asyncio.Event()
    caller = asyncio.create_task(admit(admissions, ask()))
    await question.reached.wait()

    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    question.gate.set()
    await admissions.aclose()

    assert [request.reservation_id for request in peers.releasing.asked] == ["res_a"]


async def test_a_caller_that_may_come_back_finds_its_admission(
    admissions: Admissions, peers: FakePeers
) -> None:
    peers.deciding.gate = asyncio.Event()
    caller = asyncio.create_task(admit(admissions, ask(request_id=REQUEST)))
    await peers.deciding.reached.wait()

    caller.cancel()
    peers.deciding.gate.set()
    await admit(admissions, ask(request_id=REQUEST))
    await admissions.aclose()

    assert not peers.releasing.asked
    assert len({item.request_id for item in peers.reserving.asked}) == 1
    assert len({item.request_id for item in peers.deciding.asked}) == 1
    assert peers.reserving.asked[0].request_id != peers.deciding.asked[0].request_id


async def test_completing_settles_and_records(admissions: Admissions, peers: FakePeers) -> None:
    admitted = await admit(admissions, ask())

    response = await complete(admissions, completion(admitted.admission_id))

    assert response == CompleteResponse(settled_tokens=42, recorded=True, record_id="rec_a")
    assert (peers.settling.asked[0].organization_id, peers.settling.asked[0].reservation_id) == (
        "org_a",
        "res_a",
    )
    assert (peers.putting.asked[0].decision_id, peers.putting.asked[0].input) == ("dec_a", b"question")


async def test_content_is_recorded_only_after_its_use_is_settled(
    admissions: Admissions, peers: FakePeers
) -> None:
    admitted = await admit(admissions, ask())
    peers.settling.answer = FailedPrecondition("RESERVATION_CLOSED", "released")

    with pytest.raises(FailedPrecondition):
        await complete(admissions, completion(admitted.admission_id))
    assert not peers.putting.asked


async def test_content_that_may_not_be_kept_goes_no_further(
    admissions: Admissions, peers: FakePeers, clock: FakeClock
) -> None:
    kept = await admit(admissions, ask())
    peers.deciding.answer.keep_content = False
    not_kept = await admit(admissions, ask())

    empty = await complete(admissions, completion(kept.admission_id, content=None))
    unwanted = await complete(admissions, completion(not_kept.admission_id))
    clock.advance(timedelta(minutes=1))
    late = await complete(admissions, completion(kept.admission_id))

    assert empty.omission == CompleteResponse.OMISSION_NO_CONTENT
    assert unwanted.omission == CompleteResponse.OMISSION_NOT_TO_BE_KEPT
    assert late.omission == CompleteResponse.OMISSION_TOO_LATE
    assert not peers.putting.asked
    assert len(peers.settling.asked) == 3


async def test_what_governance_discards_is_told_with_its_reason(
    admissions: Admissions, peers: FakePeers
) -> None:
    peers.putting.answer = record_service_pb2.PutResponse(reason=record_pb2.DISCARD_REASON_ZERO_RETENTION)
    admitted = await admit(admissions, ask())

    response = await complete(admissions, completion(admitted.admission_id))

    assert not response.recorded
    assert response.omission == CompleteResponse.OMISSION_DISCARDED
    assert response.discard_reason == record_pb2.DISCARD_REASON_ZERO_RETENTION


async def test_another_gateway_can_neither_complete_nor_abort(
    admissions: Admissions, peers: FakePeers
) -> None:
    admitted = await admit(admissions, ask())

    with pytest.raises(NotFound):
        await complete(admissions, completion(admitted.admission_id), gateway="key_other")
    with pytest.raises(NotFound):
        await admissions.abort("key_other", admitted.admission_id)
    assert not peers.settling.asked
    assert not peers.releasing.asked


async def test_aborting_releases(admissions: Admissions, peers: FakePeers) -> None:
    admitted = await admit(admissions, ask())

    await admissions.abort(GATEWAY, admitted.admission_id)

    assert [request.reservation_id for request in peers.releasing.asked] == ["res_a"]


async def test_exchanges_of_a_batch_are_answered_each_by_itself(
    admissions: Admissions, peers: FakePeers
) -> None:
    asks = [ask(), ask(credential="typo"), ask(model="large-1"), ask()]

    answers = await admissions.admit(GATEWAY, asks)

    reasons = [answer.reason if isinstance(answer, PerronError) else "" for answer in answers]
    assert reasons == ["", "CREDENTIAL_INVALID", "MODEL_UNKNOWN", ""]
    assert len(peers.verifying.asked) == 3
    assert len(peers.reserving.asked) == len(peers.deciding.asked) == 2


async def test_a_call_whose_time_runs_out_halfway_leaves_nothing_reserved(
    admissions: Admissions, peers: FakePeers
) -> None:
    peers.deciding.gate = asyncio.Event()
    deadline.set_instant(asyncio.get_running_loop().time() + 0.02)

    with pytest.raises(DeadlineExceeded):
        await admit(admissions, ask())
    await admissions.aclose()

    assert [request.reservation_id for request in peers.releasing.asked] == ["res_a"]


async def test_organizations_take_turns_however_many_keys_they_use(
    admissions: Admissions, peers: FakePeers
) -> None:
    own = [credentials.with_checksum("test", f"{number:043d}") for number in range(200)]
    other = credentials.with_checksum("test", "o" * 43)
    peers.by_credential = dict.fromkeys(own, "org_greedy") | {other: "org_other"}
    await admissions.admit(GATEWAY, [ask(credential=secret) for secret in [*own, other]])
    peers.verifying.asked.clear()
    peers.verifying.gate = asyncio.Event()

    first = asyncio.create_task(admissions.admit(GATEWAY, [ask(credential=own[0])]))
    await asyncio.sleep(0)
    waiting = [asyncio.create_task(admissions.admit(GATEWAY, [ask(credential=secret) for secret in own]))]
    await asyncio.sleep(0)
    waiting.append(asyncio.create_task(admissions.admit(GATEWAY, [ask(credential=other)] * 10)))
    await asyncio.sleep(0)
    peers.verifying.gate.set()
    await asyncio.gather(first, *waiting)

    second_batch = [item.credential for item in peers.verifying.asked[1:129]]
    assert second_batch.count(other) == 10
