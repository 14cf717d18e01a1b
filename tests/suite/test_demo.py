"""`perron demo`, as somebody on a fresh machine runs it."""

import json
from pathlib import Path

from perron.cli.demo import tuning_rows
from tests.extras import HAS_TRAINER
from tests.suite.command import perron


def test_the_demo_shows_every_clause_and_leaves_nothing_behind(tmp_path: Path) -> None:
    folder = tmp_path / "temporary"
    folder.mkdir()
    played = perron("demo", cwd=tmp_path, timeout=900, TMPDIR=str(folder))
    assert played.status == 0, played.answer + played.notes
    findings = json.loads((tmp_path / "var" / "demo.json").read_text(encoding="utf-8"))
    assert all(finding["ok"] is True for finding in findings)
    assert {finding["chapter"] for finding in findings} - {"finetuning"} == {"foundation", "agents"}
    tuned = [(one["clause"], one["shown"]) for one in findings if one["chapter"] == "finetuning"]
    assert tuned == (list(tuning_rows.ALL) if HAS_TRAINER else [])
    not_shown = "" if HAS_TRAINER else f", {len(tuning_rows.ALL)} not shown"
    clauses = {finding["clause"] for finding in findings}
    assert {"1.1-use", "1.1-key", "1.1-limits", "1.1-rate", "3-free", "3-paid", "3-zdr"} <= clauses
    assert {"2-create", "2-share", "2-conf", "2-name", "2-del"} <= clauses
    assert all(set(finding) == {"chapter", "clause", "shown", "ok"} for finding in findings)
    last = played.answer.strip().splitlines()[-2:]
    assert last[0].startswith(f"{len(findings)} shown, 0 failed{not_shown}")
    assert last[1].startswith("Next: ")
    assert "one connected tree" in played.answer
    assert ("● validation loss" in played.answer) is HAS_TRAINER
    assert list(folder.iterdir()) == []
