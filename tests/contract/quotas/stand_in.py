"""Quotas as a real server, with a stand-in for identity: keys and passports that say whose they are."""

import functools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from uuid import UUID

import grpc

from perron.api.common.v1 import audit_service_pb2_grpc
from perron.api.quotas.v1 import (
    limit_service_pb2_grpc,
    quota_service_pb2_grpc,
    usage_service_pb2_grpc,
)
from perron.chassis import credentials
from perron.chassis.clock import Clock
from perron.chassis.errors import Unauthenticated
from perron.chassis.ids import from_bytes
from perron.chassis.interceptors.access import Caller, CallerKind, Verified
from perron.chassis.passports import Passport
from perron.chassis.server import Application
from perron.quotas.app import build
from perron.quotas.settings import Settings


def identifier(prefix: str, number: int) -> str:
    return from_bytes(prefix, UUID(int=number).bytes)


@dataclass(frozen=True)
class Person:
    """A member with a key in a workspace; the numbers make the ids."""

    organization: int = 1
    workspace: int = 1
    key: int = 1
    tier: str = "free"
    organization_role: str = "ADMIN"
    workspace_role: str = "ADMIN"

    @property
    def organization_id(self) -> str:
        return identifier("org", self.organization)

    @property
    def workspace_id(self) -> str:
        return identifier("ws", self.workspace)

    @property
    def key_id(self) -> str:
        return identifier("key", self.key)

    @property
    def passport(self) -> str:
        return json.dumps(asdict(self))


@functools.lru_cache(maxsize=2000)  # as the real reader: a passport is read once
def read_passport(token: str) -> Passport:
    person = Person(**json.loads(token))
    return Passport(
        organization_id=person.organization_id,
        workspace_id=person.workspace_id,
        member_id=identifier("mem", person.key),
        key_id=person.key_id,
        organization_role=person.organization_role,
        workspace_role=person.workspace_role,
        scopes=frozenset(),
        plan=person.tier,
        terms_class="FREE",
        tier=person.tier,
        entitlements={},
        subscription_id="",
        documents={},
        allowed_models=(),
        as_of_us=0,
    )


def secret(name: str) -> str:
    return credentials.with_checksum("test", name.ljust(43, "0"))


def bearer(name: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {secret(name)}"),)


SERVICES = {"admission", "gateway"}


class Keys:
    """Knows the services by name, the operator, and the customers it was told of."""

    def __init__(self) -> None:
        self.people: dict[str, Person] = {}

    async def verify(self, credential: str, *, peer_network: str, want_passport: bool) -> Verified:
        for name in SERVICES:
            if credential == secret(name):
                return Verified("VALID", Caller(CallerKind.SERVICE, key_id=identifier("key", 99), name=name))
        if credential == secret("operator"):
            roles = frozenset({"BILLING"})
            return Verified("VALID", Caller(CallerKind.OPERATOR, key_id="op", operator_roles=roles))
        for name, person in self.people.items():
            if credential == secret(name):
                return Verified("VALID", _caller(person), person.passport if want_passport else "")
        return Verified("UNKNOWN")


class Passports:
    """Reads what `Person.passport` wrote."""

    async def read(self, token: str) -> Passport:
        try:
            return read_passport(token)
        except ValueError:
            raise Unauthenticated("PASSPORT_INVALID", "not a passport") from None


class Workspaces:
    """Knows that workspaces 1 to 9 are of organization 1, and no others."""

    async def organization_of(self, workspace_id: str) -> str:
        known = {identifier("ws", number): identifier("org", 1) for number in range(1, 10)}
        return known.get(workspace_id, "")


class Running:
    """The service, a channel to it, and its stubs."""

    def __init__(self, application: Application, keys: Keys, channel: grpc.aio.Channel) -> None:
        self.application = application
        self.keys = keys
        self.quotas: Any = quota_service_pb2_grpc.QuotaServiceStub(channel)
        self.limits: Any = limit_service_pb2_grpc.LimitServiceStub(channel)
        self.usage: Any = usage_service_pb2_grpc.UsageServiceStub(channel)
        self.audit: Any = audit_service_pb2_grpc.AuditServiceStub(channel)

    def person(self, name: str, **fields: Any) -> Person:
        self.keys.people[name] = replace(Person(), **fields)
        return self.keys.people[name]


def application(
    url: str, folder: Path, tiers: str, *, clock: Clock | None, keys: Keys, port: int = 0
) -> Application:
    (folder / "key").write_text(secret("quotas"))
    (folder / "tiers.yaml").write_text(tiers)
    settings = Settings.read(
        {
            "PERRON_QUOTAS_DATABASE_URL": url,
            "PERRON_QUOTAS_KEY_FILE": str(folder / "key"),
            "PERRON_QUOTAS_TIERS_FILE": str(folder / "tiers.yaml"),
            "PERRON_QUOTAS_IDENTITY_TARGET": "127.0.0.1:1",
            "PERRON_QUOTAS_LISTEN_ADDRESS": f"127.0.0.1:{port}",
        }
    )
    return build(settings, clock=clock, verifier=keys, passports=Passports(), workspaces=Workspaces())


@asynccontextmanager
async def serving(url: str, folder: Path, tiers: str, clock: Clock | None) -> AsyncIterator[Running]:
    keys = Keys()
    app = application(url, folder, tiers, clock=clock, keys=keys)
    await app.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{app.port}") as channel:
            yield Running(app, keys, channel)
    finally:
        await app.stop(grace_seconds=0.1)


def _caller(person: Person) -> Caller:
    return Caller(
        CallerKind.CUSTOMER,
        key_id=person.key_id,
        organization_id=person.organization_id,
        workspace_id=person.workspace_id,
        member_id=identifier("mem", person.key),
        organization_role=person.organization_role,
        workspace_role=person.workspace_role,
        scopes=frozenset({"LIMITS_READ", "LIMITS_WRITE", "DATA_READ"}),
    )
