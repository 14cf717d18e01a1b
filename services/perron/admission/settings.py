"""The settings of admission, and the two files they name."""

import os
from importlib import resources
from pathlib import Path
from typing import Final

import yaml
from pydantic import Field
from pydantic_settings import SettingsConfigDict

from perron.chassis import sealing
from perron.chassis.errors import SetupError
from perron.chassis.settings import ServiceSettings

_NAME_MAX: Final = 128


class Settings(ServiceSettings):
    """What the environment says about admission."""

    model_config = SettingsConfigDict(env_prefix="PERRON_ADMISSION_")

    quotas_target: str = Field(
        "127.0.0.1:7402", description="Where quotas listens, as host:port or a gRPC target."
    )
    governance_target: str = Field(
        "127.0.0.1:7403", description="Where governance listens, as host:port or a gRPC target."
    )
    agents_target: str = Field(
        "127.0.0.1:7404",
        description="Where agents listens, as host:port or a gRPC target; asked for exchanges that name one.",
    )
    finetuning_target: str = Field(
        "127.0.0.1:7405",
        description="Where finetuning listens, as host:port or a gRPC target; asked for exchanges that name "
        "a fine-tuned model.",
    )
    sealing_key_file: str = Field(
        "",
        description="File of the keys that seal admission ids, 64 hex digits a line: the first seals, "
        "all open. Every replica has the same ones. Made where it is missing.",
    )
    models_file: str = Field(
        "",
        description="The operator's base models, YAML. Default: the file shipped, which accepts any name.",
    )

    def sealing_keys(self) -> list[bytes]:
        """Reads the keys, or draws one at a first start; raises SetupError for a file of another form."""
        if self.sealing_key_file:
            _draw_key(Path(self.sealing_key_file))
        lines = self.read_secret("sealing_key_file").split()
        try:
            keys = [bytes.fromhex(line.decode("ascii")) for line in lines]
        except ValueError:
            keys = []
        if not keys or any(len(key) != sealing.KEY_BYTES for key in keys):
            raise SetupError(
                f"PERRON_ADMISSION_SEALING_KEY_FILE: {self.sealing_key_file} must hold 64 hex digits a line"
            )
        return keys

    def base_models(self) -> list[str]:
        """Reads the names of the models that may be called; raises SetupError for a file of another form."""
        path = self.models_file or "models.yaml"
        try:
            text = (
                Path(self.models_file).read_text("utf-8")
                if self.models_file
                else resources.files("perron.admission").joinpath("models.yaml").read_text("utf-8")
            )
            names = [entry["name"] for entry in yaml.safe_load(text)["models"]]
        except OSError as error:
            raise SetupError(f"PERRON_ADMISSION_MODELS_FILE: {path}: {error.strerror}") from None
        except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError):
            raise SetupError(
                f"PERRON_ADMISSION_MODELS_FILE: {path} must hold a list `models` with a `name` each"
            ) from None
        if not names or not all(isinstance(name, str) and 0 < len(name) <= _NAME_MAX for name in names):
            raise SetupError(
                f"PERRON_ADMISSION_MODELS_FILE: {path}: each name is 1 to {_NAME_MAX} characters of text"
            )
        return names


def _draw_key(path: Path) -> None:
    """Makes the file with one key in it, for its owner only, unless it is there."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return
    except OSError as error:
        raise SetupError(f"PERRON_ADMISSION_SEALING_KEY_FILE: {path}: {error.strerror}") from None
    with os.fdopen(descriptor, "w") as file:
        file.write(sealing.new_key().hex() + "\n")
