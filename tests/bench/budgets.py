"""The figures, their budgets, and how they are shown and kept.

A figure is a ratio of two measurements on the same machine in the same run wherever it can be one, so that it
says something on any machine. The budgets are floors to start from.
"""

import json
import operator
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

AT_MOST, AT_LEAST = "≤", "≥"
_COMPARE: dict[str, Callable[[float, float], bool]] = {AT_MOST: operator.le, AT_LEAST: operator.ge}

BUDGETS: dict[str, tuple[str, float]] = {
    "admit_cpu_ratio": (AT_MOST, 5),
    "admit_complete_cpu_ratio": (AT_MOST, 8),
    "admit_latency_ratio": (AT_MOST, 14),
    "batch_verify_ratio": (AT_LEAST, 5),
    "batch_reserve_ratio": (AT_LEAST, 1.5),
    "batch_decide_ratio": (AT_LEAST, 2),
    "batch_resolve_ratio": (AT_LEAST, 3),
    "verify_growth_ratio": (AT_MOST, 1.2),
    "resolve_growth_ratio": (AT_MOST, 1.3),
    "list_agents_growth_ratio": (AT_MOST, 1.3),
    "tracing_cpu_ratio": (AT_MOST, 1.5),
    "idle_rss_mb": (AT_MOST, 130),
    "overload_goodput_ratio": (AT_LEAST, 0.9),
    "fairness_ratio": (AT_MOST, 2),
    "bytes_per_admit": (AT_MOST, 1000),
    "upload_mb_s": (AT_LEAST, 20),
    "validate_lines_s": (AT_LEAST, 100_000),
}


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured figure; `n` is its size, what it counts stands in `of`."""

    name: str
    value: float
    n: int
    of: str

    @property
    def is_met(self) -> bool:
        sign, budget = BUDGETS[self.name]
        return _COMPARE[sign](self.value, budget)

    def line(self) -> str:
        sign, budget = BUDGETS[self.name]
        verdict = "ok" if self.is_met else "MISSED"
        return f"{self.name:26} {self.value:10.2f}   {sign} {budget:<8g} {verdict:7} n = {self.n:,} {self.of}"


def write(figures: Iterable[Figure], notes: dict[str, float], path: Path) -> None:
    """Writes each figure as `<name>` with its size as `<name>_n`; a figure not measured is absent."""
    found: dict[str, float] = {}
    for figure in figures:
        found[figure.name] = round(figure.value, 4)
        found[f"{figure.name}_n"] = figure.n
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        json.dumps(found | {name: round(value, 4) for name, value in notes.items()}, indent=2) + "\n"
    )
