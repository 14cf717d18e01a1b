"""The three services that admission asks; questions asked at the same time travel together."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

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
from perron.chassis.channels import Coalescer, Peer
from perron.chassis.errors import Unauthenticated, Unavailable

Item = TypeVar("Item", ReserveItem, DecideItem)

_PUT_BYTES_MAX = 2 * 1024 * 1024


@dataclass(slots=True)
class Asked(Generic[Item]):
    """One item about a person: the passport travels beside it, once for all items that share it."""

    organization_id: str
    passport: str
    item: Item
    trace_parent: str = ""  # filled in when it is asked


class Peers:
    """Identity, quotas and governance, as admission needs them."""

    def __init__(self, identity: Peer, quotas: Peer, governance: Peer) -> None:
        keys = ApiKeyServiceStub(identity.channel)
        self._quotas = quotas
        self._quota_service = QuotaServiceStub(quotas.channel)
        decisions, records = DecisionServiceStub(governance.channel), RecordServiceStub(governance.channel)
        self.verify: Coalescer[VerifyRequest, VerifyResponse] = Coalescer(
            identity,
            keys.BatchVerify,
            lambda items: BatchVerifyRequest(items=items),
            name="admission.verify",
            tenant=_credential_digest,
        )
        self._reserve: Coalescer[Asked[ReserveItem], ReserveResponse] = Coalescer(
            quotas,
            self._quota_service.BatchReserve,
            _with_passports(BatchReserveRequest),
            name="admission.reserve",
            tenant=_organization_asked,
        )
        self._decide: Coalescer[Asked[DecideItem], DecideResponse] = Coalescer(
            governance,
            decisions.BatchDecide,
            _with_passports(BatchDecideRequest),
            name="admission.decide",
            tenant=_organization_asked,
        )
        self.settle: Coalescer[SettleRequest, SettleResponse] = Coalescer(
            quotas,
            self._quota_service.BatchSettle,
            lambda items: BatchSettleRequest(items=items),
            name="admission.settle",
            tenant=_organization,
        )
        self.put: Coalescer[PutRequest, PutResponse] = Coalescer(
            governance,
            records.BatchPut,
            lambda items: BatchPutRequest(items=items),
            name="admission.put",
            tenant=_organization,
            weigh=_content_bytes,
            max_bytes=_PUT_BYTES_MAX,
        )

    async def reserve(self, organization_id: str, passport: str, item: ReserveItem) -> ReserveResponse:
        """Reserves for one call or raises why not."""
        try:
            return await self._reserve.submit(Asked(organization_id, passport, item))
        except Unauthenticated:
            raise _outlived("quotas") from None

    async def decide(self, organization_id: str, passport: str, item: DecideItem) -> DecideResponse:
        """Decides about the content of one call or raises why not."""
        try:
            return await self._decide.submit(Asked(organization_id, passport, item))
        except Unauthenticated:
            raise _outlived("governance") from None

    async def release(self, request: ReleaseRequest) -> None:
        """Gives back one reservation or raises why not."""
        await self._quotas.call(self._quota_service.Release, request)

    async def aclose(self) -> None:
        """Answers everything that waits, then takes nothing new."""
        for coalescer in (self.verify, self._reserve, self._decide, self.settle, self.put):
            await coalescer.aclose()


def _outlived(peer: str) -> Unavailable:
    """The error for a passport that ended on its way between us, which is no fault of the caller's key."""
    return Unavailable(
        "PEER_UNAVAILABLE", f"{peer} did not get the passport in time", metadata={"peer": peer}
    )


def _with_passports(request_type: Callable[[], Any]) -> Callable[[Sequence[Asked[Any]]], Any]:
    def merge(batch: Sequence[Asked[Any]]) -> Any:
        request = request_type()
        places: dict[str, int] = {}
        for asked in batch:
            asked.item.passport_index = places.setdefault(asked.passport, len(places))
            asked.item.trace_parent = asked.trace_parent
            request.items.append(asked.item)
        request.passports.extend(places)
        return request

    return merge


def _credential_digest(request: VerifyRequest) -> str:
    """Whom a credential belongs to is not known before it is verified; no queue is named by a secret."""
    return hashlib.blake2b(request.credential.encode(), digest_size=8).hexdigest()


def _organization(request: SettleRequest | PutRequest) -> str:
    return request.organization_id


def _organization_asked(asked: Asked[Any]) -> str:
    return asked.organization_id


def _content_bytes(request: PutRequest) -> int:
    return len(request.input) + len(request.output)
