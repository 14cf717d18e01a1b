"""Finetuning as a process of its own, to be killed, starved of disk and weighed."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc

from perron.chassis.channels import CHANNEL_OPTIONS
from perron.chassis.clock import SystemClock
from tests.contract.finetuning.world import World, beside, settings

_FROM_THE_PARENT = ("PATH", "HOME", "LANG", "PYTHONPATH", "TMPDIR", "COVERAGE_PROCESS_START")

_SERVE = """
import resource, runpy, sys
if limit := int(sys.argv[1]):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
runpy.run_module("perron.finetuning", run_name="__main__")
"""


class Process:
    """One serving process; `start` begins another over the same store, storage and vault."""

    def __init__(self, world: World, port: int) -> None:
        self.world = world
        self.port = port
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self, *, file_bytes_max: int = 0) -> None:
        given: dict[str, Any] = settings(self.world, listen_address=f"127.0.0.1:{self.port}")
        named = {f"PERRON_FINETUNING_{name.upper()}": str(value) for name, value in given.items()}
        kept = {name: os.environ[name] for name in _FROM_THE_PARENT if name in os.environ}

        with (self.world.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _SERVE, str(file_bytes_max)], env=kept | named, stderr=log
            )

    def kill(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()

    def resident_mb(self, field: str = "VmRSS") -> float:
        """Resident memory in MiB; of VmHWM, the most there ever was."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:")) / 1024

    async def ready(self) -> None:
        """Waits until it listens."""
        async with asyncio.timeout(60), grpc.aio.insecure_channel(self.target, CHANNEL_OPTIONS) as channel:
            await channel.channel_ready()
            await self.world.channel.channel_ready()  # it may still wait before it connects again


@asynccontextmanager
async def served(folder: Path) -> AsyncIterator[tuple[World, Process]]:
    """Yields a world whose finetuning is a process that has not started yet."""
    async with beside(folder, SystemClock()) as world:
        process = Process(world, _free_port())
        async with (
            grpc.aio.insecure_channel(process.target, CHANNEL_OPTIONS) as channel,
            grpc.aio.insecure_channel(world.governance_target) as decisions,
        ):
            world.connect(channel, decisions)
            try:
                yield world, process
            finally:
                process.kill()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
