"""A customer that fine-tunes from the command line, also by a way that breaks off, and a worker for it."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from perron.cli.suite import Suite
from tests.suite.command import ROOT, Ran, environment, perron, perron_here
from tests.suite.cutting import Cutting

Run = Callable[..., Ran]


@pytest.fixture(scope="module")
def key(suite: Suite) -> str:
    """The key of a new customer's admin, on a plan that has fine-tuning."""
    folder = str(suite.folder)
    arguments = ("orgs", "create", "Forge", "--email", "f@acme.example", "--accept-terms", "--json")
    made = perron(*arguments, PERRON_VAR=folder).parsed
    perron("orgs", "change-plan", made["organization"]["organization_id"], "scale-1", PERRON_VAR=folder)
    return str(made["secret"])


@pytest.fixture
def run(suite: Suite, key: str) -> Run:
    return lambda *words: perron_here(*words, PERRON_VAR=str(suite.folder), PERRON_API_KEY=key)


@pytest.fixture
def cutting(suite: Suite, key: str, tmp_path: Path) -> Iterator[Callable[..., tuple[Cutting, Run]]]:
    """Commands that reach finetuning by a way that breaks off."""
    opened: list[Cutting] = []

    def through(*, bytes_max: int, cuts: int) -> tuple[Cutting, Run]:
        way = Cutting(suite.endpoints["finetuning"], bytes_max=bytes_max, cuts=cuts)
        opened.append(way.__enter__())
        (tmp_path / "endpoints.json").write_text(json.dumps(suite.endpoints | {"finetuning": way.target}))
        return way, lambda *words: perron_here(*words, PERRON_VAR=str(tmp_path), PERRON_API_KEY=key)

    yield through
    for way in opened:
        way.__exit__()


@pytest.fixture
def worker(suite: Suite) -> Iterator[None]:
    """A worker that trains nothing, in four steps."""
    secret = (suite.folder / "keys" / "trainer.key").read_text(encoding="utf-8").strip()
    command = ("-m", "tests.contract.finetuning.fake_worker", suite.endpoints["finetuning"], secret)
    process = subprocess.Popen([sys.executable, *command], env=environment(PYTHONPATH=str(ROOT)))
    yield
    process.kill()
    process.wait()


@pytest.fixture
def file_id(run: Run, tmp_path: Path) -> str:
    return uploaded(run, tmp_path / "train.jsonl", lines(40))


def lines(count: int, size: int = 0) -> bytes:
    """Valid examples, each about `size` bytes long."""
    return b"".join(
        json.dumps(
            {
                "messages": [
                    {"role": "user", "content": f"question {number} " + "x" * max(size - 110, 0)},
                    {"role": "assistant", "content": f"answer {number}"},
                ]
            }
        ).encode()
        + b"\n"
        for number in range(count)
    )


def uploaded(run: Run, path: Path, content: bytes) -> str:
    path.write_bytes(content)
    made = run("files", "upload", str(path), "--attest", "--print-id")
    assert made.status == 0, made.notes
    return made.answer.strip()


def succeeded(run: Run, file_id: str) -> str:
    """A job that a worker has ended well."""
    job_id = run("jobs", "create", "--base", "tiny", "--training-file", file_id, "--print-id").answer.strip()
    watched = run("jobs", "watch", job_id)
    assert watched.status == 0, watched.notes
    return job_id
