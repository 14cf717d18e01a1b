"""Finetuning and agents, real servers and each other's peers; identity says what a test makes true."""

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import grpc

from perron.agents import app as agents_app
from perron.agents.settings import Settings as AgentsSettings
from perron.api.agents.v1 import agent_service_pb2
from perron.api.common.v1 import event_service_pb2_grpc
from perron.api.governance.v1 import decision_service_pb2_grpc, directive_service_pb2_grpc
from perron.api.identity.v1 import (
    api_key_pb2_grpc,
    organization_pb2_grpc,
    workspace_pb2_grpc,
)
from perron.chassis.channels import CHANNEL_OPTIONS, Peer
from perron.chassis.clock import Clock
from perron.chassis.database import Database
from perron.chassis.ids import new_id
from perron.chassis.leases import Leases
from perron.chassis.migrations.runner import migrate
from perron.chassis.server import Application
from perron.chassis.vault import Vault
from perron.finetuning import app
from perron.finetuning.agent_making import AgentMaking
from perron.finetuning.blobs import Blobs
from perron.finetuning.job_agents import JobAgents
from perron.finetuning.peers import Agents
from perron.finetuning.settings import Settings
from tests.contract.agents import peers
from tests.contract.agents.world import SCOPES, Member
from tests.contract.agents.world import World as AgentsWorld
from tests.contract.finetuning.stand_in import DISTRIBUTORS, MODELS, Keys, Rules, Running, bearer, secret

ENTITLEMENTS: Final = {
    "fine_tuning": "yes",
    "fine_tuning_jobs": "3",
    "fine_tuning_bytes": "100000000",
    "agent_sharing": "workspace",
    "agent_channels": "api,chat",
}
AUTHOR: Final = (*SCOPES, "FINE_TUNING_READ", "FINE_TUNING_WRITE")


_FROM_THE_PARENT: Final = ("PATH", "HOME", "LANG", "PYTHONPATH", "TMPDIR", "COVERAGE_PROCESS_START")


class Both:
    """The two services, the people of one workspace, and the test's own hand on what makes agents."""

    def __init__(self, folder: Path, clock: Clock, target: str, identity: peers.Identity) -> None:
        self.folder = folder
        self.clock = clock
        self.identity = identity
        self.agents_target, self.finetuning_target = (f"127.0.0.1:{_free_port()}" for _ in range(2))
        self._target = target
        self.governance = peers.Governance()
        self.tenant = peers.Tenant(entitlements=dict(ENTITLEMENTS))
        self.finetuning: Running
        self.channel: grpc.aio.Channel
        self.world: AgentsWorld
        self._agents: Application
        self._process: subprocess.Popen[bytes] | None = None

    def join(self, name: str, **fields: Any) -> Member:
        """Adds a member, whose key `bearer(name)` is."""
        member = self.world.member(self.tenant, **{"scopes": AUTHOR} | fields)
        self.identity.keys[secret(name)] = self.identity.keys[_credential(member.key)]
        return replace(member, key=bearer(name))

    def know(self, name: str) -> None:
        """Makes the service of that name known to identity."""
        self.identity.keys[secret(name)] = self.identity.keys[_credential(self.world.service(name))]

    def settings(self, service: str, listen_address: str) -> dict[str, Any]:
        """What both services are told."""
        return {
            "listen_address": listen_address,
            "database_url": f"sqlite:///{self.folder / service}.db",
            "identity_target": self._target,
            "governance_target": self._target,
            "key_file": str(self.folder / f"{service}-key"),
            "root_key_file": str(self.folder / "root"),
        }

    def of_finetuning(self) -> dict[str, Any]:
        """What finetuning is told."""
        return self.settings("finetuning", self.finetuning_target) | {
            "agents_target": self.agents_target,
            "vault_folder": self.folder / "vault",
            "storage_url": str(self.folder / "storage"),
            "models_file": self.folder / "models.yaml",
            "distributors_file": self.folder / "distributors.yaml",
        }

    async def start_process(self) -> None:
        """Starts finetuning as a process of its own, the first time or again, and waits until it listens."""
        self._process = self._spawn()
        async with (
            asyncio.timeout(60),
            grpc.aio.insecure_channel(self.finetuning_target, CHANNEL_OPTIONS) as new,
        ):
            await new.channel_ready()
            await self.channel.channel_ready()  # it may still wait before it connects again

    def _spawn(self) -> "subprocess.Popen[bytes]":
        named = {f"PERRON_FINETUNING_{name.upper()}": str(v) for name, v in self.of_finetuning().items()}
        kept = {name: os.environ[name] for name in _FROM_THE_PARENT if name in os.environ}
        with (self.folder / "log").open("ab") as log:
            command = [sys.executable, "-m", "perron.finetuning"]
            return subprocess.Popen(command, env=kept | named, stderr=log)

    def kill(self) -> None:
        """Kills that process with SIGKILL."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    async def start_agents(self) -> None:
        """Starts agents, the first time or again."""
        self._agents = agents_app.build(
            AgentsSettings(
                finetuning_target=self.finetuning_target,
                vault_folder=self.folder / "agents-vault",
                **self.settings("agents", self.agents_target),
            ),
            clock=self.clock,
        )
        await self._agents.start()

    async def stop_agents(self) -> None:
        await self._agents.stop(grace_seconds=0.1)

    async def succeed(self, job_id: str) -> str:
        """Has the job trained; returns its model."""
        worker = await self.finetuning.lease()
        assert worker is not None
        assert worker.lease.job.job_id == job_id
        return await worker.complete(await worker.write_model())

    async def agents_of(self, member: Member) -> list[Any]:
        """Every agent that a member sees."""
        request = agent_service_pb2.ListAgentsRequest()
        return list((await self.world.agents.ListAgents(request, metadata=member.key)).agents)

    def job_agents(self) -> JobAgents:
        return JobAgents(Blobs(Vault(self.folder / "vault", b"r" * 32), new_id))

    async def make_due(self, job_agents: JobAgents | None = None) -> None:
        """Does one round of what makes agents, as another replica would."""
        database = Database(f"sqlite:///{self.folder / 'finetuning.db'}", clock=self.clock)
        peer = Peer("agents", self.agents_target, secret("finetuning"))
        try:
            lease = await Leases(database).acquire(new_id("round"))
            assert lease is not None
            await AgentMaking(database, job_agents or self.job_agents(), Agents(peer)).make_due(lease)
        finally:
            await peer.aclose()
            await database.aclose()


@asynccontextmanager
async def running(folder: Path, clock: Clock, *, as_process: bool = False) -> AsyncIterator[Both]:
    """Starts all, and stops all; finetuning as a process where it is to be killed."""
    identity = peers.Identity(clock)
    server = grpc.aio.server()
    target = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    both = Both(folder, clock, target, identity)
    for service, servicer in (
        (api_key_pb2_grpc.add_ApiKeyServiceServicer_to_server, identity),
        (organization_pb2_grpc.add_OrganizationServiceServicer_to_server, identity),
        (workspace_pb2_grpc.add_WorkspaceServiceServicer_to_server, identity),
        (event_service_pb2_grpc.add_EventServiceServicer_to_server, identity),
        (decision_service_pb2_grpc.add_DecisionServiceServicer_to_server, both.governance),
        (directive_service_pb2_grpc.add_DirectiveServiceServicer_to_server, both.governance),
    ):
        service(servicer, server)
    for name, content in (
        ("root", "72" * 32),
        ("finetuning-key", secret("finetuning")),
        ("agents-key", secret("agents")),
        ("models.yaml", MODELS),
        ("distributors.yaml", DISTRIBUTORS),
    ):
        (folder / name).write_text(content)
    for name in ("agents", "finetuning"):
        migrate(name, f"sqlite:///{folder / name}.db")
    async with AsyncExitStack() as stack:
        await server.start()
        stack.push_async_callback(server.stop, 0)
        channels = [
            await stack.enter_async_context(grpc.aio.insecure_channel(to, CHANNEL_OPTIONS))
            for to in (both.finetuning_target, both.agents_target)
        ]
        application = app.build(Settings(**both.of_finetuning()), clock=clock)
        both.channel = channels[0]
        both.finetuning = Running(application, Keys(), Rules(), channels[0])
        both.world = AgentsWorld(clock, identity, both.governance, None, channels[1], folder)  # type: ignore[arg-type]
        both.world.tenant(both.tenant)
        for name in ("finetuning", "agents", "trainer"):
            both.know(name)
        if as_process:
            stack.callback(both.kill)
            await both.start_process()
        else:
            stack.push_async_callback(application.stop, grace_seconds=0.1)
            await application.start()
        stack.push_async_callback(both.stop_agents)
        await both.start_agents()
        yield both


def _credential(metadata: Any) -> str:
    return str(metadata[0][1]).removeprefix("Bearer ")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
