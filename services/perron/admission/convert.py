"""Between what a gateway asks and what identity, quotas and governance are asked.

Messages are built once and passed on as they are: admission has no domain of its own beyond the order of the
questions, and every copy would be paid at each inference.
"""

from google.protobuf.duration_pb2 import Duration

from perron.admission.model import Admission
from perron.api.admission.v1.admission_service_pb2 import (
    AdmitRequest,
    AdmitResponse,
    AdmitResult,
    CompleteRequest,
    CompleteResponse,
    CompleteResult,
)
from perron.api.common.v1.roles_pb2 import SCOPE_INFERENCE
from perron.api.governance.v1.decision_pb2 import DATA_KIND_INFERENCE
from perron.api.governance.v1.decision_service_pb2 import DecideItem, DecideResponse
from perron.api.governance.v1.record_service_pb2 import PutRequest
from perron.api.identity.v1.api_key_pb2 import KeyState, VerifyRequest
from perron.api.identity.v1.principal_pb2 import Principal
from perron.api.quotas.v1.quota_service_pb2 import (
    RESERVE_MODE_NORMAL,
    ReleaseRequest,
    ReserveItem,
    ReserveResponse,
    SettleRequest,
)
from perron.chassis import status
from perron.chassis.errors import PerronError

_TTL_DEFAULT = Duration(seconds=60)


def verify_request(ask: AdmitRequest) -> VerifyRequest:
    """Who is calling, and may they run an inference?"""
    return VerifyRequest(
        credential=ask.credential,
        required_scopes=(SCOPE_INFERENCE,),
        peer_network=ask.peer_network,
        want_passport=True,
    )


def key_state(state: KeyState.ValueType) -> str:
    """The name of a KeyState without its prefix; "" for a value of a later contract."""
    return KeyState.Name(state).removeprefix("KEY_STATE_") if state in KeyState.values() else ""


def reserve_item(ask: AdmitRequest, model: str, request_id: str) -> ReserveItem:
    """May they use this much?"""
    return ReserveItem(
        model=model,
        requests=1,
        tokens=ask.estimated_tokens,
        ttl=ask.ttl if ask.HasField("ttl") else _TTL_DEFAULT,
        mode=RESERVE_MODE_NORMAL,
        request_id=request_id,
    )


def decide_item(ask: AdmitRequest, reserved: ReserveResponse, request_id: str) -> DecideItem:
    """What may happen to the content?"""
    return DecideItem(
        data_kind=DATA_KIND_INFERENCE,
        channel=ask.channel,
        data_subject=ask.data_subject,
        in_flight_until=reserved.expire_time,
        request_id=request_id,
    )


def admission(
    gateway_key_id: str, principal: Principal, model: str, reserved: ReserveResponse, decided: DecideResponse
) -> Admission:
    """All that completing will need to know."""
    return Admission(
        reservation_id=reserved.reservation_id,
        decision_id=decided.decision.decision_id,
        organization_id=principal.organization_id,
        workspace_id=principal.workspace_id,
        model=model,
        gateway_key_id=gateway_key_id,
        as_of_us=decided.decision.as_of_time.ToMicroseconds(),
        expire_us=reserved.expire_time.ToMicroseconds(),
        keep_content=decided.keep_content,
    )


def admit_response(
    admission_id: str, admitted: Admission, reserved: ReserveResponse, decided: DecideResponse
) -> AdmitResponse:
    """The answer to the gateway."""
    return AdmitResponse(
        admission_id=admission_id,
        effective_model=admitted.model,
        limits=reserved.statuses,
        decision=decided.decision,
        keep_content=admitted.keep_content,
        expire_time=reserved.expire_time,
        organization_id=admitted.organization_id,
        workspace_id=admitted.workspace_id,
    )


def settle_request(admitted: Admission, tokens: int) -> SettleRequest:
    """What was used in the end."""
    return SettleRequest(
        organization_id=admitted.organization_id,
        reservation_id=admitted.reservation_id,
        tokens=tokens,
    )


def release_request(organization_id: str, reservation_id: str) -> ReleaseRequest:
    """Gives back what was reserved."""
    return ReleaseRequest(organization_id=organization_id, reservation_id=reservation_id)


def put_request(admitted: Admission, request: CompleteRequest) -> PutRequest:
    """Keep this content, if it may still be kept."""
    return PutRequest(
        organization_id=admitted.organization_id,
        decision_id=admitted.decision_id,
        model=admitted.model,
        input=request.content.input,
        output=request.content.output,
    )


def admit_result(outcome: AdmitResponse | PerronError) -> AdmitResult:
    """One answer of a batch."""
    if isinstance(outcome, PerronError):
        return AdmitResult(error=status.to_status(outcome))
    return AdmitResult(response=outcome)


def complete_result(outcome: CompleteResponse | PerronError) -> CompleteResult:
    """One answer of a batch."""
    if isinstance(outcome, PerronError):
        return CompleteResult(error=status.to_status(outcome))
    return CompleteResult(response=outcome)
