import pytest

from perron.admission.admissions import Admissions
from perron.api.common.v1 import roles_pb2
from perron.api.identity.v1 import api_key_pb2, principal_pb2
from perron.chassis.errors import (
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
)
from tests.unit.admission.exchange import KEY, FakePeers, admit, ask


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
