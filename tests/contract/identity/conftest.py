"""A running identity service, and those who call it."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import grpc
import pytest

from perron.api.common.v1 import audit_service_pb2_grpc, event_service_pb2_grpc, roles_pb2
from perron.api.identity.v1 import (
    api_key_pb2,
    api_key_pb2_grpc,
    organization_pb2,
    organization_pb2_grpc,
    workspace_pb2_grpc,
)
from perron.chassis.errors import PerronError
from perron.chassis.migrations.runner import migrate
from perron.chassis.status import from_rpc_error
from perron.chassis.testing import FakeClock, postgresql_database
from perron.identity.app import build
from perron.identity.settings import Settings

ALL_SCOPES = [number for number in roles_pb2.Scope.values() if number]


@dataclass(frozen=True)
class Tenant:
    """An organization with its first workspace, admin and key."""

    organization_id: str
    workspace_id: str
    member_id: str
    key_id: str
    secret: str


class Identity:
    """The service on a loopback port, its operator and a service that may ask it."""

    def __init__(self, folder: Path, clock: FakeClock, url: str, **settings: Any) -> None:
        self.folder = folder
        self.clock = clock
        self.settings = Settings.read(
            {
                "PERRON_IDENTITY_DATABASE_URL": url,
                "PERRON_IDENTITY_PEPPER_FILE": str(folder / "pepper"),
                "PERRON_IDENTITY_SIGNING_KEYS_FILE": str(folder / "signing"),
                "PERRON_IDENTITY_BOOTSTRAP_KEY_FILE": str(folder / "operator"),
                **settings,
            }
        )
        self.operator = ""
        self.peer = ""

    async def start(self) -> None:
        self.application = build(self.settings, clock=self.clock)
        await self.application.start()
        self.channel = grpc.aio.insecure_channel(f"127.0.0.1:{self.application.port}")
        self.organizations = organization_pb2_grpc.OrganizationServiceStub(self.channel)
        self.workspaces = workspace_pb2_grpc.WorkspaceServiceStub(self.channel)
        self.keys = api_key_pb2_grpc.ApiKeyServiceStub(self.channel)
        self.events = event_service_pb2_grpc.EventServiceStub(self.channel)
        self.audit = audit_service_pb2_grpc.AuditServiceStub(self.channel)
        self.operator = (self.folder / "operator").read_text().strip()
        if not self.peer:
            created = await self.call(
                self.keys.CreatePlatformKey,
                api_key_pb2.CreatePlatformKeyRequest(display_name="admission", service={"name": "admission"}),
                self.operator,
            )
            self.peer = created.secret

    async def stop(self) -> None:
        await self.channel.close()
        await self.application.stop(grace_seconds=1)

    async def call(self, method: Any, request: Any, key: str = "") -> Any:
        metadata = (("authorization", f"Bearer {key}"),) if key else ()
        return await method(request, metadata=metadata, timeout=20)

    async def refusal(self, method: Any, request: Any, key: str = "") -> PerronError:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await self.call(method, request, key)
        return from_rpc_error(caught.value)

    async def acceptances(self) -> list[organization_pb2.DocumentAcceptance]:
        listed = await self.call(self.organizations.ListDocuments, organization_pb2.ListDocumentsRequest())
        return [
            organization_pb2.DocumentAcceptance(
                document=each.name, version=each.version, text_digest=each.text_digest
            )
            for each in listed.documents
        ]

    async def organization_request(self, **fields: Any) -> organization_pb2.CreateOrganizationRequest:
        values: dict[str, Any] = {
            "request_id": str(uuid4()),
            "display_name": "Acme",
            "admin_email": "ada@acme.example",
            "acceptances": await self.acceptances(),
            "permitted_uses": [organization_pb2.PERMITTED_USE_OFFERING],
        }
        return organization_pb2.CreateOrganizationRequest(**(values | fields))

    async def tenant(self, **fields: Any) -> Tenant:
        made = await self.call(
            self.organizations.CreateOrganization, await self.organization_request(**fields), self.operator
        )
        return Tenant(
            made.organization.organization_id,
            made.workspace.workspace_id,
            made.admin.member_id,
            made.key.key_id,
            made.secret,
        )

    async def mint(self, secret: str, **fields: Any) -> api_key_pb2.CreateApiKeyResponse:
        values: dict[str, Any] = {"display_name": "child", "scopes": ALL_SCOPES}
        created: api_key_pb2.CreateApiKeyResponse = await self.call(
            self.keys.CreateApiKey, api_key_pb2.CreateApiKeyRequest(**(values | fields)), secret
        )
        return created

    async def verify(self, credential: str, **fields: Any) -> api_key_pb2.VerifyResponse:
        response: api_key_pb2.VerifyResponse = await self.call(
            self.keys.Verify, api_key_pb2.VerifyRequest(credential=credential, **fields), self.peer
        )
        return response

    async def state(self, credential: str, **fields: Any) -> str:
        response = await self.verify(credential, **fields)
        return api_key_pb2.KeyState.Name(response.state).removeprefix("KEY_STATE_")

    def advance(self, **duration: float) -> None:
        self.clock.advance(timedelta(**duration))


def fresh_url(dialect: str, folder: Path) -> str:
    if dialect == "sqlite":
        return f"sqlite:///{folder / 'identity.db'}"
    return postgresql_database(f"perron_contract_{uuid4().hex[:12]}")


@pytest.fixture
async def identity(
    request: pytest.FixtureRequest, tmp_path: Path, clock: FakeClock
) -> AsyncIterator[Identity]:
    """Identity on a migrated store; parametrize with BOTH and indirect=True, or get SQLite."""
    url = fresh_url(getattr(request, "param", "sqlite"), tmp_path)
    await asyncio.to_thread(migrate, "identity", url)
    running = Identity(tmp_path, clock, url)
    await running.start()
    yield running
    await running.stop()
