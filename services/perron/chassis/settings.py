"""Settings: what the environment says about one service, read once, before anything is opened.

A service's settings are a subclass of `ServiceSettings` with its prefix:

    class Settings(ServiceSettings):
        model_config = SettingsConfigDict(env_prefix="PERRON_QUOTAS_")
        sweep_seconds: float = Field(5.0, gt=0, description="How often expired reservations are tidied.")

What a newcomer gets wrong: a misspelt name is not ignored. Everything that begins with the service's prefix
must be a setting, and every fault (a wrong value, an unreadable file) is one line on standard error and
exit code 2.
"""

import ipaddress
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NoReturn, Self, get_origin

from pydantic import Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from perron.chassis.errors import SetupError

BEHIND_MESH: Final = "behind-mesh"
_FILE: Final = "_FILE"
_SECRET_BYTES_MAX: Final = 65_536


def secret_field(default: str = "", *, description: str) -> Any:
    """Declares a setting that is never printed and may also be given as `<NAME>_FILE`, the path of a file."""
    return Field(default, description=description, repr=False, json_schema_extra={"file_variant": True})


class ProcessSettings(BaseSettings):
    """The settings of any process that calls services, and how settings are read."""

    model_config = SettingsConfigDict(
        extra="forbid", frozen=True, hide_input_in_errors=True, validate_default=True, populate_by_name=True
    )

    key_file: str = Field("", description="File that holds its own key, which it presents to others.")
    peer_ca_file: str = Field(
        "", description="Authorities by which other services are verified, PEM. Default: peers are plaintext."
    )
    log_level: str = Field(
        "INFO",
        pattern="^(DEBUG|INFO|WARNING|ERROR)$",
        description="The least severe log lines written: DEBUG, INFO, WARNING or ERROR.",
    )

    @classmethod
    def load(cls, environ: Mapping[str, str] | None = None) -> Self:
        """Reads the environment; a fault ends the process with one line and exit code 2."""
        try:
            return cls.read(os.environ if environ is None else environ)
        except SetupError as error:
            refuse_to_start(cls.service_name(), str(error))

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> Self:
        """Reads `environ`; raises SetupError that names every setting at fault, and no value."""
        try:
            return cls(**cls._given(environ))
        except ValidationError as error:
            faults = (
                (f"{cls._name(str(fault['loc'][0]))}: " if fault["loc"] else "")
                + fault["msg"].removeprefix("Value error, ")
                for fault in error.errors(include_url=False, include_context=False, include_input=False)
            )
            raise SetupError("; ".join(faults)) from None

    @classmethod
    def service_name(cls) -> str:
        """Returns the service's name, as its prefix says: "quotas" for PERRON_QUOTAS_."""
        return cls._prefix().removeprefix("PERRON_").rstrip("_").lower()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 (pydantic passes it by name)
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003 (as above)
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 (as above)
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 (as above)
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Reads only what `read` hands over: it has looked at every name, which no source would."""
        return (init_settings,)

    def read_secret(self, field: str) -> bytes:
        """Returns the content of the file that setting `field` names, without white space around it.

        Raises SetupError for a file that cannot be read or is empty; its content is never in the message.
        """
        return _read_file(self._name(field), getattr(self, field))

    def own_key(self) -> str:
        """Returns the key that the service presents to others; raises SetupError for a file without one."""
        key = self.read_secret("key_file").decode("ascii", errors="replace")
        if not key.isascii() or not key.isprintable():
            raise SetupError(f"{self._name('key_file')}: {self.key_file} does not hold a key")
        return key

    @classmethod
    def _given(cls, environ: Mapping[str, str]) -> dict[str, Any]:
        prefix = cls._prefix()
        given: dict[str, Any] = {}
        for name, value in environ.items():
            field = name.removeprefix(prefix).lower() if name.isupper() else ""
            if name == "PERRON_PLAINTEXT" and "plaintext" in cls.model_fields:
                given["plaintext"] = value
            elif not name.startswith(prefix):
                continue
            elif field in cls.model_fields and field != "plaintext":
                given[field] = cls._split(field, value)
            elif name.endswith(_FILE) and cls._has_file_variant(field.removesuffix(_FILE.lower())):
                if name.removesuffix(_FILE) in environ:
                    raise SetupError(f"{name}: {name.removesuffix(_FILE)} is set too; give one of them")
                given[field.removesuffix(_FILE.lower())] = _read_file(name, value).decode(errors="replace")
            else:
                raise SetupError(f"{name}: there is no such setting")
        return given

    @classmethod
    def _split(cls, field: str, value: str) -> str | list[str]:
        """Splits the value of a setting that is a collection at its commas."""
        if get_origin(cls.model_fields[field].annotation) not in {tuple, list, set, frozenset}:
            return value
        return [part.strip() for part in value.split(",") if part.strip()]

    @classmethod
    def _has_file_variant(cls, field: str) -> bool:
        declared = cls.model_fields.get(field)
        extra = declared.json_schema_extra if declared is not None else None
        return isinstance(extra, dict) and bool(extra.get("file_variant"))

    @classmethod
    def _prefix(cls) -> str:
        return cls.model_config.get("env_prefix", "")

    @classmethod
    def _name(cls, field: str) -> str:
        return (
            "PERRON_PLAINTEXT"
            if field in {"plaintext", "PERRON_PLAINTEXT"}
            else cls._prefix() + field.upper()
        )


class ServiceSettings(ProcessSettings):
    """The settings that every service has."""

    listen_address: str = Field(
        "127.0.0.1:0",
        description="Where the service listens, as host:port; port 0 takes a free one. "
        "Another address than this machine's own needs TLS files, or PERRON_PLAINTEXT=behind-mesh.",
    )
    database_url: str = secret_field(
        description="Where the store is: sqlite:///path or postgresql://user:password@host/name. "
        "Default: SQLite in var/, named for the service.",
    )
    identity_target: str = Field(
        "127.0.0.1:7401", description="Where identity listens, as host:port or a gRPC target."
    )
    tls_certificate_file: str = Field(
        "", description="The server's certificate chain, PEM. Default: plaintext."
    )
    tls_key_file: str = Field("", description="The private key of the certificate, PEM.")
    tls_client_ca_file: str = Field(
        "", description="Authorities whose client certificates are demanded, PEM. Default: none is demanded."
    )
    plaintext: str = Field(
        "",
        validation_alias="PERRON_PLAINTEXT",
        pattern="^(behind-mesh)?$",
        description="behind-mesh: listen on any address without TLS, as a mesh encrypts. Default: refuse.",
    )
    trace_file: str = Field(
        "", description="File that spans go to where no OTLP endpoint is set. Default: spans are not kept."
    )
    trace_ratio: float = Field(
        0.01, ge=0, le=1, description="Share of the traces that begin here which are sampled, from 0 to 1."
    )

    @model_validator(mode="before")
    @classmethod
    def _default_store(cls, given: Any) -> Any:
        if isinstance(given, dict) and not given.get("database_url"):
            given = {**given, "database_url": f"sqlite:///var/{cls.service_name()}.sqlite"}
        return given

    @model_validator(mode="after")
    def _encrypted_or_local(self) -> Self:
        address, certificate, key = map(
            self._name, ("listen_address", "tls_certificate_file", "tls_key_file")
        )
        if bool(self.tls_certificate_file) != bool(self.tls_key_file):
            raise ValueError(f"{certificate} and {key} belong together")
        if self.tls_client_ca_file and not self.tls_certificate_file:
            raise ValueError(f"{self._name('tls_client_ca_file')} needs {certificate} and {key}")
        host, port = split_address(self.listen_address)
        if not port.isascii() or not port.isdigit() or int(port) > 65_535:
            raise ValueError(f"{address} must be host:port")
        if not (_is_loopback(host) or self.tls_certificate_file or self.plaintext == BEHIND_MESH):
            raise ValueError(
                f"{address} is not of this machine alone: set {certificate} and {key}, "
                "or PERRON_PLAINTEXT=behind-mesh where a mesh encrypts"
            )
        return self


def split_address(address: str) -> tuple[str, str]:
    """Splits host:port, with an IPv6 host in brackets; the host comes without them."""
    host, _, port = address.rpartition(":")
    return host.removeprefix("[").removesuffix("]"), port


def refuse_to_start(service: str, problem: str) -> NoReturn:
    """Writes one line on standard error and ends the process with exit code 2."""
    words = " ".join(f"perron {service}: {problem}".split())
    line = "".join(character if character.isprintable() else "?" for character in words)
    print(line, file=sys.stderr)  # noqa: T201 (there is no log yet)
    raise SystemExit(2)


def _read_file(name: str, path: str) -> bytes:
    if not path:
        raise SetupError(f"{name}: no file is named")
    try:
        with Path(path).open("rb") as file:
            content = file.read(_SECRET_BYTES_MAX + 1).strip()
    except (OSError, ValueError) as error:
        raise SetupError(f"{name}: {path}: {getattr(error, 'strerror', None) or 'not a path'}") from None
    if not content:
        raise SetupError(f"{name}: {path} is empty")
    if len(content) > _SECRET_BYTES_MAX:
        raise SetupError(f"{name}: {path} is larger than {_SECRET_BYTES_MAX} bytes")
    return content


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
