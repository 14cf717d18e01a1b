"""What finetuning asks other services, always in the call that needs it: nothing is remembered.

Governance how long files and models may be kept and what holds now; agents whether a job may promise an
agent, and in the end for that agent.
"""

import itertools
import uuid
from collections.abc import Sequence
from typing import Final

from perron.api.agents.v1 import agent_service_pb2, agent_service_pb2_grpc
from perron.api.agents.v1.configuration_pb2 import AgentConfiguration
from perron.api.common.v1 import roles_pb2
from perron.api.governance.v1 import (
    decision_pb2,
    decision_service_pb2,
    decision_service_pb2_grpc,
    directive_service_pb2,
    directive_service_pb2_grpc,
)
from perron.chassis import channels
from perron.chassis.channels import Peer
from perron.chassis.errors import (
    AlreadyExists,
    FailedPrecondition,
    FieldViolation,
    InvalidArgument,
    PerronError,
)
from perron.chassis.interceptors.access import Call
from perron.finetuning import errors
from perron.finetuning.file_model import Directives, Retention
from perron.finetuning.job_agent_model import WantedAgent
from perron.finetuning.model import Job, Model

_ITEMS_MAX: Final = 128
_NAMESPACE: Final = uuid.UUID("0192f0c1-7d0b-7c3f-9f0a-5d1c6a8e2b47")
Scope = tuple[str, str, str]
"""An organization, a workspace, and a resource of it; empty: the workspace as such."""


class Governance:
    """Asks governance."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._decisions = decision_service_pb2_grpc.DecisionServiceStub(peer.channel)
        self._directives = directive_service_pb2_grpc.DirectiveServiceStub(peer.channel)

    async def retention_of_file(self, call: Call, now_us: int) -> Retention:
        """Has it decided how long a file may be kept that the caller announces.

        A repetition of the call gets the same decision. Raises Unavailable (PEER_UNAVAILABLE).
        """
        decision = await self._decide(call, decision_pb2.DATA_KIND_FINE_TUNING_DATA)
        return _retention(decision, now_us)

    async def decision_on_models(self, call: Call) -> str:
        """Returns the decision under which the models are kept of a job that the caller creates.

        Made now, since a worker that writes one speaks for nobody. A repetition of the call gets the same
        decision. Raises Unavailable (PEER_UNAVAILABLE).
        """
        decision = await self._decide(call, decision_pb2.DATA_KIND_FINE_TUNED_MODEL)
        return str(decision.decision_id)

    async def directives(self, scopes: Sequence[Scope]) -> list[Directives]:
        """Returns what holds for each scope now. Raises Unavailable (PEER_UNAVAILABLE)."""
        found: list[Directives] = []
        waiting = iter(scopes)
        while chunk := tuple(itertools.islice(waiting, _ITEMS_MAX)):
            response = await self._peer.call(
                self._directives.BatchGetDirectives,
                directive_service_pb2.BatchGetDirectivesRequest(items=map(_item, chunk)),
            )
            for answer in channels.outcomes(response):
                if isinstance(answer, PerronError):
                    raise answer
                found.append(Directives(answer.zero_retention, answer.held))
        return found

    async def _decide(self, call: Call, data_kind: decision_pb2.DataKind.ValueType) -> decision_pb2.Decision:
        response: decision_service_pb2.DecideResponse = await self._peer.call(
            self._decisions.Decide,
            decision_service_pb2.DecideRequest(
                passport=call.caller.passport_token,
                data_kind=data_kind,
                channel=roles_pb2.CHANNEL_API,
                request_id=_request_id(call),
            ),
        )
        return response.decision


class Agents:
    """Makes the agents of jobs; `peer` is None where this installation has none."""

    def __init__(self, peer: Peer | None) -> None:
        self._peer = peer
        self._stub = agent_service_pb2_grpc.AgentServiceStub(peer.channel) if peer is not None else None

    async def validate(self, passport: str, wanted: WantedAgent, model: str) -> None:
        """Returns if agents would make such an agent for a person now.

        `model` is as long as the name to come. Raises its refusal, about the field "agent" and below,
        FailedPrecondition (AGENT_NOT_AVAILABLE), Unavailable (PEER_UNAVAILABLE).
        """
        if self._peer is None or self._stub is None:
            raise errors.agent_not_available()
        request = agent_service_pb2.ValidateAgentForJobRequest(
            passport=passport,
            display_name=wanted.display_name,
            name_attested=wanted.name_attested,
            configuration=_configuration(wanted.configuration, model),
        )
        try:
            await self._peer.call(self._stub.ValidateAgentForJob, request)
        except (AlreadyExists, FailedPrecondition, InvalidArgument) as refusal:
            raise _of_the_agent(refusal) from None

    async def make(self, job: Job, model: Model, configuration: bytes) -> str:
        """Returns the id of a job's agent, the same one however often it is asked for.

        Raises agents' refusal, FailedPrecondition (AGENT_NOT_AVAILABLE), Unavailable (PEER_UNAVAILABLE).
        """
        if self._peer is None or self._stub is None or job.agent is None:
            raise errors.agent_not_available()
        request = agent_service_pb2.CreateAgentForJobRequest(
            organization_id=job.organization_id,
            workspace_id=job.workspace_id,
            owner_member_id=job.member_id,
            job_id=job.job_id,
            model_id=model.model_id,
            display_name=job.agent.display_name,
            configuration=_configuration(configuration, model.name),
        )
        response = await self._peer.call(self._stub.CreateAgentForJob, request)
        return str(response.agent.agent_id)


def _configuration(content: bytes, model: str) -> AgentConfiguration:
    message = AgentConfiguration.FromString(content)
    message.model = model
    return message


def _of_the_agent(refusal: PerronError) -> PerronError:
    """Returns a refusal of agents as it speaks of a job: its fields lie below `agent` there."""
    below = [FieldViolation(f"agent.{one.field}", one.description) for one in refusal.violations]
    return type(refusal)(
        refusal.reason,
        refusal.message,
        metadata=refusal.metadata,
        violations=below or [FieldViolation("agent", refusal.message)],
    )


def _retention(decision: decision_pb2.Decision, now_us: int) -> Retention:
    provides = [one for one in decision.permissions if one.purpose == decision_pb2.PURPOSE_PROVIDE_SERVICES]
    deadlines = [deadline for one in provides for deadline in one.deadlines]
    subscriptions = [
        one.subject_id for one in deadlines if one.kind == decision_pb2.DEADLINE_KIND_END_OF_SUBSCRIPTION
    ]
    plain = {decision_pb2.DEADLINE_KIND_UNTIL_DELETED, decision_pb2.DEADLINE_KIND_END_OF_SUBSCRIPTION}
    is_bound = not deadlines or any(one.kind not in plain for one in deadlines)
    return Retention(
        decision_id=decision.decision_id,
        subscription_id=next(iter(subscriptions), ""),
        job_bound_us=now_us if is_bound else 0,
    )


def _item(scope: Scope) -> directive_service_pb2.GetDirectivesItem:
    organization_id, workspace_id, resource_id = scope
    return directive_service_pb2.GetDirectivesItem(
        organization_id=organization_id, workspace_id=workspace_id, resource_id=resource_id
    )


def _request_id(call: Call) -> str:
    """Returns an id for the question, so that a repeated call is not decided twice; none without one.

    A request_id is unique within its method alone: an upload and a job may well have the same.
    """
    if call.identity is None:
        return ""
    name = f"{call.identity.caller}/{call.identity.method}/{call.identity.request_id.hex()}"
    return str(uuid.uuid5(_NAMESPACE, name))
