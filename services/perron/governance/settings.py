"""What the environment says about governance."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from perron.chassis.settings import ServiceSettings
from perron.governance.rule_files import PACKAGED


class Settings(ServiceSettings):
    """The settings of governance, each `PERRON_GOVERNANCE_<NAME>` in the environment."""

    model_config = SettingsConfigDict(env_prefix="PERRON_GOVERNANCE_")

    rules_file: Path = Field(
        PACKAGED,
        description="The terms as rules: one file, or a folder with one for each version. "
        "Default: the terms that come with Perron.",
    )
    root_key_file: str = Field(
        "", description="File that holds the root key of the vault: 32 bytes, or their 64 hexadecimal digits."
    )
    vault_folder: Path = Field(
        Path("var/vault"),
        description="Folder of the vault. Never put it into the same backup as the database.",
    )
    free_inference_days: int | None = Field(
        None,
        ge=1,
        description="Days that exchanges on free plans are kept. Default: the terms' 365, never more.",
    )
    abuse_monitoring_days: int | None = Field(
        None,
        ge=1,
        description="Days that exchanges are kept to monitor abuse. Default: the terms' 30, never more.",
    )
    paid_inference_days: int | None = Field(
        None,
        ge=1,
        description="Days that exchanges on paid plans are kept. Default: the terms' 30, never more.",
    )
    train_on_fine_tuning_data: bool = Field(
        True,
        description="Whether training files on free plans may improve the services, as the terms permit.",
    )

    @property
    def lengths(self) -> dict[str, int]:
        """The lengths that the operator shortened, by their names in the rules."""
        given = {
            "free_inference_days": self.free_inference_days,
            "abuse_monitoring_days": self.abuse_monitoring_days,
            "paid_inference_days": self.paid_inference_days,
        }
        return {name: days for name, days in given.items() if days is not None}
