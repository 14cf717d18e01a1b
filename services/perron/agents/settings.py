"""What the environment says about agents."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from perron.chassis.settings import ServiceSettings


class Settings(ServiceSettings):
    """The settings of agents, each `PERRON_AGENTS_<NAME>` in the environment."""

    model_config = SettingsConfigDict(env_prefix="PERRON_AGENTS_")

    root_key_file: str = Field(
        "", description="File that holds the root key of the vault: 32 bytes, or their 64 hexadecimal digits."
    )
    vault_folder: Path = Field(
        Path("var/agents-vault"),
        description="Folder of the vault. Never put it into the same backup as the database.",
    )
    governance_target: str = Field(
        "127.0.0.1:7403", description="Where governance listens, as host:port or a gRPC target."
    )
    finetuning_target: str = Field(
        "",
        description="Where finetuning listens, as host:port or a gRPC target. "
        "Default: it does not run, and agents over fine-tuned models are refused as unavailable.",
    )
