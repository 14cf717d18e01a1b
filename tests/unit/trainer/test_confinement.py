"""A child process has neither the worker's environment nor a network, and its folder goes with it."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from perron.chassis.errors import SetupError
from perron.trainer import confinement
from perron.trainer.scratch import Scratch

CONNECT = """
import socket, sys
from perron.trainer import confinement
held = {leave}
try:
    socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=5).close()
    print("connected")
except OSError as error:
    print(held, type(error).__name__)
"""
# The second line of defence, for systems without namespaces, is put to the test without the first.
NO_NAMESPACE = "(setattr(confinement, '_NEW_NETWORK', 1), confinement.leave_network())[1]"
NO_HOOK = "(setattr(confinement.sys, 'addaudithook', print), confinement.leave_network())[1]"


@pytest.fixture
def port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def said(leave: str, port: int) -> str:
    ran = subprocess.run(
        [sys.executable, "-c", CONNECT.format(leave=leave), str(port)],
        capture_output=True,
        text=True,
        check=True,
    )
    return ran.stdout.splitlines()[-1]


def test_a_confined_process_reaches_nothing_not_even_this_machine(port: int) -> None:
    assert said("None", port) == "connected"
    assert said("confinement.leave_network()", port).endswith(" PermissionError")


def test_where_no_namespace_is_permitted_sockets_are_refused(port: int) -> None:
    assert said(NO_NAMESPACE, port) == "refused PermissionError"


@pytest.mark.skipif(sys.platform != "linux", reason="namespaces are Linux's")
def test_the_namespace_alone_is_enough(port: int) -> None:
    """As code in other languages meets it, which an audit hook does not see."""
    words = said(NO_HOOK, port)
    if words == "connected":
        pytest.skip("this system permits no network namespace")

    assert words.startswith("namespace ")


def test_the_environment_holds_nothing_that_was_not_named(tmp_path: Path) -> None:
    inherited = {
        "PATH": "/bin",
        "PERRON_TRAINER_KEY_FILE": "/run/secrets/key",
        "PERRON_API_KEY": "prn_secret",
        "HTTPS_PROXY": "http://proxy",
        "AWS_SECRET_ACCESS_KEY": "x",
        "PYTHONPATH": "/elsewhere",
    }

    made = confinement.environment(inherited, tmp_path)

    assert made["PATH"] == "/bin"
    assert set(inherited) & set(made) == {"PATH"}
    assert made["HOME"] == made["TMPDIR"] == str(tmp_path)


def test_what_a_dead_worker_left_is_wiped_at_the_next_start(tmp_path: Path) -> None:
    first = Scratch(tmp_path / "scratch")
    (first.take() / "inputs" / "0.jsonl").write_text("content", encoding="utf-8")
    first.close()  # as a SIGKILL would, which wipes nothing

    second = Scratch(tmp_path / "scratch")

    assert not second.job.exists()
    second.close()


def test_a_scratch_folder_is_one_workers_at_a_time(tmp_path: Path) -> None:
    first = Scratch(tmp_path / "scratch")
    folder = first.take()

    with pytest.raises(SetupError, match="another worker"):
        Scratch(tmp_path / "scratch")

    assert folder.exists()
    assert folder.stat().st_mode & 0o077 == 0
    first.wipe()
    assert not folder.exists()
    first.close()
