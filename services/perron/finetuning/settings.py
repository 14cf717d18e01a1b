"""What the environment says about finetuning."""

from pathlib import Path
from typing import Final

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from perron.chassis.settings import ServiceSettings

_HERE: Final = Path(__file__).parent


class Settings(ServiceSettings):
    """The settings of finetuning, each `PERRON_FINETUNING_<NAME>` in the environment."""

    model_config = SettingsConfigDict(env_prefix="PERRON_FINETUNING_")

    governance_target: str = Field(
        "127.0.0.1:7403", description="Where governance listens, as host:port or a gRPC target."
    )
    agents_target: str = Field(
        "127.0.0.1:7404",
        description="Where agents listens, as host:port or a gRPC target. "
        "Empty: it does not run, and jobs that are to make an agent are refused.",
    )
    models_file: Path = Field(
        _HERE / "models.yaml",
        description="The base models, which of them may be trained, and what that costs. "
        "Default: the file that comes with Perron.",
    )
    distributors_file: Path = Field(
        _HERE / "distributors.yaml",
        description="The distributors that a model may be transferred to without a consent of its own. "
        "Default: the file that comes with Perron, which names none.",
    )
    storage_url: str = Field(
        "var/storage",
        description="Where files and weights lie, sealed: a folder, or s3://bucket/prefix?region=…&endpoint=…"
        " with credentials in the environment by the usual names.",
    )
    root_key_file: str = Field(
        "", description="File that holds the root key of the vault: 32 bytes, or their 64 hexadecimal digits."
    )
    vault_folder: Path = Field(
        Path("var/finetuning-vault"),
        description="Folder of the vault. Never put it into the same backup as the database or the storage.",
    )
    lease_seconds: float = Field(
        30.0,
        ge=0.1,
        le=3600,
        description="How long a worker's lease lasts after each of its reports, from 0.1 to 3600 seconds.",
    )
    lease_attempts_max: int = Field(
        5, ge=1, le=100, description="To how many workers a job is given before it fails, from 1 to 100."
    )
