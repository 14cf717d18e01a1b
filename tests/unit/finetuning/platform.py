"""Finetuning's domain over a real store: files, callers and workers for tests of jobs and models."""

import secrets
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import TypeVar
from uuid import UUID

from perron.chassis.database import Database
from perron.chassis.ids import IdSource, from_bytes
from perron.chassis.interceptors.access import Call, Caller, CallerKind
from perron.chassis.passports import Passport
from perron.chassis.testing import counting_ids
from perron.finetuning import tables
from perron.finetuning.base_models import BaseModels
from perron.finetuning.blobs import Blobs
from perron.finetuning.hyperparameters import Wanted
from perron.finetuning.job_agents import JobAgents
from perron.finetuning.jobs import CreateCommand, Jobs
from perron.finetuning.model import (
    Artifact,
    ArtifactKind,
    BaseModel,
    Capabilities,
    Job,
    Method,
    Model,
    Progress,
)
from perron.finetuning.models import Models
from perron.finetuning.store import Store
from perron.finetuning.worker_leases import LeaseReference, Lent, WorkerLeases

T = TypeVar("T")
TTL = timedelta(seconds=30)
TINY = BaseModel("tiny", True, "", (Method.LORA, Method.FULL), 512, 0.0, 2_500_000, "EUR")
ENTITLEMENTS = {"fine_tuning": "yes", "fine_tuning_jobs": "1000", "fine_tuning_bytes": "1000000"}
WORKER = Capabilities("worker-1", [Method.LORA], ["tiny"])


def identifier(prefix: str, number: int) -> str:
    return from_bytes(prefix, UUID(int=number).bytes)


ORGANIZATION, WORKSPACE = identifier("org", 1), identifier("ws", 1)
DECISION = identifier("dec", 1)


def caller(entitlements: Mapping[str, str] | None = None, workspace: int = 1) -> Call:
    """The call of an admin of the organization."""
    who = Caller(
        kind=CallerKind.CUSTOMER,
        key_id=identifier("key", workspace),
        organization_id=ORGANIZATION,
        workspace_id=identifier("ws", workspace),
        member_id=identifier("mem", 1),
        organization_role="ADMIN",
        workspace_role="ADMIN",
    )
    passport = Passport(
        who.organization_id, who.workspace_id, who.member_id, who.key_id, "ADMIN", "ADMIN", frozenset(),
        "scale-1", "PAID", "scale-1", entitlements or ENTITLEMENTS, "", {}, (), 0,
    )  # fmt: skip
    return Call(replace(who, passport=passport), "perron.api.finetuning.v1.JobService/CreateJob", "0" * 32)


def service() -> Call:
    """The call of a worker."""
    return Call(
        Caller(CallerKind.SERVICE, name="trainer"), "perron.api.finetuning.v1.WorkerService/CompleteJob"
    )


def wanted(*file_ids: str) -> CreateCommand:
    """A job of these files."""
    return CreateCommand("tiny", Method.LORA, Wanted(), file_ids, (), "", False, True, None)


class MemoryVault:
    """A vault that forgets everything with its test."""

    def __init__(self) -> None:
        self.keys: dict[str, bytes] = {}

    def create(self, key_id: str) -> bytes:
        self.keys[key_id] = secrets.token_bytes(32)
        return self.keys[key_id]

    def read(self, key_id: str) -> bytes | None:
        return self.keys.get(key_id)

    def drop(self, key_ids: list[str]) -> None:
        for key_id in key_ids:
            self.keys.pop(key_id, None)


class Platform:
    """The domain over a store."""

    def __init__(self, database: Database, new_id: IdSource | None = None, *, attempts_max: int = 5) -> None:
        self.database = database
        self.new_id = new_id or counting_ids()
        self.vault = MemoryVault()
        self.job_agents = JobAgents(Blobs(self.vault, self.new_id))
        self.jobs = Jobs(BaseModels([TINY]), self.new_id, self.job_agents)
        self.models = Models(self.new_id)
        self.leases = WorkerLeases(self.models, self.new_id, ttl=TTL, attempts_max=attempts_max)

    async def write(self, work: Callable[[Store], T]) -> T:
        return await self.database.write(lambda tx: work(Store(tx)))

    async def read(self, work: Callable[[Store], T]) -> T:
        return await self.database.read(lambda tx: work(Store(tx)))

    async def file(self, number: int = 1, *, workspace: int = 1) -> str:
        """A valid file without content, and the row of its blob."""
        file_id, blob_id = identifier("file", number), identifier("blob", 10_000 + number)

        def add(store: Store) -> None:
            add_blob(store, blob_id, workspace)
            row = dict.fromkeys((column.name for column in tables.files.c), 0) | {
                "id": file_id,
                "organization_id": ORGANIZATION,
                "workspace_id": identifier("ws", workspace),
                "blob_id": blob_id,
                "display_name": "examples",
                "state": "VALID",
                "bytes": 100,
                "sha256": "0" * 64,
                "examples": 20,
                "tokens": 1000,
                "errors": "[]",
                "line_digests": b"",
                "member_id": identifier("mem", 1),
                "decision_id": "",
                "subscription_id": "",
            }
            store.tx.execute(tables.files.insert(), row)

        await self.write(add)
        return file_id

    async def create(self, *file_ids: str, call: Call | None = None) -> Job:
        """A job that waits for a worker."""
        made = await self.create_of(wanted(*file_ids), call)
        await self.write(self.jobs.validate)
        return made

    async def create_of(self, command: CreateCommand, call: Call | None = None) -> Job:
        """A job as it was asked for, which waits for its validation."""
        return await self.write(lambda store: self.jobs.create(store, call or caller(), command, DECISION))

    async def lend(self) -> Lent:
        """A job as a worker has it."""
        lent = await self.write(lambda store: self.leases.lend(store, WORKER))
        assert lent is not None
        return lent

    async def weights(self, job_id: str, *, kind: ArtifactKind = ArtifactKind.WEIGHTS) -> str:
        """An artifact that a job wrote and nothing has claimed."""
        blob_id = self.new_id("blob")

        def add(store: Store) -> None:
            add_blob(store, blob_id, 1)
            name = f"{kind.lower()}.safetensors"
            store.add_artifact(Artifact(blob_id, job_id, "", kind, name, 100, "0" * 64, store.now_us()))

        await self.write(add)
        return blob_id

    async def complete(self, lent: Lent) -> Model:
        """The model that a worker made of its job."""
        blob_id = await self.weights(lent.job.job_id)
        model_id = await self.write(
            lambda store: self.leases.complete(
                store, service(), reference(lent), [blob_id], Progress(9, 9, 3000), ()
            )
        )
        return await self.read(lambda store: store.model(WORKSPACE, model_id))

    async def trained(self) -> Model:
        """A model, from its file on."""
        await self.create(await self.file())
        return await self.complete(await self.lend())


def reference(lent: Lent) -> LeaseReference:
    return LeaseReference(lent.job.lease.lease_id, lent.job.lease.fencing_token)


def add_blob(store: Store, blob_id: str, workspace: int) -> None:
    values = {
        "id": blob_id,
        "organization_id": ORGANIZATION,
        "workspace_id": identifier("ws", workspace),
        "kind": "ARTIFACT",
        "owner_id": "",
        "state": "READY",
        "bytes": 100,
        "sha256": "0" * 64,
        "runs": "",
        "key_id": "key",
        "wrapped_key": b"wrapped",
        "create_time": store.now_us(),
    }
    store.tx.execute(tables.blobs.insert(), values)
