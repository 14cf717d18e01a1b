"""The trainer that runs beside the services of one machine, and the tiny base model that it can train."""

import os
import subprocess
import sys
import tempfile
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

from perron.chassis.errors import SetupError

TRAINER = "trainer"
"""The process, the service key that it presents, and the prefix of its settings."""


def wanted() -> bool:
    """Whether models can be trained here: the extra `trainer` is installed, and TRAINER=0 is not set."""
    return os.environ.get("TRAINER") != "0" and installed()


def installed() -> bool:
    """Whether the extra `trainer` is installed. It is looked for, not loaded, which takes seconds."""
    return find_spec("torch") is not None


def need() -> None:
    """Raises SetupError where the extra `trainer` is not installed."""
    if not installed():
        raise SetupError("this needs the extra `trainer`: make trainer, or pip install 'perron[trainer]'")


def tiny_base(data: Path) -> Path:
    """Where the tiny base model lies in a folder of data."""
    return data / "models" / "tiny"


class TinyBase:
    """The making of a tiny base model, in a process of its own, while other things go on."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._aside = tempfile.TemporaryDirectory(prefix="perron-tiny-")  # torch leaves a cache behind there
        self._process = subprocess.Popen(
            [sys.executable, "-m", "perron.trainer.tiny", str(folder)],
            env=os.environ | {"TMPDIR": self._aside.name},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def made(self) -> int:
        """Waits for it and returns how many parameters it has; SetupError says why it could not be made."""
        answer, said = self._process.communicate()
        self._aside.cleanup()
        if self._process.returncode:
            why = (said.strip().splitlines() or ["it could not be made"])[-1]
            raise SetupError(f"{self._folder}: {why}")
        return int(answer)


def settings(data: Path, models_file: str) -> dict[str, str]:
    """The settings of a trainer whose data lies in the folder of the suite that it belongs to.

    `models_file` is that of finetuning, where it was given one: the two read the same.
    """
    return {
        "MODELS_FILE": models_file or str(files("perron.finetuning") / "models.yaml"),
        "MODELS_FOLDER": str(data / "models"),
        "SCRATCH_FOLDER": str(data / "scratch"),
    }
