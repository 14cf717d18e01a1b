"""Exchanges as tests make them, and other services that answer what a test says."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from perron.admission.admissions import Admissions
from perron.admission.exchanges import ResolvedAgent
from perron.admission.peers import Asked
from perron.api.admission.v1.admission_service_pb2 import (
    AdmitRequest,
    AdmitResponse,
    CompleteRequest,
    CompleteResponse,
    Content,
)
from perron.api.agents.v1 import agent_service_pb2, configuration_pb2
from perron.api.common.v1 import roles_pb2
from perron.api.finetuning.v1 import model_service_pb2
from perron.api.governance.v1 import decision_pb2, decision_service_pb2, record_service_pb2
from perron.api.identity.v1 import api_key_pb2, principal_pb2
from perron.api.quotas.v1 import quota_service_pb2
from perron.chassis import credentials
from perron.chassis.errors import (
    PerronError,
)
from perron.chassis.testing import FakeClock

START = datetime(2026, 1, 1, tzinfo=UTC)
KEY = credentials.with_checksum("test", "k" * 43)
GATEWAY = "key_gateway"
TUNED = "ft:small-1:acme"
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
    """The other services, which answer what the test says."""

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
        self.resolving = Question(resolved())
        self.tuned = Question(model_service_pb2.ResolveResponse(model_id="mdl_a", name=TUNED))
        self.reserving = Question(reserved)
        self.deciding = Question(decision_service_pb2.DecideResponse(decision=decision, keep_content=True))
        self.settling = Question(quota_service_pb2.SettleResponse(tokens=42))
        self.putting = Question(record_service_pb2.PutResponse(recorded=True, record_id="rec_a"))
        self.releasing = Question(None)
        self.by_credential: dict[str, str] = {}
        self.by_agent: dict[str, Any] = {}

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

    async def resolve_agents(self, asked: Sequence[Asked[Any]]) -> list[Any]:
        answers = await self.resolving.put_to([one.item for one in asked])
        return [self.by_agent.get(one.item.agent, answer) for one, answer in zip(asked, answers, strict=True)]

    async def resolve_models(self, asked: Sequence[Asked[Any]]) -> list[Any]:
        return await self.tuned.put_to([one.item for one in asked])

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


def resolved(
    agent_id: str = "agt_a",
    version: int = 3,
    *,
    model: str = "small-1",
    handoffs: Sequence[str] = (),
    instructions: str = "Be kind.",
) -> ResolvedAgent:
    """An agent as `agents` resolves it."""
    return ResolvedAgent(
        agent_service_pb2.ResolveResponse(
            agent_id=agent_id,
            version=version,
            model=model,
            third_parties=["web_search"],
            handoff_agent_ids=handoffs,
        ),
        configuration_pb2.AgentConfiguration(
            model=model, instructions=instructions, handoff_agent_ids=["agt_written"]
        ),
    )


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
