"""The services that admission asks, always about a batch of exchanges at once.

Every answer is a list in the order of what was asked, a refusal among the answers. A service that does not
answer at all refuses everything asked of it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from perron.admission.exchanges import ResolvedAgent, Version, version_of
from perron.api.agents.v1 import agent_service_pb2
from perron.api.agents.v1.agent_service_pb2_grpc import AgentServiceStub
from perron.api.agents.v1.configuration_pb2 import AgentConfiguration
from perron.api.finetuning.v1 import model_service_pb2
from perron.api.finetuning.v1.model_service_pb2_grpc import ModelServiceStub
from perron.api.governance.v1.decision_service_pb2 import BatchDecideRequest, DecideItem, DecideResponse
from perron.api.governance.v1.decision_service_pb2_grpc import DecisionServiceStub
from perron.api.governance.v1.record_service_pb2 import BatchPutRequest, PutRequest, PutResponse
from perron.api.governance.v1.record_service_pb2_grpc import RecordServiceStub
from perron.api.identity.v1.api_key_pb2 import BatchVerifyRequest, VerifyRequest, VerifyResponse
from perron.api.identity.v1.api_key_pb2_grpc import ApiKeyServiceStub
from perron.api.quotas.v1.quota_service_pb2 import (
    BatchReserveRequest,
    BatchSettleRequest,
    ReleaseRequest,
    ReserveItem,
    ReserveResponse,
    SettleRequest,
    SettleResponse,
)
from perron.api.quotas.v1.quota_service_pb2_grpc import QuotaServiceStub
from perron.chassis.channels import Peer, outcomes
from perron.chassis.errors import PerronError, Unauthenticated, Unavailable

Item = TypeVar("Item", agent_service_pb2.ResolveItem, model_service_pb2.ResolveItem, ReserveItem, DecideItem)


@dataclass(frozen=True, slots=True)
class Asked(Generic[Item]):
    """One item about a person: the passport travels beside it, once for all items that share it."""

    passport: str
    item: Item


class Peers:
    """The other services, as admission needs them."""

    def __init__(
        self, identity: Peer, quotas: Peer, governance: Peer, agents: Peer, finetuning: Peer
    ) -> None:
        self._identity = identity
        self._quotas = quotas
        self._governance = governance
        self._agents = agents
        self._finetuning = finetuning
        self._keys = ApiKeyServiceStub(identity.channel)
        self._quota_service = QuotaServiceStub(quotas.channel)
        self._decisions = DecisionServiceStub(governance.channel)
        self._records = RecordServiceStub(governance.channel)
        self._agent_service = AgentServiceStub(agents.channel)
        self._models = ModelServiceStub(finetuning.channel)

    async def verify(self, items: Sequence[VerifyRequest]) -> list[VerifyResponse | PerronError]:
        """Who is calling?"""
        return await _ask(self._identity, self._keys.BatchVerify, BatchVerifyRequest(items=items), len(items))

    async def resolve_agents(
        self, asked: Sequence[Asked[agent_service_pb2.ResolveItem]]
    ) -> list[ResolvedAgent | PerronError]:
        """Which configuration is run? What an answer has no room for is asked again until all is answered."""
        answers: list[Any] = [None] * len(asked)
        configurations: dict[Version, AgentConfiguration] = {}
        open_places = list(range(len(asked)))
        while open_places:
            answered = await self._resolve_agents([asked[place] for place in open_places])
            late = []
            for place, answer in zip(open_places, answered, strict=True):
                answers[place] = answer
                if isinstance(answer, PerronError):
                    if answer.reason == "ANSWER_TOO_LARGE":
                        late.append(place)
                elif answer.HasField("configuration"):
                    configurations[version_of(answer)] = answer.configuration
            if len(late) == len(open_places):  # it would be so again
                break
            open_places = late
        return [
            answer
            if isinstance(answer, PerronError)
            else ResolvedAgent(answer, configurations[version_of(answer)])
            for answer in answers
        ]

    async def _resolve_agents(
        self, asked: Sequence[Asked[agent_service_pb2.ResolveItem]]
    ) -> list[agent_service_pb2.ResolveResponse | PerronError]:
        request = agent_service_pb2.BatchResolveRequest(
            passports=_placed(asked), items=[one.item for one in asked]
        )
        return _blaming(
            self._agents, await _ask(self._agents, self._agent_service.BatchResolve, request, len(asked))
        )

    async def resolve_models(
        self, asked: Sequence[Asked[model_service_pb2.ResolveItem]]
    ) -> list[model_service_pb2.ResolveResponse | PerronError]:
        """Which fine-tuned model is it?"""
        request = model_service_pb2.BatchResolveRequest(
            passports=_placed(asked), items=[one.item for one in asked]
        )
        return _blaming(
            self._finetuning, await _ask(self._finetuning, self._models.BatchResolve, request, len(asked))
        )

    async def reserve(self, asked: Sequence[Asked[ReserveItem]]) -> list[ReserveResponse | PerronError]:
        """May they use this much?"""
        request = BatchReserveRequest(passports=_placed(asked), items=[one.item for one in asked])
        return _blaming(
            self._quotas, await _ask(self._quotas, self._quota_service.BatchReserve, request, len(asked))
        )

    async def decide(self, asked: Sequence[Asked[DecideItem]]) -> list[DecideResponse | PerronError]:
        """What may happen to the content?"""
        request = BatchDecideRequest(passports=_placed(asked), items=[one.item for one in asked])
        return _blaming(
            self._governance, await _ask(self._governance, self._decisions.BatchDecide, request, len(asked))
        )

    async def settle(self, items: Sequence[SettleRequest]) -> list[SettleResponse | PerronError]:
        """What was used in the end."""
        return await _ask(
            self._quotas, self._quota_service.BatchSettle, BatchSettleRequest(items=items), len(items)
        )

    async def put(self, items: Sequence[PutRequest]) -> list[PutResponse | PerronError]:
        """Keep this, if it may still be kept."""
        return await _ask(self._governance, self._records.BatchPut, BatchPutRequest(items=items), len(items))

    async def release(self, request: ReleaseRequest) -> None:
        """Gives back one reservation or raises why not."""
        await self._quotas.call(self._quota_service.Release, request)


async def _ask(peer: Peer, method: Any, request: Any, size: int) -> list[Any]:
    try:
        return outcomes(await peer.call(method, request))
    except PerronError as error:
        return [error] * size


def _placed(asked: Iterable[Asked[Any]]) -> list[str]:
    """Gives each item the place of its passport; returns the passports, each once."""
    places: dict[str, int] = {}
    for one in asked:
        one.item.passport_index = places.setdefault(one.passport, len(places))
    return list(places)


def _blaming(peer: Peer, answers: list[Any]) -> list[Any]:
    """A passport that ended on its way between us is no fault of the caller's key."""
    return [_outlived(peer) if isinstance(answer, Unauthenticated) else answer for answer in answers]


def _outlived(peer: Peer) -> Unavailable:
    return Unavailable(
        "PEER_UNAVAILABLE", f"{peer.name} did not get the passport in time", metadata={"peer": peer.name}
    )
