"""The base models of the operator's list that this machine has, and what must hold of each.

    models:
      - name: tiny
        trainable: true
        folder: tiny                 # from the models folder, or absolute
      - name: small-1
        trainable: true
        hub:                         # by a commit, not by a name that can move
          repository: example/small-1
          revision: 0123456789abcdef0123456789abcdef01234567

It is the file that finetuning reads too, prices and all; a worker needs no more of it than this.
Weights are safetensors and nothing else, and a base that brings code of its own is refused: loading either
would run what a stranger wrote.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from perron.chassis import telemetry
from perron.chassis.errors import SetupError

_FILES: Final = ("*.safetensors", "*.json", "*.jinja")
_COMMIT: Final = re.compile(r"[0-9a-f]{40}")

Fetch = Callable[[str, str], Path]
"""Brings a repository at a commit to this machine and returns its folder."""


@dataclass(frozen=True, slots=True)
class Base:
    """One base model: its name in the list, its folder here, and the commit it is of, where it has one."""

    name: str
    folder: Path
    revision: str = ""


class UnfitBaseError(Exception):
    """A base model that cannot be trained here; the text says why."""


def load(models_file: str, models_folder: Path, fetch: Fetch | None = None) -> dict[str, Base]:
    """Reads the list and looks at each trainable base; one that is unfit is left out, with a line in the log.

    Raises SetupError for a file of another form, and where nothing is left to train.
    """
    path = Path(models_file)
    try:
        entries = [
            entry for entry in yaml.safe_load(path.read_text("utf-8"))["models"] if entry.get("trainable")
        ]
        bases = {}
        for entry in entries:
            try:
                bases[entry["name"]] = _base(entry, models_folder, fetch or _from_hub)
            except UnfitBaseError as unfit:
                telemetry.logger("bases").warning("base model left out", base=entry["name"], why=str(unfit))
    except OSError as error:
        raise SetupError(f"PERRON_TRAINER_MODELS_FILE: {path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError, AttributeError):
        raise SetupError(
            f"PERRON_TRAINER_MODELS_FILE: {path} must hold a list `models` with a `name` each"
        ) from None
    if not bases:
        raise SetupError(f"PERRON_TRAINER_MODELS_FILE: {path} has no trainable base model that is fit")
    return bases


def examine(folder: Path) -> None:
    """Raises UnfitBaseError for a folder that is no base model of safetensors without code."""
    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
    except (OSError, ValueError):
        raise UnfitBaseError(f"{folder} holds no config.json that can be read") from None
    if not any(folder.glob("*.safetensors")):
        raise UnfitBaseError(f"{folder} holds no safetensors")
    if not isinstance(config, dict) or "auto_map" in config:
        raise UnfitBaseError(f"{folder} brings code of its own")


def _base(entry: dict[str, Any], models_folder: Path, fetch: Fetch) -> Base:
    hub = entry.get("hub") or {}
    revision = str(hub.get("revision", ""))
    if "folder" in entry:
        folder = (models_folder / entry["folder"]).resolve()
    elif _COMMIT.fullmatch(revision):
        folder = fetch(hub["repository"], revision)
    else:
        raise UnfitBaseError("it names neither a folder nor a hub's repository with a commit of 40 digits")
    examine(folder)
    return Base(entry["name"], folder, revision)


def _from_hub(repository: str, revision: str) -> Path:
    try:
        from huggingface_hub import snapshot_download

        return Path(snapshot_download(repository, revision=revision, allow_patterns=list(_FILES)))
    except Exception as error:  # noqa: BLE001 (the hub's library raises what its transport raises)
        raise UnfitBaseError(f"the hub does not give {repository} ({type(error).__name__})") from None
