import uuid
from datetime import timedelta
from typing import Any

import grpc
import pytest

from perron.api.admission.v1 import admission_service_pb2 as pb
from perron.api.admission.v1 import admission_service_pb2_grpc
from perron.api.common.v1 import roles_pb2
from perron.api.governance.v1 import decision_service_pb2, decision_service_pb2_grpc
from perron.api.identity.v1 import api_key_pb2
from perron.chassis import credentials
from perron.client import (
    Denied,
    InvalidRequest,
    LimitReached,
    NotFound,
    Perron,
    PerronError,
    Refused,
    Unauthenticated,
    Unavailable,
)
from perron.client.errors import from_call
from tests.contract.admission.conftest import Platform, Tenant, bearer

MODEL = "small-1"
QUESTION, ANSWER = b"What does json.dumps do?", b"It serializes an object to JSON."


def remaining(response: pb.AdmitResponse) -> list[int]:
    return [status.remaining for status in response.limits]


def decisions(platform: Platform, tenant: Tenant) -> int:
    stub = decision_service_pb2_grpc.DecisionServiceStub(platform.channel("governance"))
    request = decision_service_pb2.ListDecisionsRequest()
    return len(stub.ListDecisions(request, metadata=bearer(tenant.secret)).decisions)


def test_an_exchange_is_admitted_settled_and_recorded(perron: Perron, tenant: Tenant) -> None:
    admission = perron.admit(tenant.secret, MODEL, tokens=500, subject="person-1")
    completed = perron.complete(admission, tokens=120, prompt=QUESTION, output=ANSWER)

    assert admission.model == MODEL
    assert admission.response.organization_id == tenant.organization_id
    assert admission.response.workspace_id == tenant.workspace_id
    assert len(admission.response.limits) == 9
    assert admission.decision_id.startswith("dec_")
    assert admission.keep_content
    assert completed.settled_tokens == 120
    assert completed.recorded
    assert completed.record_id.startswith("rec_")


def test_completing_twice_has_one_effect(perron: Perron, tenant: Tenant) -> None:
    admission = perron.admit(tenant.secret, MODEL, tokens=500)

    first = perron.complete(admission, tokens=120, prompt=QUESTION, output=ANSWER)
    second = perron.complete(admission, tokens=120, prompt=QUESTION, output=ANSWER)

    assert first == second


def test_a_repetition_continues_the_same_admission(perron: Perron, tenant: Tenant) -> None:
    request_id = str(uuid.uuid4())

    first = perron.admit(tenant.secret, MODEL, tokens=500, request_id=request_id)
    second = perron.admit(tenant.secret, MODEL, tokens=500, request_id=request_id)
    third = perron.admit(tenant.secret, MODEL, tokens=1)

    assert first.decision_id == second.decision_id
    assert first.expire_time == second.expire_time
    requests_left = [remaining(admission.response)[0] for admission in (first, second, third)]
    assert requests_left[0] - requests_left[2] == 1


def test_a_request_id_with_another_body_is_refused(perron: Perron, tenant: Tenant) -> None:
    request_id = str(uuid.uuid4())
    perron.admit(tenant.secret, MODEL, tokens=500, request_id=request_id)

    with pytest.raises(InvalidRequest) as refused:
        perron.admit(tenant.secret, MODEL, tokens=501, request_id=request_id)
    assert refused.value.reason == "REQUEST_ID_REUSED"


def test_a_revoked_key_is_refused_at_the_next_request(
    perron: Perron, platform: Platform, tenant: Tenant
) -> None:
    key_id, secret = platform.key(tenant)
    perron.admit(secret, MODEL, tokens=1)

    platform.identity_keys.RevokeApiKey(
        api_key_pb2.RevokeApiKeyRequest(key_id=key_id), metadata=bearer(tenant.secret)
    )

    with pytest.raises(Unauthenticated) as refused:
        perron.admit(secret, MODEL, tokens=1)
    assert refused.value.metadata == {"state": "REVOKED"}


def test_an_admission_is_settled_also_after_its_key_was_revoked(
    perron: Perron, platform: Platform, tenant: Tenant
) -> None:
    key_id, secret = platform.key(tenant)
    admission = perron.admit(secret, MODEL, tokens=10)
    platform.identity_keys.RevokeApiKey(
        api_key_pb2.RevokeApiKeyRequest(key_id=key_id), metadata=bearer(tenant.secret)
    )

    assert perron.complete(admission, tokens=7).settled_tokens == 7


@pytest.mark.parametrize(
    ("credential", "state"),
    [
        (credentials.with_checksum("live", "u" * 43), "UNKNOWN"),
        (credentials.with_checksum("live", "u" * 43)[:-1] + "!", "MALFORMED"),
        ("", "MALFORMED"),
        ("k" * 8192, "MALFORMED"),
    ],
)
def test_a_key_that_is_not_valid_is_unauthenticated_with_its_state(
    perron: Perron, credential: str, state: str
) -> None:
    with pytest.raises(Unauthenticated) as refused:
        perron.admit(credential, MODEL, tokens=1)
    assert (refused.value.reason, refused.value.metadata) == ("CREDENTIAL_INVALID", {"state": state})


def test_a_key_without_the_scope_is_denied(perron: Perron, platform: Platform, tenant: Tenant) -> None:
    _, secret = platform.key(tenant, scopes=[roles_pb2.SCOPE_KEYS_READ])

    with pytest.raises(Denied) as refused:
        perron.admit(secret, MODEL, tokens=1)
    assert refused.value.reason == "SCOPE_MISSING"


def test_a_key_bound_to_a_network_is_denied_elsewhere(
    perron: Perron, platform: Platform, tenant: Tenant
) -> None:
    _, secret = platform.key(tenant, allowed_networks=["10.0.0.0/8"])

    assert perron.admit(secret, MODEL, tokens=1, peer="10.1.2.3").decision_id
    for elsewhere in ("192.0.2.1", ""):
        with pytest.raises(Denied) as refused:
            perron.admit(secret, MODEL, tokens=1, peer=elsewhere)
        assert refused.value.reason == "NETWORK_NOT_ALLOWED"


def test_a_key_bound_to_models_is_denied_others(perron: Perron, platform: Platform, tenant: Tenant) -> None:
    _, secret = platform.key(tenant, allowed_models=[MODEL])

    assert perron.admit(secret, MODEL, tokens=1).model == MODEL
    with pytest.raises(Denied) as refused:
        perron.admit(secret, "large-1", tokens=1)
    assert refused.value.reason == "MODEL_NOT_ALLOWED"


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("model", {"model": ""}),
        ("model", {"model": "../" + MODEL}),
        ("model", {"model": "m" * 129}),
        ("estimated_tokens", {"tokens": 0}),
        ("estimated_tokens", {"tokens": -1}),
        ("estimated_tokens", {"tokens": 2**63 - 1}),
        ("ttl", {"ttl": timedelta(seconds=-1)}),
        ("ttl", {"ttl": timedelta(hours=1, microseconds=1)}),
        ("peer_network", {"peer": "here"}),
        ("data_subject", {"subject": "s" * 129}),
        ("request_id", {"request_id": "00000000-0000-0000-0000-000000000000"}),
        ("request_id", {"request_id": "again"}),
    ],
)
def test_a_field_that_breaks_its_rule_is_named(
    perron: Perron, tenant: Tenant, field: str, change: dict[str, Any]
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        perron.admit(tenant.secret, **({"model": MODEL, "tokens": 1} | change))
    assert refused.value.reason == "FIELD_INVALID"
    assert list(refused.value.fields) == [field]


def test_a_channel_must_be_stated(platform: Platform, tenant: Tenant) -> None:
    request = pb.AdmitRequest(credential=tenant.secret, model=MODEL, estimated_tokens=1)

    with pytest.raises(grpc.RpcError) as failed:
        stub(platform).Admit(request, metadata=bearer(platform.suite.gateway_key))
    assert list(from_call(failed.value).fields) == ["channel"]


def test_a_limit_refuses_and_leaves_neither_charge_nor_decision(
    perron: Perron, platform: Platform, tenant: Tenant
) -> None:
    platform.cap(tenant, requests=2)
    for _ in range(2):
        perron.admit(tenant.secret, MODEL, tokens=1)

    with pytest.raises(LimitReached) as refused:
        perron.admit(tenant.secret, MODEL, tokens=1)

    assert refused.value.reason == "LIMIT_REACHED"
    assert refused.value.retry_after is not None
    assert timedelta(0) < refused.value.retry_after <= timedelta(hours=1, minutes=1)
    assert decisions(platform, tenant) == 2


def test_an_aborted_admission_gives_back_what_it_reserved(
    perron: Perron, platform: Platform, tenant: Tenant
) -> None:
    platform.cap(tenant, requests=1)
    admission = perron.admit(tenant.secret, MODEL, tokens=1)

    perron.abort(admission)
    perron.abort(admission)
    again = perron.admit(tenant.secret, MODEL, tokens=1)

    with pytest.raises(Refused) as refused:
        perron.complete(admission, tokens=1)
    assert refused.value.reason == "RESERVATION_CLOSED"
    perron.complete(again, tokens=1)
    with pytest.raises(Refused):
        perron.abort(again)


def test_an_inference_that_fails_is_aborted(perron: Perron, platform: Platform, tenant: Tenant) -> None:
    platform.cap(tenant, requests=1)

    with pytest.raises(RuntimeError), perron.admitted(tenant.secret, MODEL, tokens=1):
        raise RuntimeError("the model server is gone")

    assert perron.admit(tenant.secret, MODEL, tokens=1).decision_id


def test_another_gateways_key_finds_no_such_admission(
    perron: Perron, platform: Platform, tenant: Tenant
) -> None:
    admission = perron.admit(tenant.secret, MODEL, tokens=1)

    with Perron(platform.target, platform.another_gateway()) as other:
        for call in (lambda: other.complete(admission, tokens=1), lambda: other.abort(admission)):
            with pytest.raises(NotFound) as refused:
                call()
            assert refused.value.reason == "RESOURCE_NOT_FOUND"
    with pytest.raises(NotFound) as unknown:
        perron.complete("adm_" + "A" * 300, tokens=1)

    assert unknown.value.message == refused.value.message


@pytest.mark.parametrize(
    ("key", "reason"), [("tenant", "CALLER_NOT_ALLOWED"), ("operator", "CALLER_NOT_ALLOWED")]
)
def test_only_gateways_may_ask(platform: Platform, tenant: Tenant, key: str, reason: str) -> None:
    own = tenant.secret if key == "tenant" else platform.suite.operator_key

    with Perron(platform.target, own) as stranger, pytest.raises(Denied) as refused:
        stranger.admit(tenant.secret, MODEL, tokens=1)
    assert refused.value.reason == reason


def test_a_gateways_own_key_runs_no_inference(perron: Perron, platform: Platform) -> None:
    with pytest.raises(Denied):
        perron.admit(platform.suite.gateway_key, MODEL, tokens=1)


def test_one_forbidden_item_spoils_nobody_elses_answer(platform: Platform, tenant: Tenant) -> None:
    good = pb.AdmitRequest(
        credential=tenant.secret, model=MODEL, estimated_tokens=1, channel=roles_pb2.CHANNEL_API
    )
    items = [pb.AdmitRequest() for _ in range(64)]
    for item in items:
        item.CopyFrom(good)
    items[7].model = "agent:support"
    items[8].estimated_tokens = -1
    items[9].credential = "nothing"

    answers = stub(platform).BatchAdmit(
        pb.BatchAdmitRequest(items=items), metadata=bearer(platform.suite.gateway_key)
    )

    codes = [result.error.code for result in answers.results]
    assert {place: code for place, code in enumerate(codes) if code} == {
        7: grpc.StatusCode.NOT_FOUND.value[0],
        8: grpc.StatusCode.INVALID_ARGUMENT.value[0],
        9: grpc.StatusCode.UNAUTHENTICATED.value[0],
    }
    admitted = [result.response.admission_id for result in answers.results if result.HasField("response")]
    assert len(set(admitted)) == 61

    completions = [pb.CompleteRequest(admission_id=admission_id, tokens=1) for admission_id in admitted]
    completions[3].admission_id = "adm_forged"
    completed = stub(platform).BatchComplete(
        pb.BatchCompleteRequest(items=completions), metadata=bearer(platform.suite.gateway_key)
    )
    settled = [result.HasField("response") for result in completed.results]
    assert settled == [place != 3 for place in range(61)]


@pytest.mark.parametrize("size", [0, 129])
def test_a_batch_is_one_to_128_items(platform: Platform, size: int) -> None:
    with pytest.raises(grpc.RpcError) as failed:
        stub(platform).BatchAdmit(
            pb.BatchAdmitRequest(items=[pb.AdmitRequest()] * size),
            metadata=bearer(platform.suite.gateway_key),
        )
    assert failed.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_content_beyond_its_bound_is_refused(perron: Perron, tenant: Tenant) -> None:
    admission = perron.admit(tenant.secret, MODEL, tokens=1)

    with pytest.raises(InvalidRequest):
        perron.complete(admission, tokens=1, prompt=b"p" * 600_000, output=b"o" * 600_000)


def stub(platform: Platform) -> Any:
    return admission_service_pb2_grpc.AdmissionServiceStub(platform.channel("admission"))


@pytest.mark.parametrize("service", ["governance", "quotas", "identity"])
def test_a_service_that_is_down_is_unavailable_and_blames_nobody(
    platform: Platform, tenant: Tenant, service: str
) -> None:
    platform.cap(tenant, requests=2)
    with Perron(platform.target, platform.suite.gateway_key) as perron:
        perron.admit(tenant.secret, MODEL, tokens=1)
        platform.suite.kill(service)
        try:
            with pytest.raises(Unavailable) as refused:
                perron.admit(tenant.secret, MODEL, tokens=1)
        finally:
            platform.suite.restart(service)
        assert refused.value.code == "UNAVAILABLE"
        assert _admitted_in_time(perron, tenant), "what the refused call reserved was not given back"


def _admitted_in_time(perron: Perron, tenant: Tenant) -> bool:
    for _ in range(3):  # channels find a service that came back within a second, the client waits as long
        try:
            return bool(perron.admit(tenant.secret, MODEL, tokens=1).decision_id)
        except PerronError as error:
            if error.code != "UNAVAILABLE":
                raise
    return False
