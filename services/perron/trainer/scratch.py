"""The folder in which one job's inputs and weights lie while it runs, and nowhere else.

It belongs to one worker at a time: a lock says so, and what a worker finds there at its start is a dead
one's, and goes. Whoever acknowledges that a folder was wiped has called `wipe` and had it return.
"""

import fcntl
import os
import shutil
from pathlib import Path

from perron.chassis.errors import SetupError


class Scratch:
    """The scratch folder of one worker."""

    def __init__(self, folder: Path) -> None:
        """Takes the folder over and empties it; raises SetupError where it is another worker's."""
        self._folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.wipe()
        except BlockingIOError:
            raise SetupError(f"PERRON_TRAINER_SCRATCH_FOLDER: {folder} is another worker's") from None
        except OSError as error:
            raise SetupError(f"PERRON_TRAINER_SCRATCH_FOLDER: {folder}: {error.strerror}") from None

    @property
    def job(self) -> Path:
        """Where the job at hand has its files."""
        return self._folder / "job"

    def take(self) -> Path:
        """Makes the folder of a job, empty, for its owner alone."""
        self.wipe()
        self.job.mkdir(mode=0o700)
        for name in ("inputs", "resume", "output"):
            (self.job / name).mkdir()
        return self.job

    def wipe(self) -> None:
        """Removes everything of the job; an OSError means that something is left."""
        if self.job.exists():
            shutil.rmtree(self.job)

    def close(self) -> None:
        """Gives the folder up."""
        os.close(self._lock)
