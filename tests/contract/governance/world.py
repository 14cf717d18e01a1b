"""Governance on a real channel, beside an identity that says whatever a test makes true."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from perron.api.common.v1 import event_service_pb2, event_service_pb2_grpc, roles_pb2
from perron.api.governance.v1 import (
    decision_pb2,
    decision_service_pb2,
    decision_service_pb2_grpc,
    directive_service_pb2_grpc,
    record_service_pb2,
    record_service_pb2_grpc,
    terms_service_pb2_grpc,
)
from perron.api.identity.v1 import (
    api_key_pb2,
    api_key_pb2_grpc,
    organization_pb2,
    organization_pb2_grpc,
    principal_pb2,
)
from perron.chassis import credentials, status
from perron.chassis.errors import NotFound, PerronError
from perron.chassis.ids import new_id
from perron.chassis.passports import Passport, Signer, SigningKey
from perron.chassis.testing import FakeClock
from perron.governance import app
from perron.governance.settings import Settings

DOCUMENTS = {"additional-terms": "2025-02-06", "terms-of-service": "2025-01-01"}
INFERENCE = decision_pb2.DATA_KIND_INFERENCE
API = roles_pb2.CHANNEL_API


@dataclass
class Tenant:
    """An organization with one workspace, as identity sees it now; tests change it in place."""

    clock: FakeClock
    plan: str = "free"
    terms_class: str = "FREE"
    subscription_id: str = ""
    documents: dict[str, str] = field(default_factory=lambda: dict(DOCUMENTS))
    active: bool = True
    organization_id: str = field(default_factory=lambda: new_id("org"))
    workspace_id: str = field(default_factory=lambda: new_id("ws"))

    def upgrade(self) -> str:
        self.plan, self.terms_class, self.subscription_id = "pro", "PAID", new_id("sub")
        return self.subscription_id

    def downgrade(self) -> None:
        self.plan, self.terms_class, self.subscription_id = "free", "FREE", ""

    def second_workspace(self) -> "Tenant":
        return Tenant(
            self.clock,
            self.plan,
            self.terms_class,
            self.subscription_id,
            organization_id=self.organization_id,
        )

    def passport(self) -> Passport:
        return Passport(
            organization_id=self.organization_id,
            workspace_id=self.workspace_id,
            member_id="mem_1",
            key_id="key_1",
            organization_role="ADMIN",
            workspace_role="ADMIN",
            scopes=frozenset({"INFERENCE"}),
            plan=self.plan,
            terms_class=self.terms_class,
            tier=self.plan,
            entitlements={},
            subscription_id=self.subscription_id,
            documents=self.documents,
            allowed_models=(),
            as_of_us=self.clock.now_us(),
        )


class Identity(
    api_key_pb2_grpc.ApiKeyServiceServicer,
    organization_pb2_grpc.OrganizationServiceServicer,
    event_service_pb2_grpc.EventServiceServicer,
):
    """Answers what governance asks of identity."""

    def __init__(self, clock: FakeClock) -> None:
        key = Ed25519PrivateKey.generate()
        self.signer = Signer([SigningKey("k1", key, 0)], clock)
        self.public = key.public_key().public_bytes_raw()
        self.principals: dict[str, api_key_pb2.VerifyResponse] = {}
        self.tenants: dict[str, Tenant] = {}
        self.reachable = True
        self.events: asyncio.Queue[event_service_pb2.Event] = asyncio.Queue()
        self.consumed = asyncio.Event()

    async def BatchVerify(self, request: Any, context: Any) -> Any:
        unknown = api_key_pb2.VerifyResponse(state=api_key_pb2.KEY_STATE_UNKNOWN)
        found = [self.principals.get(item.credential, unknown) for item in request.items]
        return api_key_pb2.BatchVerifyResponse(
            results=[api_key_pb2.VerifyResult(response=one) for one in found]
        )

    async def GetSigningKeys(self, request: Any, context: Any) -> Any:
        return api_key_pb2.GetSigningKeysResponse(keys=[{"kid": "k1", "public_key": self.public}])

    async def BatchGetStanding(self, request: Any, context: Any) -> Any:
        if not self.reachable:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "gone")
        return organization_pb2.BatchGetStandingResponse(
            results=[self._standing(item.workspace_id) for item in request.items]
        )

    async def Watch(self, request: Any, context: Any) -> AsyncIterator[Any]:
        yield event_service_pb2.WatchResponse(generation="g")
        while True:
            event = await self.events.get()
            yield event_service_pb2.WatchResponse(generation="g", events=[event])

    async def Acknowledge(self, request: Any, context: Any) -> Any:
        self.consumed.set()
        return event_service_pb2.AcknowledgeResponse()

    def _standing(self, workspace_id: str) -> organization_pb2.GetStandingResult:
        tenant = self.tenants.get(workspace_id)
        if tenant is None:
            error = NotFound("RESOURCE_NOT_FOUND", "no such workspace")
            return organization_pb2.GetStandingResult(error=status.to_status(error))
        state = "ACTIVE" if tenant.active else "TERMINATED"
        return organization_pb2.GetStandingResult(
            response=organization_pb2.Standing(
                organization_id=tenant.organization_id,
                workspace_id=workspace_id,
                state=organization_pb2.OrganizationState.Value(f"ORGANIZATION_STATE_{state}"),
                plan=tenant.plan,
                terms_class=roles_pb2.TermsClass.Value(f"TERMS_CLASS_{tenant.terms_class or 'UNSPECIFIED'}"),
                subscription_id=tenant.subscription_id,
                accepted_documents=[
                    {"name": name, "version": version} for name, version in tenant.documents.items()
                ],
            )
        )


class World:
    """A running governance, its callers, and its tenants."""

    def __init__(self, clock: FakeClock, identity: Identity, channel: grpc.aio.Channel, folder: Path) -> None:
        self.clock = clock
        self.identity = identity
        self.channel = channel
        self.folder = folder
        self.decisions = decision_service_pb2_grpc.DecisionServiceStub(channel)
        self.records = record_service_pb2_grpc.RecordServiceStub(channel)
        self.directives = directive_service_pb2_grpc.DirectiveServiceStub(channel)
        self.terms = terms_service_pb2_grpc.TermsServiceStub(channel)
        self.admission = self.service("admission")
        self.reviewer = self.operator("REVIEWER")

    def tenant(self, **fields: Any) -> Tenant:
        return self.add(Tenant(self.clock, **fields))

    def paying(self) -> Tenant:
        tenant = self.tenant()
        tenant.upgrade()
        return tenant

    def add(self, tenant: Tenant) -> Tenant:
        self.identity.tenants[tenant.workspace_id] = tenant
        return tenant

    def customer(
        self, tenant: Tenant, role: str = "ADMIN", scopes: tuple[str, ...] = ("DATA_READ", "DATA_WRITE")
    ) -> tuple[tuple[str, str], ...]:
        return self._caller(
            principal_pb2.Principal(
                kind=principal_pb2.PRINCIPAL_KIND_CUSTOMER,
                organization_id=tenant.organization_id,
                workspace_id=tenant.workspace_id,
                member_id=new_id("mem"),
                organization_role=roles_pb2.OrganizationRole.Value(f"ORGANIZATION_ROLE_{role}"),
                workspace_role=roles_pb2.WORKSPACE_ROLE_MEMBER,
                scopes=[roles_pb2.Scope.Value(f"SCOPE_{scope}") for scope in scopes],
            )
        )

    def operator(self, *roles: str) -> tuple[tuple[str, str], ...]:
        return self._caller(
            principal_pb2.Principal(
                kind=principal_pb2.PRINCIPAL_KIND_OPERATOR,
                operator_roles=[roles_pb2.OperatorRole.Value(f"OPERATOR_ROLE_{role}") for role in roles],
            )
        )

    def service(self, name: str) -> tuple[tuple[str, str], ...]:
        return self._caller(principal_pb2.Principal(kind=principal_pb2.PRINCIPAL_KIND_SERVICE, name=name))

    async def decide(self, tenant: Tenant, **fields: Any) -> decision_service_pb2.DecideResponse:
        request = decision_service_pb2.DecideRequest(
            **{"passport": self.sign(tenant), "data_kind": INFERENCE, "channel": API} | fields
        )
        return await self.decisions.Decide(request, metadata=self.admission)

    async def put(
        self,
        tenant: Tenant,
        decision: decision_pb2.Decision,
        given: bytes = b"question",
        answered: bytes = b"answer",
        **fields: Any,
    ) -> record_service_pb2.PutResponse:
        request = record_service_pb2.PutRequest(
            **{
                "organization_id": tenant.organization_id,
                "decision_id": decision.decision_id,
                "model": "small",
                "input": given,
                "output": answered,
            }
            | fields
        )
        return await self.records.Put(request, metadata=self.admission)

    async def read(
        self,
        metadata: tuple[tuple[str, str], ...],
        record_id: str,
        purpose: str = "PROVIDE_SERVICES",
        **fields: Any,
    ) -> tuple[Any, bytes, bytes]:
        request = record_service_pb2.GetRecordRequest(
            record_id=record_id, purpose=decision_pb2.Purpose.Value(f"PURPOSE_{purpose}"), **fields
        )
        parts = [part async for part in self.records.GetRecord(request, metadata=metadata)]
        given = b"".join(part.input for part in parts)
        return parts[0].record, given, b"".join(part.output for part in parts)

    async def listed(self, metadata: tuple[tuple[str, str], ...], **fields: Any) -> list[Any]:
        request = record_service_pb2.ListRecordsRequest(**fields)
        return list((await self.records.ListRecords(request, metadata=metadata)).records)

    def sign(self, tenant: Tenant) -> str:
        return self.identity.signer.sign(tenant.passport())

    def _caller(self, principal: principal_pb2.Principal) -> tuple[tuple[str, str], ...]:
        number = len(self.identity.principals)
        principal.key_id = new_id("key")
        credential = credentials.with_checksum("test", str(number).rjust(43, "0"))
        self.identity.principals[credential] = api_key_pb2.VerifyResponse(
            state=api_key_pb2.KEY_STATE_VALID, principal=principal
        )
        return (("authorization", f"Bearer {credential}"),)


async def refused(call: Any) -> PerronError:
    """The refusal of a call that must not succeed."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return status.from_rpc_error(error)
    raise AssertionError("the call was not refused")


def purposes(decision: decision_pb2.Decision) -> dict[str, list[tuple[str, Any]]]:
    """The permissions of a decision by name: each deadline's kind, with its instant or subject."""
    return {
        decision_pb2.Purpose.Name(one.purpose).removeprefix("PURPOSE_"): [
            (
                decision_pb2.DeadlineKind.Name(deadline.kind).removeprefix("DEADLINE_KIND_"),
                _end(deadline),
            )
            for deadline in one.deadlines
        ]
        for one in decision.permissions
    }


def _end(deadline: decision_pb2.Deadline) -> Any:
    if deadline.HasField("time"):
        return deadline.time.ToMicroseconds()
    return deadline.subject_id


@asynccontextmanager
async def running(folder: Path, database_url: str, clock: FakeClock, **settings: Any) -> AsyncIterator[World]:
    """Starts both, and stops both."""
    identity = Identity(clock)
    server = grpc.aio.server()
    api_key_pb2_grpc.add_ApiKeyServiceServicer_to_server(identity, server)
    organization_pb2_grpc.add_OrganizationServiceServicer_to_server(identity, server)
    event_service_pb2_grpc.add_EventServiceServicer_to_server(identity, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    (folder / "root").write_bytes(b"r" * 32)
    (folder / "key").write_text(credentials.with_checksum("test", "k" * 43))
    application = app.build(
        Settings(
            database_url=database_url,
            identity_target=f"127.0.0.1:{port}",
            key_file=str(folder / "key"),
            root_key_file=str(folder / "root"),
            vault_folder=folder / "vault",
            **settings,
        ),
        clock=clock,
    )
    await application.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{application.port}") as channel:
        yield World(clock, identity, channel, folder)
    await application.stop(grace_seconds=0.1)
    await server.stop(0)
