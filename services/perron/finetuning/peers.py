"""Governance, as files need it: how long they may be kept, and what holds now; never remembered."""

import itertools
import uuid
from collections.abc import Sequence
from typing import Final

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
from perron.chassis.errors import PerronError
from perron.chassis.interceptors.access import Call
from perron.finetuning.file_model import Directives, Retention

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
        response = await self._peer.call(
            self._decisions.Decide,
            decision_service_pb2.DecideRequest(
                passport=call.caller.passport_token,
                data_kind=decision_pb2.DATA_KIND_FINE_TUNING_DATA,
                channel=roles_pb2.CHANNEL_API,
                request_id=_request_id(call),
            ),
        )
        return _retention(response.decision, now_us)

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
    """Returns an id for the question, so that a repeated call is not decided twice; none without one."""
    if call.identity is None:
        return ""
    return str(uuid.uuid5(_NAMESPACE, f"{call.caller.key_id}\0{call.identity.request_id.hex()}"))
