"""Runs `perron` as a person would: its own process, its own environment, its two streams apart."""

import io
import json
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from perron.cli import app

ROOT = Path(__file__).resolve().parent.parent.parent


@dataclass(frozen=True)
class Ran:
    status: int
    answer: str
    notes: str

    @property
    def parsed(self) -> Any:
        return json.loads(self.answer)


def environment(**added: str) -> dict[str, str]:
    """This process's environment without anything of Perron's, and with the programs beside its Python."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PERRON_", "OTEL_"))}
    programs = f"{Path(sys.executable).parent}{os.pathsep}{kept.get('PATH', '')}"
    return kept | {"PATH": programs} | added


def perron(*arguments: str, cwd: Path = ROOT, timeout: float = 60, **added: str) -> Ran:
    """Runs one command and waits for it."""
    done = subprocess.run(
        [sys.executable, "-m", "perron.cli", *arguments],
        cwd=cwd,
        env=environment(**added),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    return Ran(done.returncode, done.stdout, done.stderr)


def perron_here(*arguments: str, **added: str) -> Ran:
    """Runs one command within this process, for tests that run many: a process takes longer than its call."""
    answer, notes = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))
    with (
        mock.patch.dict(os.environ, environment(**added), clear=True),
        redirect_stdout(answer),
        redirect_stderr(notes),
    ):
        status = app.run(arguments)
    texts = [stream.buffer.getvalue().decode() for stream in (answer, notes)]  # type: ignore[attr-defined]
    return Ran(status, *texts)
