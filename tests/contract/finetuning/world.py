"""Finetuning on a real channel, beside a real governance and an identity that says what a test makes true."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import grpc

from perron.api.common.v1 import event_service_pb2, event_service_pb2_grpc, roles_pb2
from perron.api.finetuning.v1 import file_service_pb2 as pb
from perron.api.finetuning.v1 import file_service_pb2_grpc
from perron.api.governance.v1 import directive_service_pb2_grpc
from perron.api.identity.v1 import api_key_pb2, api_key_pb2_grpc, organization_pb2_grpc, principal_pb2
from perron.chassis import credentials
from perron.chassis.clock import Clock, SystemClock
from perron.chassis.ids import new_id
from perron.chassis.migrations.runner import migrate
from perron.chassis.passports import Passport
from perron.chassis.server import Application
from perron.finetuning import app
from perron.finetuning.settings import Settings
from perron.governance import app as governance_app
from perron.governance.settings import Settings as GovernanceSettings
from tests.contract.governance import world as governance_world

Metadata = tuple[tuple[str, str], ...]
ENTITLEMENTS = {"fine_tuning": "yes", "fine_tuning_jobs": "2", "fine_tuning_bytes": str(1 << 34)}
PIECE = 256 * 1024


@dataclass
class Tenant(governance_world.Tenant):
    """A tenant whose plan gives fine-tuning."""

    entitlements: dict[str, str] = field(default_factory=lambda: dict(ENTITLEMENTS))

    def passport(self) -> Passport:
        return replace(super().passport(), entitlements=self.entitlements)


class Identity(governance_world.Identity):
    """Answers with passports where they are wanted, and tells everybody of the same events."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.told: list[event_service_pb2.Event] = []
        self.news = asyncio.Condition()

    async def Watch(self, request: Any, context: Any) -> AsyncIterator[Any]:
        seen = request.cursor.number
        yield event_service_pb2.WatchResponse(generation="g")
        while True:
            async with self.news:
                while len(self.told) <= seen:
                    await self.news.wait()
            yield event_service_pb2.WatchResponse(generation="g", events=self.told[seen:])
            seen = len(self.told)

    async def BatchVerify(self, request: Any, context: Any) -> Any:
        answer = await super().BatchVerify(request, context)
        for item, result in zip(request.items, answer.results, strict=True):
            tenant = self.tenants.get(result.response.principal.workspace_id)
            if item.want_passport and tenant is not None:
                result.response.passport = self.signer.sign(tenant.passport())
        return answer


def line(number: int = 0, size: int = 0) -> bytes:
    """One valid example; `size` is about how many bytes it has."""
    question = f"question {number} " + "x" * max(size - 130, 0)
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": f"answer {number}"}]
    return json.dumps({"messages": messages}).encode() + b"\n"


def lines(size: int, of: int = 200) -> bytes:
    """A valid training file of about `size` bytes."""
    return b"".join(line(number, of) for number in range(size // len(line(0, of)) + 1))


class World:
    """A running finetuning, its callers, and its tenants."""

    def __init__(self, clock: Clock, identity: Identity, folder: Path, governance_target: str) -> None:
        self.clock = clock
        self.identity = identity
        self.folder = folder
        self.governance_target = governance_target
        self.identity_target = ""
        self.key = self.credential(
            principal_pb2.Principal(kind=principal_pb2.PRINCIPAL_KIND_SERVICE, name="finetuning")
        )
        self.application: Application
        self.channel: grpc.aio.Channel
        self.files: Any
        self.directives: Any

    def connect(self, channel: grpc.aio.Channel, governance: grpc.aio.Channel) -> None:
        self.channel = channel
        self.files = file_service_pb2_grpc.FileServiceStub(channel)
        self.directives = directive_service_pb2_grpc.DirectiveServiceStub(governance)

    def tenant(self, **fields: Any) -> Tenant:
        tenant = Tenant(self.clock, **fields)
        self.identity.tenants[tenant.workspace_id] = tenant
        return tenant

    def customer(
        self, tenant: Tenant, scopes: Iterable[str] = ("FINE_TUNING_READ", "FINE_TUNING_WRITE", "DATA_WRITE")
    ) -> Metadata:
        return self.caller(
            principal_pb2.Principal(
                kind=principal_pb2.PRINCIPAL_KIND_CUSTOMER,
                organization_id=tenant.organization_id,
                workspace_id=tenant.workspace_id,
                member_id=new_id("mem"),
                organization_role=roles_pb2.ORGANIZATION_ROLE_ADMIN,
                workspace_role=roles_pb2.WORKSPACE_ROLE_ADMIN,
                scopes=[roles_pb2.Scope.Value(f"SCOPE_{name}") for name in scopes],
            )
        )

    def operator(self, role: str) -> Metadata:
        return self.caller(
            principal_pb2.Principal(
                kind=principal_pb2.PRINCIPAL_KIND_OPERATOR,
                operator_roles=[roles_pb2.OperatorRole.Value(f"OPERATOR_ROLE_{role}")],
            )
        )

    def service(self, name: str) -> Metadata:
        return self.caller(principal_pb2.Principal(kind=principal_pb2.PRINCIPAL_KIND_SERVICE, name=name))

    def caller(self, principal: principal_pb2.Principal) -> Metadata:
        return (("authorization", f"Bearer {self.credential(principal)}"),)

    def credential(self, principal: principal_pb2.Principal) -> str:
        principal.key_id = new_id("key")
        made = credentials.with_checksum("test", str(len(self.identity.principals)).rjust(43, "0"))
        self.identity.principals[made] = api_key_pb2.VerifyResponse(
            state=api_key_pb2.KEY_STATE_VALID, principal=principal
        )
        return made

    async def announce(self, caller: Metadata, content: bytes, **fields: Any) -> Any:
        request = pb.CreateUploadRequest(
            **{
                "display_name": "train.jsonl",
                "bytes": len(content),
                "sha256": hashlib.sha256(content).hexdigest(),
                "rights_attested": True,
            }
            | fields
        )
        return (await self.files.CreateUpload(request, metadata=caller)).upload

    async def send(self, caller: Metadata, upload: Any, content: bytes, offset: int = 0) -> Any:
        return await self.files.UploadFile(messages(upload.upload_id, content, offset), metadata=caller)

    async def upload(self, caller: Metadata, content: bytes, **fields: Any) -> Any:
        upload = await self.announce(caller, content, **fields)
        return (await self.send(caller, upload, content)).file

    async def download(self, caller: Metadata, file_id: str, **fields: Any) -> bytes:
        call = self.files.DownloadFile(pb.DownloadFileRequest(file_id=file_id, **fields), metadata=caller)
        return b"".join([part.chunk async for part in call])

    async def tell(self, kind: str, tenant: Tenant, **fields: str) -> None:
        """Makes an event of identity known to whoever follows it."""
        number = len(self.identity.told) + 1
        event = event_service_pb2.Event(
            number=number, kind=kind, organization_id=tenant.organization_id, **fields
        )
        async with self.identity.news:
            self.identity.told.append(event)
            self.identity.news.notify_all()

    def objects(self) -> list[Path]:
        """Everything in storage, drafts included."""
        return sorted(path for path in (self.folder / "objects").rglob("*") if path.is_file())


async def messages(upload_id: str, content: bytes, offset: int = 0) -> AsyncIterator[pb.UploadFileRequest]:
    yield pb.UploadFileRequest(start=pb.UploadStart(upload_id=upload_id, offset=offset))
    for at in range(offset, len(content), PIECE):
        yield pb.UploadFileRequest(chunk=content[at : at + PIECE])


@asynccontextmanager
async def beside(folder: Path, clock: Clock) -> AsyncIterator[World]:
    """Starts identity and governance, and prepares what finetuning needs of files."""
    identity = Identity(clock)
    server = grpc.aio.server()
    api_key_pb2_grpc.add_ApiKeyServiceServicer_to_server(identity, server)
    organization_pb2_grpc.add_OrganizationServiceServicer_to_server(identity, server)
    event_service_pb2_grpc.add_EventServiceServicer_to_server(identity, server)
    identity_port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    for service in ("governance", "finetuning"):
        migrate(service, f"sqlite:///{folder / service}.db")
    (folder / "root").write_bytes(b"r" * 32)
    (folder / "key").write_text(credentials.with_checksum("test", "g" * 43))
    governance = governance_app.build(
        GovernanceSettings(**_of_governance(folder, identity_port)),
        clock=None if isinstance(clock, SystemClock) else clock,
    )
    await governance.start()
    world = World(clock, identity, folder, f"127.0.0.1:{governance.port}")
    world.identity_target = f"127.0.0.1:{identity_port}"
    (folder / "finetuning-key").write_text(world.key)
    yield world
    await governance.stop(grace_seconds=0.1)
    await server.stop(0)


def _of_governance(folder: Path, identity_port: int) -> dict[str, Any]:
    return {
        "database_url": f"sqlite:///{folder / 'governance.db'}",
        "identity_target": f"127.0.0.1:{identity_port}",
        "key_file": str(folder / "key"),
        "root_key_file": str(folder / "root"),
        "vault_folder": folder / "governance-vault",
    }


def settings(world: World, **fields: Any) -> dict[str, Any]:
    """The settings of finetuning in a world."""
    return {
        "database_url": f"sqlite:///{world.folder / 'finetuning.db'}",
        "identity_target": world.identity_target,
        "governance_target": world.governance_target,
        "agents_target": "",
        "key_file": str(world.folder / "finetuning-key"),
        "root_key_file": str(world.folder / "root"),
        "vault_folder": world.folder / "vault",
        "storage_url": str(world.folder / "objects"),
    } | fields


@asynccontextmanager
async def running(
    folder: Path, clock: Clock, *, governance: Any = None, **fields: Any
) -> AsyncIterator[World]:
    """Starts all three, and stops them; `governance` stands in for what finetuning asks of it."""
    async with beside(folder, clock) as world:
        world.application = app.build(
            Settings(**settings(world, **fields)),
            clock=None if isinstance(clock, SystemClock) else clock,
            governance=governance,
        )
        await world.application.start()
        async with (
            grpc.aio.insecure_channel(f"127.0.0.1:{world.application.port}") as channel,
            grpc.aio.insecure_channel(world.governance_target) as decisions,
        ):
            world.connect(channel, decisions)
            yield world
        await world.application.stop(grace_seconds=0.1)
