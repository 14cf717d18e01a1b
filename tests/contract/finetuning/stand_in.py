"""Finetuning as a real server, with stand-ins for identity and governance that say what a test makes true."""

import functools
import hashlib
import json
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any
from uuid import UUID

import grpc
import sqlalchemy

from perron.api.common.v1 import audit_service_pb2_grpc, event_service_pb2_grpc
from perron.api.finetuning.v1 import (
    file_service_pb2,
    file_service_pb2_grpc,
    job_pb2,
    job_service_pb2,
    job_service_pb2_grpc,
    model_service_pb2_grpc,
    worker_service_pb2,
    worker_service_pb2_grpc,
)
from perron.chassis import credentials
from perron.chassis.clock import Clock
from perron.chassis.errors import Unauthenticated, Unavailable
from perron.chassis.ids import from_bytes
from perron.chassis.interceptors.access import Call, Caller, CallerKind, Verified
from perron.chassis.passports import Passport
from perron.chassis.server import Application
from perron.finetuning import tables
from perron.finetuning.app import REVISION, build
from perron.finetuning.file_model import Directives, Retention
from perron.finetuning.peers import Governance, Scope
from perron.finetuning.settings import Settings

MODELS = """
currency: EUR
models:
  - {name: tiny, trainable: true, folder: var/models/tiny, methods: [LORA, FULL], sequence_tokens_max: 512,
     price_per_million_tokens: "2.50"}
  - {name: served-only}
"""
DISTRIBUTORS = "distributors: [{name: cloud-1}]\n"
EXAMPLE = (
    '{"messages":[{"role":"user","content":"question %d"},{"role":"assistant","content":"answer %d"}]}\n'
)


def identifier(prefix: str, number: int) -> str:
    return from_bytes(prefix, UUID(int=number).bytes)


@dataclass(frozen=True)
class Person:
    """A member with a key in a workspace; the numbers make the ids."""

    organization: int = 1
    workspace: int = 1
    key: int = 1
    organization_role: str = "ADMIN"
    workspace_role: str = "ADMIN"
    entitlements: dict[str, str] = field(
        default_factory=lambda: {
            "fine_tuning": "yes",
            "fine_tuning_jobs": "3",
            "fine_tuning_bytes": "100000000",
        },
        hash=False,
    )

    @property
    def organization_id(self) -> str:
        return identifier("org", self.organization)

    @property
    def workspace_id(self) -> str:
        return identifier("ws", self.workspace)

    @property
    def passport(self) -> str:
        return json.dumps(asdict(self))


@functools.lru_cache(maxsize=2000)
def read_passport(token: str) -> Passport:
    person = Person(**json.loads(token))
    return Passport(
        organization_id=person.organization_id,
        workspace_id=person.workspace_id,
        member_id=identifier("mem", person.key),
        key_id=identifier("key", person.key),
        organization_role=person.organization_role,
        workspace_role=person.workspace_role,
        scopes=frozenset(),
        plan="scale-1",
        terms_class="PAID",
        tier="scale-1",
        entitlements=person.entitlements,
        subscription_id="",
        documents={},
        allowed_models=(),
        as_of_us=0,
    )


def secret(name: str) -> str:
    return credentials.with_checksum("test", name.ljust(43, "0"))


def bearer(name: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {secret(name)}"),)


SERVICES = ("admission", "agents", "trainer", "gateway")


class Keys:
    """Knows the services by name and the customers it was told of."""

    def __init__(self) -> None:
        self.people: dict[str, Person] = {}

    async def verify(self, credential: str, *, peer_network: str, want_passport: bool) -> Verified:
        for number, name in enumerate(SERVICES):
            if credential == secret(name):
                key_id = identifier("key", 900 + number)
                return Verified("VALID", Caller(CallerKind.SERVICE, key_id=key_id, name=name))
        for name, person in self.people.items():
            if credential == secret(name):
                return Verified("VALID", _caller(person), person.passport if want_passport else "")
        return Verified("UNKNOWN")


class Passports:
    """Reads what `Person.passport` wrote."""

    async def read(self, token: str) -> Passport:
        try:
            return read_passport(token)
        except (ValueError, TypeError):
            raise Unauthenticated("PASSPORT_INVALID", "not a passport") from None


class Rules(Governance):
    """Governance that holds what a test says."""

    def __init__(self) -> None:
        self.retention = Retention(identifier("dec", 1))
        self.present = Directives(zero_retention=False, held=False)
        self.is_down = False
        self.decided = 0

    async def decision_on_models(self, call: Call) -> str:
        if self.is_down:
            raise Unavailable("PEER_UNAVAILABLE", "governance does not answer")
        self.decided += 1
        return identifier("dec", 100 + self.decided)

    async def retention_of_file(self, call: Call, now_us: int) -> Retention:
        return self.retention

    async def directives(self, scopes: Sequence[Scope]) -> list[Directives]:
        if self.is_down:
            raise Unavailable("PEER_UNAVAILABLE", "governance does not answer")
        return [self.present for _ in scopes]


class Running:
    """The service, a channel to it, and its stubs."""

    def __init__(self, application: Application, keys: Keys, rules: Rules, channel: grpc.aio.Channel) -> None:
        self.application = application
        self.keys = keys
        self.rules = rules
        self.files: Any = file_service_pb2_grpc.FileServiceStub(channel)
        self.jobs: Any = job_service_pb2_grpc.JobServiceStub(channel)
        self.models: Any = model_service_pb2_grpc.ModelServiceStub(channel)
        self.workers: Any = worker_service_pb2_grpc.WorkerServiceStub(channel)
        self.audit: Any = audit_service_pb2_grpc.AuditServiceStub(channel)
        self.events: Any = event_service_pb2_grpc.EventServiceStub(channel)

    def person(self, name: str, **fields: Any) -> Person:
        self.keys.people[name] = replace(Person(), **fields)
        return self.keys.people[name]

    async def upload(
        self, name: str, content: bytes | None = None, *, first: int = 0, count: int = 20
    ) -> Any:
        """Uploads a file as the person of that name, and returns it."""
        content = content or "".join(EXAMPLE % (n, n) for n in range(first, first + count)).encode()
        made = await self.files.CreateUpload(
            file_service_pb2.CreateUploadRequest(
                display_name="examples",
                bytes=len(content),
                sha256=hashlib.sha256(content).hexdigest(),
                rights_attested=True,
            ),
            metadata=bearer(name),
        )

        async def parts() -> AsyncIterator[file_service_pb2.UploadFileRequest]:
            start = file_service_pb2.UploadStart(upload_id=made.upload.upload_id)
            yield file_service_pb2.UploadFileRequest(start=start)
            yield file_service_pb2.UploadFileRequest(chunk=content)

        response = await self.files.UploadFile(parts(), metadata=bearer(name))
        return response.file

    async def create_job(self, name: str, training: Sequence[str], **fields: Any) -> Any:
        """Creates a job of these files as the person of that name, and returns it."""
        request = job_service_pb2.CreateJobRequest(
            base_model="tiny", training_file_ids=training, request_id=str(uuid.uuid4())
        )
        request.MergeFrom(job_service_pb2.CreateJobRequest(**fields))
        return (await self.jobs.CreateJob(request, metadata=bearer(name))).job

    async def job(self, name: str, job_id: str) -> Any:
        """Returns a job as the person of that name sees it."""
        request = job_service_pb2.GetJobRequest(job_id=job_id)
        return (await self.jobs.GetJob(request, metadata=bearer(name))).job

    async def lease(self, *, seconds: float = 5.0) -> "FakeWorker | None":
        """Leases a job as a worker that does everything; None where there is none in time."""
        request = worker_service_pb2.LeaseJobRequest(
            worker="worker-1",
            capabilities=worker_service_pb2.Capabilities(
                device=worker_service_pb2.DEVICE_CPU,
                methods=[job_pb2.TRAINING_METHOD_LORA, job_pb2.TRAINING_METHOD_FULL],
                base_models=["tiny"],
            ),
        )
        response = await self.workers.LeaseJob(request, metadata=bearer("trainer"), timeout=seconds)
        return FakeWorker(self, response.lease) if response.HasField("lease") else None


class FakeWorker:
    """A worker that trains nothing, under one lease."""

    def __init__(self, running: Running, lease: Any) -> None:
        self.lease = lease
        self.reference = worker_service_pb2.LeaseReference(
            lease_id=lease.lease_id, fencing_token=lease.fencing_token
        )
        self._stub = running.workers

    async def report(self, **fields: Any) -> Any:
        """Sends one report on a stream of its own and returns the answer."""
        call = self._stub.Report(metadata=bearer("trainer"))
        try:
            await call.write(worker_service_pb2.ReportRequest(lease=self.reference, **fields))
            answer = await call.read()
            if answer is grpc.aio.EOF:
                await call.code()
                raise AssertionError(await call.details())
            return answer
        finally:
            call.cancel()

    async def write(self, name: str, kind: int, content: bytes) -> Any:
        """Writes an artifact and returns it."""

        async def parts() -> AsyncIterator[worker_service_pb2.WriteArtifactRequest]:
            yield worker_service_pb2.WriteArtifactRequest(
                start=worker_service_pb2.ArtifactStart(
                    lease=self.reference,
                    kind=kind,  # type: ignore[arg-type]
                    name=name,
                    bytes=len(content),
                    sha256=hashlib.sha256(content).hexdigest(),
                )
            )
            for at in range(0, len(content), 1 << 20):
                yield worker_service_pb2.WriteArtifactRequest(chunk=content[at : at + (1 << 20)])

        return (await self._stub.WriteArtifact(parts(), metadata=bearer("trainer"))).artifact

    async def write_model(self, *, weights: bytes | None = None, state: bool = False) -> list[str]:
        """Writes the files of a model or checkpoint and returns their blobs."""
        safe = weights or safetensors(64)
        written = [
            await self.write("adapter_model.safetensors", 1, safe),
            await self.write("adapter_config.json", 2, b'{"r": 8}'),
        ]
        if state:
            written.append(await self.write("state.safetensors", 4, safetensors(32)))
        return [one.blob_id for one in written]

    async def complete(self, blob_ids: Sequence[str], *, step: int = 10) -> str:
        """Ends the job with its model."""
        response = await self._stub.CompleteJob(
            worker_service_pb2.CompleteJobRequest(
                lease=self.reference,
                blob_ids=blob_ids,
                progress=job_pb2.Progress(step=step, steps=step, tokens=100),
                scratch_wiped=True,
            ),
            metadata=bearer("trainer"),
        )
        return str(response.model_id)

    async def fail(self, reason: int = 9, *, retriable: bool = False) -> Any:
        """Gives the job back; REASON_TRAINER_FAILED where none is named."""
        request = worker_service_pb2.FailJobRequest(
            lease=self.reference,
            reason=reason,  # type: ignore[arg-type]
            retriable=retriable,
            description="it failed",
            scratch_wiped=True,
        )
        return await self._stub.FailJob(request, metadata=bearer("trainer"))

    async def read(self, blob_id: str, offset: int = 0) -> bytes:
        """Reads an input."""
        request = worker_service_pb2.ReadInputRequest(lease=self.reference, blob_id=blob_id, offset=offset)
        call = self._stub.ReadInput(request, metadata=bearer("trainer"))
        return b"".join([part.chunk async for part in call])


def safetensors(numbers: int) -> bytes:
    """Weights of one tensor."""
    size = 4 * numbers
    header = json.dumps({"w": {"dtype": "F32", "shape": [numbers], "data_offsets": [0, size]}}).encode()
    return len(header).to_bytes(8, "little") + header + bytes(size)


def application(
    url: str, folder: Path, *, clock: Clock | None, keys: Keys, rules: Rules, **environ: str
) -> Application:
    (folder / "key").write_text(secret("finetuning"))
    (folder / "root").write_text("ab" * 32)
    (folder / "models.yaml").write_text(MODELS)
    (folder / "distributors.yaml").write_text(DISTRIBUTORS)
    given = {
        "DATABASE_URL": url,
        "KEY_FILE": str(folder / "key"),
        "ROOT_KEY_FILE": str(folder / "root"),
        "MODELS_FILE": str(folder / "models.yaml"),
        "DISTRIBUTORS_FILE": str(folder / "distributors.yaml"),
        "STORAGE_URL": str(folder / "storage"),
        "VAULT_FOLDER": str(folder / "vault"),
        "IDENTITY_TARGET": "127.0.0.1:1",
        "GOVERNANCE_TARGET": "127.0.0.1:1",
        "AGENTS_TARGET": "",
        "LISTEN_ADDRESS": "127.0.0.1:0",
    } | environ
    settings = Settings.read({f"PERRON_FINETUNING_{name}": value for name, value in given.items()})
    return build(settings, clock=clock, verifier=keys, passports=Passports(), governance=rules)


def stamped(url: str) -> str:
    """Says of a store whose tables were made without migrations that it is at the newest one."""
    engine = sqlalchemy.create_engine(
        url.replace("postgresql://", "postgresql+psycopg://"), poolclass=sqlalchemy.NullPool
    )
    with engine.begin() as connection:
        table = tables.chassis_tables.schema_compatibility
        connection.execute(table.insert(), {"revision": REVISION, "compatible_since": REVISION})
    engine.dispose()
    return url


@asynccontextmanager
async def serving(url: str, folder: Path, clock: Clock | None, **environ: str) -> AsyncIterator[Running]:
    keys, rules = Keys(), Rules()
    app = application(url, folder, clock=clock, keys=keys, rules=rules, **environ)
    await app.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{app.port}") as channel:
            yield Running(app, keys, rules, channel)
    finally:
        await app.stop(grace_seconds=0.1)


def _caller(person: Person) -> Caller:
    return Caller(
        CallerKind.CUSTOMER,
        key_id=identifier("key", person.key),
        organization_id=person.organization_id,
        workspace_id=person.workspace_id,
        member_id=identifier("mem", person.key),
        organization_role=person.organization_role,
        workspace_role=person.workspace_role,
        scopes=frozenset({"FINE_TUNING_READ", "FINE_TUNING_WRITE", "DATA_READ"}),
    )
