"""Writes tests/SOAK.md from what the tests recorded while they ran at full scale, and forgets the records."""

import json
import os
import platform
import sys
from collections.abc import Iterator
from datetime import UTC, datetime

from tests.scale import RECORDS, ROOT

PAGE = ROOT / "tests" / "SOAK.md"


def main() -> int:
    """Writes the page; 1 where nothing was recorded."""
    if not RECORDS.exists():
        print("no records: `make soak` runs the tests that make them", file=sys.stderr)
        return 1
    records = [json.loads(line) for line in RECORDS.read_text("utf-8").splitlines()]
    PAGE.write_text("\n".join(page(records)) + "\n", encoding="utf-8")
    RECORDS.unlink()
    print(f"{len(records)} guarantees: tests/SOAK.md")
    return 0


def page(records: list[dict[str, object]]) -> Iterator[str]:
    """The lines of the page."""
    ended = datetime.fromtimestamp(max(float(str(record["time"])) for record in records), UTC)
    machine = f"{os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}"
    yield "# What the tests counted at full scale"
    yield ""
    yield f"Written by `make soak`, which runs every test at the stated counts: {ended:%Y-%m-%d}, {machine}."
    yield ""
    yield "| guarantee | counted |"
    yield "|---|---|"
    for record in sorted(records, key=lambda record: str(record["guarantee"])):
        figures = record["figures"]
        assert isinstance(figures, dict)
        counted = ", ".join(f"{name.replace('_', ' ')} {told(value)}" for name, value in figures.items())
        yield f"| {record['guarantee']} | {counted} |"


def told(value: object) -> str:
    """A figure as people read it."""
    return f"{value:,}" if isinstance(value, int | float) else str(value)


if __name__ == "__main__":
    sys.exit(main())
