"""Processes that a measurement is made of, and what they used."""

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.bench.job import Job, Outcome

_TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pids: Iterable[int]) -> float:
    """CPU that the processes have used so far, user and system, all threads."""
    ticks = 0
    for pid in pids:
        # Behind the last parenthesis, because a process may be named anything; then fields 14 and 15 of
        # proc(5).
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / _TICKS


def resident_mb(pid: int) -> float:
    """Resident memory in MiB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) / 1024


class Child:
    """A helper process that speaks in lines; the first is its greeting."""

    def __init__(self, module: str, environment: Mapping[str, str] | None = None) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **(environment or {})},
        )
        self.pid = self._process.pid
        self.greeting = self._read()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()

    def say(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def hear(self) -> str:
        return self._read()

    def _read(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._process.args!r} ended")
        return line.strip()


class LoadProcess(Child):
    """The process that makes the calls, apart from those that answer them."""

    def __init__(self) -> None:
        super().__init__("tests.bench.load")

    def begin(self, job: Job) -> None:
        """Starts a load; `end` waits for it."""
        self.say(json.dumps(asdict(job)))

    def end(self) -> Outcome:
        return Outcome(**json.loads(self.hear()))

    def run(self, job: Job) -> Outcome:
        """Runs a load to its end."""
        self.begin(job)
        return self.end()
