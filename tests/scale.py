"""How often the tests repeat themselves, and what they found out while doing so.

PERRON_TEST_SCALE is "small" (default), "soak", or a factor between the two counts. What a test records is
written to var/soak.jsonl, from where `python -m tests.soak` draws tests/SOAK.md.
"""

import json
import os
import time
from pathlib import Path

SCALE = os.environ.get("PERRON_TEST_SCALE", "small")
IS_SOAK = SCALE == "soak"
ROOT = Path(__file__).resolve().parents[1]
RECORDS = ROOT / "var" / "soak.jsonl"


def times(small: int, soak: int) -> int:
    """The count of this run: `small` in every test run, `soak` where the stated counts are asked for."""
    match SCALE:
        case "small" | "":
            return small
        case "soak":
            return soak
        case _:
            return max(1, min(soak, int(small * float(SCALE))))


def record(guarantee: str, **figures: float | str) -> None:
    """Puts down what was counted while a guarantee was put to the test; only a soak is written down."""
    if not IS_SOAK:
        return
    RECORDS.parent.mkdir(parents=True, exist_ok=True)
    line = json.dumps({"guarantee": guarantee, "figures": figures, "time": time.time()})
    with RECORDS.open("a", encoding="utf-8") as records:
        records.write(line + "\n")
