"""The wheel holds all that a service needs from us: code, contract and data files."""

import json
import os
import signal
import subprocess
import sys
import sysconfig
import time
import zipfile
from pathlib import Path

import pytest

from perron.cli.listening import SERVICES
from tests.rpcs import GENERATED, ROOT

START_SECONDS = 60.0


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment that has the wheel, and of everything else what this one has."""
    folder = tmp_path_factory.mktemp("installed")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    python = folder / "bin" / "python"
    query = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = Path(
        subprocess.run([python, "-c", query], check=True, capture_output=True, text=True).stdout.strip()
    )
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(packages)
    # Behind the wheel on the path, and read as a folder only: the .pth of the checkout is not followed.
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python


def test_the_wheel_holds_the_data_files_of_every_service(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        packed = set(archive.namelist())
    roots = {ROOT / "services": "perron", GENERATED: "perron"}
    wanted = {
        str(path.relative_to(root))
        for root, package in roots.items()
        for path in (root / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".pyc"
    }

    assert sorted(wanted - packed) == []
    assert "perron/__init__.py" not in packed


def test_the_services_of_the_wheel_serve(installed: Path, tmp_path: Path) -> None:
    """Every one of them, brought up by the wheel's own command in a folder that knows no checkout."""
    command = [str(installed), "-m", "perron.cli", "up", "--port-base", "0", "--var", str(tmp_path / "var")]
    environment = {"PATH": os.environ["PATH"], "COLUMNS": "200", "TRAINER": "0"}
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as up:
        whereabouts = tmp_path / "var" / "endpoints.json"
        end = time.monotonic() + START_SECONDS
        while not whereabouts.exists() and up.poll() is None and time.monotonic() < end:
            time.sleep(0.05)
        up.send_signal(signal.SIGINT)
        said, _ = up.communicate(timeout=START_SECONDS)

    assert up.returncode == 0, said.decode()
    assert set(json.loads(whereabouts.read_text("utf-8"))) == set(SERVICES)


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_of_the_wheel_starts_and_says_what_it_misses(
    installed: Path, service: str, tmp_path: Path
) -> None:
    """It cannot serve from an empty environment, and it is the installed code that says so in one line."""
    code = f"import perron.{service} as found; print(found.__file__)"
    where = subprocess.run(
        [installed, "-c", code], cwd=tmp_path, check=True, capture_output=True, text=True
    ).stdout
    environment = {
        "PATH": os.environ["PATH"],
        f"PERRON_{service.upper()}_LISTEN_ADDRESS": "127.0.0.1:nowhere",
    }
    started = subprocess.run(
        [installed, "-m", f"perron.{service}"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert str(installed.parent.parent) in where
    assert started.returncode == 2, started.stderr
    assert started.stderr.count("\n") == 1, started.stderr
    assert "LISTEN_ADDRESS" in started.stderr
