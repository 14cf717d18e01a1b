import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from perron.admission.admission_ids import AdmissionIds
from perron.admission.admissions import Admissions
from perron.admission.base_models import BaseModels
from perron.admission.peers import Peers
from perron.api.admission.v1.admission_service_pb2 import (
    AdmitRequest,
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
    FailedPrecondition,
    NotFound,
    PermissionDenied,
    PerronError,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
)
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

    async def submit(self, item: Any) -> Any:
        self.asked.append(item)
        self.reached.set()
        if self.gate is not None:
            await self.gate.wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


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
        self.verify = Question(
            api_key_pb2.VerifyResponse(
                state=api_key_pb2.KEY_STATE_VALID, principal=principal, passport="passport"
            )
        )
        self.reserving = Question(reserved)
        self.deciding = Question(decision_service_pb2.DecideResponse(decision=decision, keep_content=True))
        self.settle = Question(quota_service_pb2.SettleResponse(tokens=42))
        self.put = Question(record_service_pb2.PutResponse(recorded=True, record_id="rec_a"))
        self.releasing = Question(None)

    async def reserve(self, organization_id: str, passport: str, item: Any) -> Any:
        return await self.reserving.submit(item)

    async def decide(self, organization_id: str, passport: str, item: Any) -> Any:
        return await self.deciding.submit(item)

    async def release(self, request: Any) -> None:
        await self.releasing.submit(request)


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


def completion(admission_id: str, **fields: Any) -> CompleteRequest:
    content = Content(input=b"question", output=b"answer")
    return CompleteRequest(**({"admission_id": admission_id, "tokens": 42, "content": content} | fields))


async def test_an_admitted_call_is_verified_reserved_and_decided_in_this_order(
    admissions: Admissions, peers: FakePeers
) -> None:
    response = await admissions.admit(GATEWAY, ask())

    assert response.effective_model == "small-1"
    assert response.keep_content
    assert response.decision.decision_id == "dec_a"
    assert response.organization_id == "org_a"
    assert peers.verify.asked[0].required_scopes == [roles_pb2.SCOPE_INFERENCE]
    assert peers.reserving.asked[0].ttl.seconds == 60
    assert peers.deciding.asked[0].in_flight_until == peers.reserving.answer.expire_time
    assert not peers.releasing.asked


async def test_a_key_with_a_typo_costs_no_question(admissions: Admissions, peers: FakePeers) -> None:
    for typo in (KEY[:-1] + "x", "", KEY + " ", KEY.upper(), "\0", "a" * 8192):
        with pytest.raises(Unauthenticated) as refused:
            await admissions.admit(GATEWAY, ask(credential=typo))
        assert refused.value.metadata == {"state": "MALFORMED"}
    assert not peers.verify.asked


@pytest.mark.parametrize(
    "state", ["UNKNOWN", "EXPIRED", "REVOKED", "OWNER_REMOVED", "TERMINATED", "MALFORMED"]
)
async def test_a_key_that_is_not_valid_is_unauthenticated_with_its_state(
    admissions: Admissions, peers: FakePeers, state: str
) -> None:
    peers.verify.answer = api_key_pb2.VerifyResponse(state=f"KEY_STATE_{state}")  # type: ignore[arg-type]  # by name

    with pytest.raises(Unauthenticated) as refused:
        await admissions.admit(GATEWAY, ask())

    assert (refused.value.reason, refused.value.metadata) == ("CREDENTIAL_INVALID", {"state": state})
    assert not peers.reserving.asked


@pytest.mark.parametrize("state", ["TERMS_NOT_ACCEPTED", "NETWORK_NOT_ALLOWED", "SCOPE_MISSING"])
async def test_a_known_key_that_may_not_is_denied_with_the_reason(
    admissions: Admissions, peers: FakePeers, state: str
) -> None:
    peers.verify.answer = api_key_pb2.VerifyResponse(state=f"KEY_STATE_{state}")  # type: ignore[arg-type]  # by name

    with pytest.raises(PermissionDenied) as refused:
        await admissions.admit(GATEWAY, ask())

    assert refused.value.reason == state
    assert not peers.reserving.asked


async def test_a_gateways_own_key_runs_no_inference(admissions: Admissions, peers: FakePeers) -> None:
    peers.verify.answer.principal.kind = principal_pb2.PRINCIPAL_KIND_SERVICE

    with pytest.raises(PermissionDenied):
        await admissions.admit(GATEWAY, ask())


async def test_a_dependency_that_is_down_is_unavailable_and_nothing_else_is_asked(
    admissions: Admissions, peers: FakePeers
) -> None:
    peers.verify.answer = Unavailable("PEER_UNAVAILABLE", "identity does not answer")

    with pytest.raises(Unavailable):
        await admissions.admit(GATEWAY, ask())
    assert not peers.reserving.asked


async def test_a_model_the_key_may_not_use_consumes_nothing(admissions: Admissions, peers: FakePeers) -> None:
    peers.verify.answer.principal.allowed_models.append("large-1")

    with pytest.raises(PermissionDenied):
        await admissions.admit(GATEWAY, ask())
    with pytest.raises(NotFound):
        await admissions.admit(GATEWAY, ask(model="large-1"))
    assert not peers.reserving.asked


async def test_a_call_over_a_limit_leaves_no_decision(admissions: Admissions, peers: FakePeers) -> None:
    peers.reserving.answer = ResourceExhausted("LIMIT_REACHED", "too many requests")

    with pytest.raises(ResourceExhausted):
        await admissions.admit(GATEWAY, ask())
    assert not peers.deciding.asked
    assert not peers.releasing.asked


@pytest.mark.parametrize("release", [None, Unavailable("PEER_UNAVAILABLE", "quotas does not answer")])
async def test_an_undecided_call_gives_back_what_it_reserved(
    admissions: Admissions, peers: FakePeers, release: PerronError | None
) -> None:
    peers.deciding.answer = Unavailable("PEER_UNAVAILABLE", "governance does not answer")
    peers.releasing.answer = release

    with pytest.raises(Unavailable) as refused:
        await admissions.admit(GATEWAY, ask())

    assert refused.value is peers.deciding.answer
    assert [request.reservation_id for request in peers.releasing.asked] == ["res_a"]


@pytest.mark.parametrize("slow", ["reserving", "deciding"])
async def test_a_caller_that_leaves_halfway_leaves_nothing_reserved(
    admissions: Admissions, peers: FakePeers, slow: str
) -> None:
    question = getattr(peers, slow)
    question.gate = asyncio.Event()
    caller = asyncio.create_task(admissions.admit(GATEWAY, ask()))
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
    caller = asyncio.create_task(admissions.admit(GATEWAY, ask(request_id=REQUEST)))
    await peers.deciding.reached.wait()

    caller.cancel()
    peers.deciding.gate.set()
    await admissions.aclose()
    await admissions.admit(GATEWAY, ask(request_id=REQUEST))

    assert not peers.releasing.asked
    assert len({item.request_id for item in peers.reserving.asked}) == 1
    assert len({item.request_id for item in peers.deciding.asked}) == 1
    assert peers.reserving.asked[0].request_id != peers.deciding.asked[0].request_id


async def test_completing_settles_and_records(admissions: Admissions, peers: FakePeers) -> None:
    admitted = await admissions.admit(GATEWAY, ask())

    response = await admissions.complete(GATEWAY, completion(admitted.admission_id))

    assert response == CompleteResponse(settled_tokens=42, recorded=True, record_id="rec_a")
    assert (peers.settle.asked[0].organization_id, peers.settle.asked[0].reservation_id) == ("org_a", "res_a")
    assert (peers.put.asked[0].decision_id, peers.put.asked[0].input) == ("dec_a", b"question")


async def test_content_is_recorded_only_after_its_use_is_settled(
    admissions: Admissions, peers: FakePeers
) -> None:
    admitted = await admissions.admit(GATEWAY, ask())
    peers.settle.answer = FailedPrecondition("RESERVATION_CLOSED", "released")

    with pytest.raises(FailedPrecondition):
        await admissions.complete(GATEWAY, completion(admitted.admission_id))
    assert not peers.put.asked


async def test_content_that_may_not_be_kept_goes_no_further(
    admissions: Admissions, peers: FakePeers, clock: FakeClock
) -> None:
    kept = await admissions.admit(GATEWAY, ask())
    peers.deciding.answer.keep_content = False
    not_kept = await admissions.admit(GATEWAY, ask())

    empty = await admissions.complete(GATEWAY, completion(kept.admission_id, content=None))
    unwanted = await admissions.complete(GATEWAY, completion(not_kept.admission_id))
    clock.advance(timedelta(minutes=1))
    late = await admissions.complete(GATEWAY, completion(kept.admission_id))

    assert empty.omission == CompleteResponse.OMISSION_NO_CONTENT
    assert unwanted.omission == CompleteResponse.OMISSION_NOT_TO_BE_KEPT
    assert late.omission == CompleteResponse.OMISSION_TOO_LATE
    assert not peers.put.asked
    assert len(peers.settle.asked) == 3


async def test_what_governance_discards_is_told_with_its_reason(
    admissions: Admissions, peers: FakePeers
) -> None:
    peers.put.answer = record_service_pb2.PutResponse(reason=record_pb2.DISCARD_REASON_ZERO_RETENTION)
    admitted = await admissions.admit(GATEWAY, ask())

    response = await admissions.complete(GATEWAY, completion(admitted.admission_id))

    assert not response.recorded
    assert response.omission == CompleteResponse.OMISSION_DISCARDED
    assert response.discard_reason == record_pb2.DISCARD_REASON_ZERO_RETENTION


async def test_another_gateway_can_neither_complete_nor_abort(
    admissions: Admissions, peers: FakePeers
) -> None:
    admitted = await admissions.admit(GATEWAY, ask())

    with pytest.raises(NotFound):
        await admissions.complete("key_other", completion(admitted.admission_id))
    with pytest.raises(NotFound):
        await admissions.abort("key_other", admitted.admission_id)
    assert not peers.settle.asked
    assert not peers.releasing.asked


async def test_aborting_releases(admissions: Admissions, peers: FakePeers) -> None:
    admitted = await admissions.admit(GATEWAY, ask())

    await admissions.abort(GATEWAY, admitted.admission_id)

    assert [request.reservation_id for request in peers.releasing.asked] == ["res_a"]
