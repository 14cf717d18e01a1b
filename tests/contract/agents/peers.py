"""The services that agents asks, each a real server of a few lines that says what a test makes true."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import grpc
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from perron.api.common.v1 import event_service_pb2, event_service_pb2_grpc, roles_pb2
from perron.api.finetuning.v1 import model_service_pb2, model_service_pb2_grpc
from perron.api.governance.v1 import (
    decision_pb2,
    decision_service_pb2,
    decision_service_pb2_grpc,
    directive_service_pb2,
    directive_service_pb2_grpc,
)
from perron.api.identity.v1 import (
    api_key_pb2,
    api_key_pb2_grpc,
    organization_pb2,
    organization_pb2_grpc,
    workspace_pb2,
    workspace_pb2_grpc,
)
from perron.chassis import status
from perron.chassis.errors import NotFound, PerronError
from perron.chassis.ids import new_id
from perron.chassis.passports import Signer, SigningKey
from perron.chassis.testing import FakeClock


@dataclass(eq=False)
class Tenant:
    """An organization with one workspace, as identity sees it now; tests change it in place."""

    plan: str = "scale-1"
    entitlements: dict[str, str] = field(
        default_factory=lambda: {"agent_sharing": "workspace", "agent_channels": "api,chat"}
    )
    organization_id: str = field(default_factory=lambda: new_id("org"))
    workspace_id: str = field(default_factory=lambda: new_id("ws"))
    members: set[str] = field(default_factory=set)

    def second_workspace(self) -> "Tenant":
        return Tenant(self.plan, self.entitlements, self.organization_id)


class Identity(
    api_key_pb2_grpc.ApiKeyServiceServicer,
    organization_pb2_grpc.OrganizationServiceServicer,
    workspace_pb2_grpc.WorkspaceServiceServicer,
    event_service_pb2_grpc.EventServiceServicer,
):
    """Knows keys, members, plans, and what happened."""

    def __init__(self, clock: FakeClock) -> None:
        key = Ed25519PrivateKey.generate()
        self.signer = Signer([SigningKey("k1", key, 0)], clock)
        self.public = key.public_key().public_bytes_raw()
        self.keys: dict[str, Callable[[], api_key_pb2.VerifyResponse]] = {}
        self.tenants: dict[str, Tenant] = {}
        self.answers = True
        self.asked_members = 0
        self._events: asyncio.Queue[event_service_pb2.Event] = asyncio.Queue()
        self._told = 0
        self._consumed = asyncio.Condition()
        self._acknowledged = 0

    async def tell(self, kind: str, tenant: Tenant, workspace_id: str = "", resource_id: str = "") -> None:
        """Tells of an event and returns once agents has acted on it."""
        self._told += 1
        self._events.put_nowait(
            event_service_pb2.Event(
                number=self._told,
                kind=kind,
                organization_id=tenant.organization_id,
                workspace_id=workspace_id,
                resource_id=resource_id,
            )
        )
        async with asyncio.timeout(10), self._consumed:
            await self._consumed.wait_for(lambda: self._acknowledged >= self._told)

    async def BatchVerify(self, request: Any, context: Any) -> Any:
        return api_key_pb2.BatchVerifyResponse(
            results=[api_key_pb2.VerifyResult(response=self._verified(item)) for item in request.items]
        )

    async def GetSigningKeys(self, request: Any, context: Any) -> Any:
        return api_key_pb2.GetSigningKeysResponse(keys=[{"kid": "k1", "public_key": self.public}])

    async def BatchGetStanding(self, request: Any, context: Any) -> Any:
        await self._answer(context)
        return organization_pb2.BatchGetStandingResponse(
            results=[self._standing(item.workspace_id) for item in request.items]
        )

    async def ListPlans(self, request: Any, context: Any) -> Any:
        plans = {tenant.plan: tenant.entitlements for tenant in self.tenants.values()}
        return organization_pb2.ListPlansResponse(
            plans=[{"name": name, "entitlements": given} for name, given in plans.items()]
        )

    async def BatchGetMembers(self, request: Any, context: Any) -> Any:
        await self._answer(context)
        self.asked_members += len(request.items)
        return workspace_pb2.BatchGetMembersResponse(results=[self._member(item) for item in request.items])

    async def Watch(self, request: Any, context: Any) -> AsyncIterator[Any]:
        yield event_service_pb2.WatchResponse(generation="g")
        while True:
            event = await self._events.get()
            yield event_service_pb2.WatchResponse(generation="g", events=[event])

    async def Acknowledge(self, request: Any, context: Any) -> Any:
        async with self._consumed:
            self._acknowledged = request.cursor.number
            self._consumed.notify_all()
        return event_service_pb2.AcknowledgeResponse()

    async def _answer(self, context: Any) -> None:
        if not self.answers:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "gone")

    def _verified(self, item: api_key_pb2.VerifyRequest) -> api_key_pb2.VerifyResponse:
        found = self.keys.get(item.credential)
        return found() if found else api_key_pb2.VerifyResponse(state=api_key_pb2.KEY_STATE_UNKNOWN)

    def _standing(self, workspace_id: str) -> organization_pb2.GetStandingResult:
        tenant = self.tenants.get(workspace_id)
        if tenant is None:
            return organization_pb2.GetStandingResult(error=_missing("workspace"))
        return organization_pb2.GetStandingResult(
            response=organization_pb2.Standing(
                organization_id=tenant.organization_id,
                workspace_id=workspace_id,
                state=organization_pb2.ORGANIZATION_STATE_ACTIVE,
                plan=tenant.plan,
            )
        )

    def _member(self, item: workspace_pb2.GetMemberItem) -> workspace_pb2.GetMemberResult:
        tenant = self.tenants.get(item.workspace_id)
        if tenant is None or item.member_id not in tenant.members:
            return workspace_pb2.GetMemberResult(error=_missing("member"))
        return workspace_pb2.GetMemberResult(
            response=workspace_pb2.Member(
                member_id=item.member_id,
                organization_id=tenant.organization_id,
                organization_role=roles_pb2.ORGANIZATION_ROLE_MEMBER,
                workspace_id=item.workspace_id,
                workspace_role=roles_pb2.WORKSPACE_ROLE_MEMBER,
            )
        )


class Governance(
    decision_service_pb2_grpc.DecisionServiceServicer,
    directive_service_pb2_grpc.DirectiveServiceServicer,
):
    """A governance that knows zero retention and holds."""

    def __init__(self) -> None:
        self.answers = True
        self.zero_retention: set[str] = set()
        self.held: set[str] = set()
        self.decided: list[decision_service_pb2.DecideRequest] = []
        self.asked: list[directive_service_pb2.GetDirectivesItem] = []

    async def Decide(self, request: Any, context: Any) -> Any:
        if not self.answers:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "gone")
        self.decided.append(request)
        return decision_service_pb2.DecideResponse(
            decision=decision_pb2.Decision(decision_id=new_id("dec"), data_kind=request.data_kind)
        )

    async def BatchGetDirectives(self, request: Any, context: Any) -> Any:
        if not self.answers:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "gone")
        self.asked.extend(request.items)
        return directive_service_pb2.BatchGetDirectivesResponse(
            results=[
                directive_service_pb2.GetDirectivesResult(
                    response=directive_service_pb2.Directives(
                        zero_retention=item.workspace_id in self.zero_retention,
                        held=item.resource_id in self.held,
                    )
                )
                for item in request.items
            ]
        )


class Finetuning(model_service_pb2_grpc.ModelServiceServicer):
    """Knows models by (workspace, name): their ids, or why they may not be used."""

    def __init__(self, workspace_of: Callable[[str], str]) -> None:
        self.answers = True
        self.models: dict[tuple[str, str], str | PerronError] = {}
        self.asked: list[str] = []
        self._workspace_of = workspace_of

    async def BatchResolve(self, request: Any, context: Any) -> Any:
        if not self.answers:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "gone")
        self.asked.extend(item.model for item in request.items)
        return model_service_pb2.BatchResolveResponse(
            results=[
                self._resolved(self._workspace_of(request.passports[item.passport_index]), item.model)
                for item in request.items
            ]
        )

    def _resolved(self, workspace_id: str, name: str) -> model_service_pb2.ResolveResult:
        found = self.models.get((workspace_id, name), NotFound("RESOURCE_NOT_FOUND", "no such model"))
        if isinstance(found, PerronError):
            return model_service_pb2.ResolveResult(error=status.to_status(found))
        return model_service_pb2.ResolveResult(
            response=model_service_pb2.ResolveResponse(model_id=found, name=name, base_model="small")
        )


def _missing(thing: str) -> Any:
    return status.to_status(NotFound("RESOURCE_NOT_FOUND", f"the {thing} does not exist"))
