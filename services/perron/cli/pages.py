"""Writes the pages that the code itself knows best: `python -m perron.cli.pages` in the checkout.

`docs/settings.md` comes from the fields of the settings, `docs/errors.md` from the contract. A test compares
both with what this would write, so neither can lag behind.
"""

import importlib
import re
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from perron.chassis.settings import ProcessSettings, ServiceSettings
from perron.cli.listening import SERVICES
from perron.cli.training import TRAINER

REASONS = Path("protos/perron/api/common/v1/error_reason.proto")

_SETTINGS_HEAD = """# Settings

Each service reads its environment once, before it opens anything. A name that begins with its prefix and is
no setting, and a value that is none, are one line on stderr and exit code 2. Lists are separated by commas.
Settings marked † may also be given as `…_FILE`, the path of a file that holds the value.

`PERRON_PLAINTEXT` set to `behind-mesh` lets every service listen on any address without TLS, where another
layer encrypts. `OTEL_EXPORTER_OTLP_ENDPOINT` sends traces and metrics to a collector; OpenTelemetry's other
variables apply too.

The command line reads `PERRON_API_KEY` (the key to call with), `PERRON_GATEWAY_KEY` (the gateway's, for
`perron admit`) and `PERRON_VAR` (the folder of `perron up`; default `var`).
"""

_ERRORS_HEAD = """# Errors

Every refusal carries a `google.rpc.ErrorInfo` with domain `perron` and one reason of this closed list. Branch
on the reason or on the code, never on the text. `metadata` belongs to the reason; `RetryInfo` is there only
where a repetition at that time can succeed.
"""


def settings_page() -> str:
    """The page of settings: those that all services have, then each service's own."""
    sections = [_SETTINGS_HEAD, "\n## Every service\n", "`<SERVICE>` is its name in capitals.\n", _TABLE_HEAD]
    sections += [_setting("PERRON_<SERVICE>_", *field) for field in _fields(ServiceSettings)]
    for service in (*SERVICES, TRAINER):
        settings = importlib.import_module(f"perron.{service}.settings").Settings
        common = set(ServiceSettings.model_fields) if issubclass(settings, ServiceSettings) else set()
        own = [field for field in _fields(settings) if field[0] not in common]
        sections += [f"\n## {service}\n", _TABLE_HEAD if own else "None of its own.\n"]
        sections += [_setting(f"PERRON_{service.upper()}_", *field) for field in own]
    return (
        "".join(f"{section}\n" for section in sections).replace("\n\n\n", "\n\n").replace(" |\n\n|", " |\n|")
    )


def errors_page(contract: str) -> str:
    """The page of reasons, from the comments of the contract's enum."""
    lines = [_ERRORS_HEAD]
    comment: list[str] = []
    for line in contract.splitlines():
        text = line.strip()
        value = re.fullmatch(r"ERROR_REASON_(\w+) = [1-9][0-9]*;", text)
        if text.startswith("//"):
            comment.append(text.removeprefix("//").strip())
        elif value:
            lines.append(_reason(value[1], " ".join(comment)))
            comment = []
        elif not text and len(comment) == 1 and comment[0].endswith("."):
            lines.append(
                f"\n## {comment[0].rstrip('.')}\n\n| reason | code | when | example |\n|---|---|---|---|"
            )
            comment = []
        else:
            comment = []
    return "\n".join(lines) + "\n"


def main() -> None:
    """Writes both pages of the checkout that is the working directory."""
    docs = Path("docs")
    (docs / "settings.md").write_text(settings_page(), encoding="utf-8")
    (docs / "errors.md").write_text(errors_page(REASONS.read_text(encoding="utf-8")), encoding="utf-8")


_TABLE_HEAD = "| setting | default | |\n|---|---|---|"


def _fields(settings: type[ProcessSettings]) -> list[tuple[str, FieldInfo]]:
    return [(name, field) for name, field in settings.model_fields.items() if name != "plaintext"]


def _setting(prefix: str, name: str, field: FieldInfo) -> str:
    extra = field.json_schema_extra
    mark = " †" if isinstance(extra, dict) and extra.get("file_variant") else ""
    text = (field.description or "").replace("|", "\\|")
    return f"| `{prefix}{name.upper()}`{mark} | {_default(field)} | {text} |"


def _default(field: FieldInfo) -> str:
    value: Any = field.default
    if isinstance(value, Path):
        return f"`{value.name if value.is_absolute() else value}`"
    if value is PydanticUndefined or (not value and not isinstance(value, bool | int)):
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _reason(name: str, comment: str) -> str:
    code, _, rest = comment.partition(": ")
    when, _, example = rest.partition(" Example: ")
    return f"| `{name}` | {code.replace('In a body, not an error', 'not an error')} | {when} | {example} |"


if __name__ == "__main__":
    main()
