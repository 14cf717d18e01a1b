"""Data files of the installation: a YAML list of records under one name, every field known and of its type.

What is wrong is said in one line with file, record and field, before the service starts.
"""

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime
from importlib import resources
from pathlib import Path
from typing import Any, Final

import yaml

from perron.chassis.errors import SetupError

_NAME: Final = re.compile(r"[a-z][a-z0-9-]{0,63}")


def read_records(path: str, packaged: str, key: str) -> tuple[str, list["Record"]]:
    """Reads the list `key` of the file at `path`, or of this package's file `packaged` where it is empty."""
    source = path or packaged
    try:
        text = (
            Path(path).read_text("utf-8")
            if path
            else resources.files(__package__).joinpath(packaged).read_text("utf-8")
        )
    except (OSError, UnicodeDecodeError) as error:
        message = f"{source}: cannot be read: {getattr(error, 'strerror', None) or 'not UTF-8'}"
        raise SetupError(message) from None
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" at line {mark.line + 1}" if mark else ""
        message = f"{source}: not YAML{line}"
        raise SetupError(message) from None
    rows = content.get(key) if isinstance(content, dict) and set(content) == {key} else None
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        message = f"{source}: must hold a list of records under {key!r} and nothing else"
        raise SetupError(message)
    return source, [Record(f"{source}: {key}[{index}]", row) for index, row in enumerate(rows)]


class Record:
    """One record, read field by field; `done` refuses fields that nobody asked for."""

    def __init__(self, place: str, fields: Mapping[str, Any]) -> None:
        self._place = place
        self._fields = dict(fields)

    def text(self, field: str) -> str:
        """Takes a string that is not empty."""
        value = self._fields.pop(field, None)
        if not isinstance(value, str) or not value.strip():
            raise self._wrong(field, "a text is required")
        return value

    def name(self, field: str) -> str:
        """Takes a name: a-z, 0-9 and "-", a letter first, at most 64."""
        value = self._fields.pop(field, None)
        if not isinstance(value, str) or not _NAME.fullmatch(value):
            raise self._wrong(field, 'a name of a-z, 0-9 and "-" is required')
        return value

    def version(self, field: str) -> str:
        """Takes a version, a text or a date, at most 32 characters."""
        value = self._fields.pop(field, None)
        if isinstance(value, date):
            value = value.isoformat()
        if not isinstance(value, str) or not re.fullmatch(r"[0-9A-Za-z][0-9A-Za-z._-]{0,31}", value):
            raise self._wrong(field, "a version of at most 32 characters is required")
        return value

    def choice(self, field: str, choices: tuple[str, ...]) -> str:
        """Takes one of the choices."""
        value = self._fields.pop(field, None)
        if value not in choices:
            raise self._wrong(field, f"must be one of {', '.join(choices)}")
        return str(value)

    def instant(self, field: str) -> datetime:
        """Takes a date or a time with its zone; a date means its first instant in UTC."""
        value = self._fields.pop(field, None)
        if isinstance(value, datetime) and value.tzinfo is not None:
            return value.astimezone(UTC)
        if isinstance(value, date) and not isinstance(value, datetime):
            return datetime(value.year, value.month, value.day, tzinfo=UTC)
        raise self._wrong(field, "a date, or a time with its zone, is required")

    def strings(self, field: str) -> dict[str, str]:
        """Takes a mapping of strings to strings; absent means empty."""
        value = self._fields.pop(field, {})
        if not isinstance(value, dict) or not all(isinstance(x, str) for pair in value.items() for x in pair):
            raise self._wrong(field, "a mapping of texts to texts is required")
        return value

    def done(self) -> None:
        """Refuses fields that were not taken."""
        if self._fields:
            raise self._wrong(min(map(str, self._fields)), "no such field")

    def _wrong(self, field: str, rule: str) -> SetupError:
        return SetupError(f"{self._place}.{field}: {rule}")
