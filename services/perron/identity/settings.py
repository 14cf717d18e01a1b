"""The settings of identity."""

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from perron.chassis.settings import ServiceSettings


class Settings(ServiceSettings):
    """What the environment says about identity."""

    model_config = SettingsConfigDict(env_prefix="PERRON_IDENTITY_")

    environment: str = Field(
        "live",
        pattern="^[a-z0-9]{1,16}$",
        description="Stands in every key, prn_<environment>_…, so that keys of test and live differ.",
    )
    open_signup: bool = Field(False, description="Whether anybody may create an organization.")
    pepper_file: str = Field(
        "",
        description="File of the secrets under which keys are digested, `<id> <64 hex digits>` a line: the "
        "first digests new keys, a second still finds old ones. Made for an empty store where it is missing.",
    )
    signing_keys_file: str = Field(
        "",
        description="File of the keys that sign passports, `<kid> <64 hex digits> <RFC 3339 time from which "
        "it signs>` a line, the eldest first. A key added at the end is published at once and signs 30 "
        "seconds later at the earliest. Made where it is missing.",
    )
    bootstrap_key_file: str = Field(
        "",
        description="File of the first operator key, read or, where it is missing, written on an empty "
        "store; not looked at afterwards.",
    )
    plans_file: str = Field(
        "", description="The operator's plans, YAML. Default: the file shipped, plans.yaml."
    )
    documents_file: str = Field(
        "", description="What organizations accept, YAML. Default: the file shipped, documents.yaml."
    )
