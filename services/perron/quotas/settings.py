"""What the environment says about quotas."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from perron.chassis.settings import ServiceSettings
from perron.quotas.limits import DEFAULT_FILE


class Settings(ServiceSettings):
    """The settings of quotas, each `PERRON_QUOTAS_<NAME>` in the environment."""

    model_config = SettingsConfigDict(env_prefix="PERRON_QUOTAS_")

    tiers_file: Path = Field(
        DEFAULT_FILE, description="What each tier admits. Default: the tiers that come with Perron."
    )
