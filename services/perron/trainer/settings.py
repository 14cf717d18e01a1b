"""What the environment says about a trainer."""

import hashlib
import re
import socket
from pathlib import Path
from typing import Final

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from perron.chassis.settings import ProcessSettings

_DIGITS: Final = 8
_MACHINE_MAX: Final = 64 - 1 - _DIGITS


class Settings(ProcessSettings):
    """The settings of one worker."""

    model_config = SettingsConfigDict(env_prefix="PERRON_TRAINER_")

    finetuning_target: str = Field(
        "127.0.0.1:7405", description="Where finetuning listens, as host:port or a gRPC target."
    )
    name: str = Field(
        "",
        pattern=r"^[A-Za-z0-9._-]{0,64}$",
        description="Name of the worker, the same after a restart and unlike any other's. "
        "Default: made of the machine's name and the scratch folder.",
    )
    models_file: str = Field(
        "models.yaml",
        description="The operator's base models, YAML: those that are trainable name a folder, or a "
        "repository of the hub with a revision.",
    )
    models_folder: Path = Field(
        Path("var/models"),
        description="Where the base models lie that the models file names by a relative folder.",
    )
    scratch_folder: str = Field(
        "var/scratch",
        description="Folder for inputs and weights of the job at hand, this worker's alone. "
        "Everything in it is removed, at the start and after each job.",
    )
    poll_seconds: float = Field(
        1.0, gt=0, le=3600, description="Pause before finetuning is asked again where it had no job."
    )
    idle_seconds: float = Field(
        0.0, ge=0, description="Ends by itself after so long without a job, from 0 (never) on."
    )
    device: str = Field(
        "auto",
        pattern="^(auto|cpu|cuda)$",
        description="Where it computes: cpu, cuda, or auto for a GPU where there is one.",
    )
    threads: int = Field(
        0,
        ge=0,
        le=1024,
        description="Processor threads of a training; another number gives weights that differ in the last "
        "bits. Default: all processors; one for a tiny base, which more would only slow down.",
    )

    def worker_name(self) -> str:
        """Returns the name that finetuning knows the worker by; no two workers share a scratch folder."""
        machine = re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname())
        folder = hashlib.sha256(str(self.scratch()).encode()).hexdigest()[:_DIGITS]
        return self.name or f"{machine[:_MACHINE_MAX]}-{folder}"

    def scratch(self) -> Path:
        """Returns the scratch folder as an absolute path."""
        return Path(self.scratch_folder).resolve()
