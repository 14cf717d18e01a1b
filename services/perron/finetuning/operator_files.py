"""The files of the operator: which base models may be trained, at what price, and who distributes models."""

import re
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Final, Literal, TypeVar

import msgspec
import yaml

from perron.chassis.errors import SetupError
from perron.finetuning.base_models import BaseModels
from perron.finetuning.model import BaseModel, Method

ANY: Final = "*"
"""In a file shared with admission: any other name may be asked for. It names nothing that can be trained."""

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/@-]{0,127}")
_TRAINABLE_NAME_MAX: Final = 48  # a part of the names of what is made from it, which are 128 at most
_REVISION: Final = re.compile(r"[0-9a-f]{40}")
_DISTRIBUTOR: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_MICROS: Final = 1_000_000
_File = TypeVar("_File")


class _Hub(msgspec.Struct, forbid_unknown_fields=True):
    repository: str
    revision: str


class _Model(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    trainable: bool = False
    folder: str = ""
    hub: _Hub | None = None
    methods: list[Literal["LORA", "FULL"]] = msgspec.field(default_factory=lambda: ["LORA"])
    sequence_tokens_max: int = 2048
    tokens_per_second: float = 0.0
    price_per_million_tokens: str = "0"


class _ModelsFile(msgspec.Struct, forbid_unknown_fields=True):
    models: list[_Model]
    currency: str = ""


class _Distributor(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    display_name: str = ""


class _DistributorsFile(msgspec.Struct, forbid_unknown_fields=True):
    distributors: list[_Distributor]


def read_base_models(path: Path) -> BaseModels:
    """Reads a models file; raises SetupError that says in one line what is wrong with it."""
    found = _read(path, "models", _ModelsFile)
    names = [entry.name for entry in found.models]
    if len(names) != len(set(names)):
        raise SetupError(f"models file {path}: a name stands there twice")
    named = (entry for entry in found.models if entry.name != ANY)
    return BaseModels(_base_model(path, entry, found.currency) for entry in named)


def read_distributors(path: Path) -> frozenset[str]:
    """Reads the names of a distributors file; raises SetupError as `read_base_models` does."""
    names = [entry.name for entry in _read(path, "distributors", _DistributorsFile).distributors]
    for name in names:
        if not _DISTRIBUTOR.fullmatch(name):
            raise SetupError(f"distributors file {path}: a name is 1 to 64 letters, digits, dots and hyphens")
    return frozenset(names)


def _base_model(path: Path, entry: _Model, currency: str) -> BaseModel:
    where = f"models file {path}: {entry.name[:64]!r}"
    if not _NAME.fullmatch(entry.name):
        raise SetupError(f"{where}: a name is 1 to 128 letters, digits, dots, slashes and hyphens")
    if entry.trainable and len(entry.name) > _TRAINABLE_NAME_MAX:
        raise SetupError(f"{where}: the name of a trainable model has at most {_TRAINABLE_NAME_MAX} letters")
    if entry.trainable and bool(entry.folder) == (entry.hub is not None):
        raise SetupError(f"{where}: a trainable model lies in a `folder` or at a `hub`, one of them")
    if entry.hub is not None and not _REVISION.fullmatch(entry.hub.revision):
        raise SetupError(f"{where}: the revision of a hub is pinned by its 40 hexadecimal digits")
    if entry.sequence_tokens_max < 16 or not 0 <= entry.tokens_per_second < 1e12:
        raise SetupError(f"{where}: a sequence has at least 16 tokens, and a rate is not negative")
    price = _price(entry.price_per_million_tokens)
    if price is None or (price and not currency):
        raise SetupError(f"{where}: a price is a decimal number that is not negative, in a `currency`")
    return BaseModel(
        name=entry.name,
        trainable=entry.trainable,
        revision=entry.hub.revision if entry.hub is not None else "",
        methods=tuple(map(Method, entry.methods)),
        sequence_tokens_max=entry.sequence_tokens_max,
        tokens_per_second=entry.tokens_per_second,
        price_micros=price,
        currency=currency if price else "",
    )


def _price(written: str) -> int | None:
    try:
        price = Decimal(written) * _MICROS
    except InvalidOperation:
        return None
    return int(price) if price.is_finite() and 0 <= price < 1e15 else None


def _read(path: Path, noun: str, form: type[_File]) -> _File:
    try:
        return msgspec.convert(yaml.safe_load(path.read_bytes()), form)
    except OSError as error:
        raise SetupError(f"{noun} file {path}: {error.strerror}") from None
    except (yaml.YAMLError, msgspec.ValidationError, UnicodeDecodeError) as error:
        raise SetupError(f"{noun} file {path}: {' '.join(str(error).split())}") from None
