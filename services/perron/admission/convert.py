"""Between what a gateway asks and what the other services are asked.

Messages are built once and passed on as they are: admission has no domain of its own beyond the order of the
questions, and every copy would be paid at each inference.
"""

from collections.abc import Iterable

from google.protobuf.duration_pb2 import Duration

from perron.admission.exchanges import Asking, Completion, ResolvedAgent, Version
from perron.admission.model import Admission
from perron.api.admission.v1.admission_service_pb2 import (
    AdmitResponse,
    AdmitResult,
    AdmittedAgent,
    CompleteResponse,
    CompleteResult,
)
from perron.api.agents.v1.agent_service_pb2 import ResolveItem as AgentItem
from perron.api.common.v1.roles_pb2 import SCOPE_INFERENCE
from perron.api.finetuning.v1.model_service_pb2 import ResolveItem as ModelItem
from perron.api.governance.v1.decision_pb2 import DATA_KIND_INFERENCE
from perron.api.governance.v1.decision_service_pb2 import DecideItem, DecideResponse
from perron.api.governance.v1.record_service_pb2 import PutRequest, PutResponse
from perron.api.identity.v1.api_key_pb2 import KeyState, VerifyRequest
from perron.api.quotas.v1.quota_service_pb2 import (
    RESERVE_MODE_NORMAL,
    ReleaseRequest,
    ReserveItem,
    SettleRequest,
)
from perron.chassis import status
from perron.chassis.errors import PerronError

_TTL_DEFAULT = Duration(seconds=60)


def verify_request(asking: Asking) -> VerifyRequest:
    """Who is calling, and may they run an inference?"""
    return VerifyRequest(
        credential=asking.ask.credential,
        required_scopes=(SCOPE_INFERENCE,),
        peer_network=asking.ask.peer_network,
        want_passport=True,
        trace_parent=asking.trace_parent,
    )


def key_state(state: KeyState.ValueType) -> str:
    """The name of a KeyState without its prefix; "" for a value of a later contract."""
    return KeyState.Name(state).removeprefix("KEY_STATE_") if state in KeyState.values() else ""


def agent_item(asking: Asking) -> AgentItem:
    """Which configuration is run for them?"""
    return AgentItem(agent=asking.ask.model, channel=asking.ask.channel, trace_parent=asking.trace_parent)


def model_item(asking: Asking) -> ModelItem:
    """Is there a fine-tuned model of this name for them?"""
    return ModelItem(model=asking.ask.model, trace_parent=asking.trace_parent)


def reserve_item(asking: Asking, request_id: str) -> ReserveItem:
    """May they use this much?"""
    ask = asking.ask
    return ReserveItem(
        model=asking.model,
        requests=1,
        tokens=ask.estimated_tokens,
        ttl=ask.ttl if ask.HasField("ttl") else _TTL_DEFAULT,
        mode=RESERVE_MODE_NORMAL,
        request_id=request_id,
        trace_parent=asking.trace_parent,
    )


def decide_item(asking: Asking, request_id: str) -> DecideItem:
    """What may happen to the content?"""
    return DecideItem(
        data_kind=DATA_KIND_INFERENCE,
        channel=asking.ask.channel,
        model=asking.model,
        data_subject=asking.ask.data_subject,
        in_flight_until=asking.reservation.expire_time,
        request_id=request_id,
        trace_parent=asking.trace_parent,
    )


def admission(asking: Asking, decided: DecideResponse) -> Admission:
    """All that completing will need to know."""
    return Admission(
        reservation_id=asking.reservation.reservation_id,
        decision_id=decided.decision.decision_id,
        organization_id=asking.organization_id,
        workspace_id=asking.workspace_id,
        model=asking.model,
        gateway_key_id=asking.gateway_key_id,
        as_of_us=decided.decision.as_of_time.ToMicroseconds(),
        expire_us=asking.reservation.expire_time.ToMicroseconds(),
        keep_content=decided.keep_content,
        agent_id=asking.agent.response.agent_id if asking.agent else "",
        agent_version=asking.agent.response.version if asking.agent else 0,
    )


def admit_response(admission_id: str, asking: Asking, decided: DecideResponse) -> AdmitResponse:
    """The answer to the gateway; without the agent's configuration, which a call's answers carry once."""
    return AdmitResponse(
        admission_id=admission_id,
        effective_model=asking.model,
        limits=asking.reservation.statuses,
        decision=decided.decision,
        keep_content=decided.keep_content,
        expire_time=asking.reservation.expire_time,
        organization_id=asking.organization_id,
        workspace_id=asking.workspace_id,
        agent=_admitted_agent(asking.agent) if asking.agent else None,
    )


def carry_configurations(askings: Iterable[Asking], answers: Iterable[AdmitResponse | PerronError]) -> None:
    """Puts the configuration of each version into the first of a call's answers that is about it."""
    carried: set[Version] = set()
    for asking, answer in zip(askings, answers, strict=True):
        agent = asking.agent
        if agent is None or isinstance(answer, PerronError) or agent.version in carried:
            continue
        carried.add(agent.version)
        configuration = answer.agent.configuration
        configuration.CopyFrom(agent.configuration)
        # What is shared may have been resolved for somebody else, who may hand over to other agents.
        configuration.handoff_agent_ids[:] = agent.response.handoff_agent_ids


def _admitted_agent(agent: ResolvedAgent) -> AdmittedAgent:
    return AdmittedAgent(
        agent_id=agent.response.agent_id,
        version=agent.response.version,
        third_parties=agent.response.third_parties,
        handoff_agent_ids=agent.response.handoff_agent_ids,
    )


def settle_request(completion: Completion) -> SettleRequest:
    """What was used in the end."""
    return SettleRequest(
        organization_id=completion.admission.organization_id,
        reservation_id=completion.admission.reservation_id,
        tokens=completion.request.tokens,
        trace_parent=completion.trace_parent,
    )


def release_request(organization_id: str, reservation_id: str) -> ReleaseRequest:
    """Gives back what was reserved."""
    return ReleaseRequest(organization_id=organization_id, reservation_id=reservation_id)


def put_request(completion: Completion) -> PutRequest:
    """Keep this content, if it may still be kept."""
    content = completion.request.content
    return PutRequest(
        organization_id=completion.admission.organization_id,
        decision_id=completion.admission.decision_id,
        model=completion.admission.model,
        agent_id=completion.admission.agent_id,
        agent_version=completion.admission.agent_version,
        input=content.input,
        output=content.output,
        trace_parent=completion.trace_parent,
    )


def note_record(response: CompleteResponse, put: PutResponse) -> None:
    """What became of the content."""
    response.recorded = put.recorded
    response.record_id = put.record_id
    if not put.recorded:
        response.omission = CompleteResponse.OMISSION_DISCARDED
        response.discard_reason = put.reason


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
