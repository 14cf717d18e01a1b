"""The child process of one job, seen from the worker: begun early, told once, listened to, killed surely."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from typing import TYPE_CHECKING, Any, Final

import msgspec

from perron.trainer import confinement
from perron.trainer.model import Event, Failed, Finished, Reason, Task

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

_EVENT: Final[msgspec.json.Decoder[Any]] = msgspec.json.Decoder(Event)


class Child:
    """One child process; it loads its libraries while the worker still fetches the inputs."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(cls, scratch: Path) -> Child:
        """Starts a process with nothing of ours but its folder."""
        return cls(
            await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",  # the scratch folder is no place to import from
                "-m",
                "perron.trainer.child",
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,  # what libraries print may quote what they read
                env=confinement.environment(os.environ, scratch),
                cwd=scratch,
                start_new_session=True,
            )
        )

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    def begin(self, task: Task) -> None:
        """Tells the child what to train."""
        assert self._process.stdin is not None
        self._process.stdin.write(msgspec.json.encode(task) + b"\n")

    async def events(self) -> AsyncIterator[Event]:
        """Yields what the child says; the last is always Finished or Failed, also of one that was killed."""
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            event: Event = _EVENT.decode(line)
            yield event
            if isinstance(event, Finished | Failed):
                return
        status = await self._process.wait()
        yield Failed(Reason.TRAINER_DIED, f"the training process ended with status {status}")

    async def kill(self) -> None:
        """Ends the child and whatever it started, and returns when it is gone."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        await self._process.wait()
