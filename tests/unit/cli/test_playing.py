"""The demo's own honesty: what fails is said to have failed, in the table, the file and the exit code."""

import json
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from perron.chassis.errors import Unavailable
from perron.cli import app, output, training
from perron.cli.connection import FOLDER_VARIABLE, RefusedError
from perron.cli.demo import finetuning, playing, tuning_rows
from perron.cli.demo.stage import Stage


class StillSuite:
    def __init__(self, folder: Path, *, environment: Mapping[str, str], trainer: bool) -> None:
        self.folder = folder
        self.trainer = trainer
        self.environment = dict(environment)
        self.endpoints: dict[str, str] = {}
        self.ended = 0

    def start(self) -> None:
        (self.folder / "started").touch()

    def stop(self) -> None:
        self.ended += 1


@pytest.fixture(autouse=True)
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    monkeypatch.setattr(playing, "Suite", StillSuite)


def play(monkeypatch: pytest.MonkeyPatch, *chapters: object) -> int:
    trials = tuple(
        SimpleNamespace(NAME=name, play=chapter, settings=lambda folder: {"PERRON_X": str(folder)})
        for name, chapter in zip(("trial", "second"), chapters, strict=False)
    )
    monkeypatch.setattr(playing, "CHAPTERS", trials)
    return app.run(["demo"])


def test_a_finding_that_fails_fails_the_demo(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def chapter(stage: Stage) -> None:
        stage.find("3-free", "held", ok=True)
        stage.find("3-zdr", "did not hold", ok=False)

    assert play(monkeypatch, chapter) == output.REFUSED
    assert json.loads((tmp_path / "demo.json").read_text(encoding="utf-8")) == [
        {"chapter": "trial", "clause": "3-free", "shown": "held", "ok": True},
        {"chapter": "trial", "clause": "3-zdr", "shown": "did not hold", "ok": False},
    ]


def test_a_chapter_that_breaks_off_fails_the_demo(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def chapter(_stage: Stage) -> None:
        raise RefusedError(Unavailable("PEER_UNAVAILABLE", "quotas does not answer"), "")

    assert play(monkeypatch, chapter) == output.REFUSED
    (finding,) = json.loads((tmp_path / "demo.json").read_text(encoding="utf-8"))
    assert finding["ok"] is False
    assert "PEER_UNAVAILABLE" in finding["shown"]


def test_a_defect_in_a_chapter_still_ends_in_the_table(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def chapter(_stage: Stage) -> None:
        raise StopIteration

    assert play(monkeypatch, chapter) == output.REFUSED
    assert "1 shown, 1 failed" in capsys.readouterr().out


def test_a_suite_is_told_what_its_chapters_need(monkeypatch: pytest.MonkeyPatch) -> None:
    def chapter(stage: Stage) -> None:
        suite: Any = stage.suite
        stage.find("all", "told", ok=suite.environment == {"PERRON_X": str(suite.folder)})

    assert play(monkeypatch, chapter) == output.OK


def test_what_is_checked_after_the_end_counts_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def chapter(stage: Stage) -> None:
        suite: Any = stage.suite
        stage.after_stop(lambda: stage.find("3-zdr", "nothing is left", ok=suite.ended == 1))

    assert play(monkeypatch, chapter) == output.OK


def test_what_is_checked_after_the_end_belongs_to_the_chapter_that_left_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def first(stage: Stage) -> None:
        stage.after_stop(lambda: stage.find("3-zdr", "nothing is left", ok=True))

    def second(stage: Stage) -> None:
        stage.find("3-free", "held", ok=True)

    assert play(monkeypatch, first, second) == output.OK
    found = json.loads((tmp_path / "demo.json").read_text(encoding="utf-8"))
    assert [(one["chapter"], one["shown"]) for one in found] == [
        ("second", "held"),
        ("trial", "nothing is left"),
    ]


def test_a_demo_that_showed_nothing_has_not_succeeded(monkeypatch: pytest.MonkeyPatch) -> None:
    assert play(monkeypatch, lambda _stage: None) == output.REFUSED


@pytest.mark.parametrize("reason", ["TRAINER=0", "no torch"])
def test_without_a_trainer_what_needs_one_is_not_shown_and_not_written(
    reason: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if reason == "TRAINER=0":
        monkeypatch.setenv("TRAINER", "0")
    else:
        monkeypatch.delenv("TRAINER", raising=False)
        monkeypatch.setattr(training, "installed", lambda: False)

    def chapter(stage: Stage) -> None:
        suite: Any = stage.suite
        stage.find("all", "no trainer was started", ok=not suite.trainer)
        finetuning.play(stage)

    assert play(monkeypatch, chapter) == output.OK
    told = capsys.readouterr().out.splitlines()
    for row in tuning_rows.ALL:
        about = [line for line in told if row.shown in line]
        assert len(about) == 2, "told where it would be played, and in the table"
        assert all("not shown" in line and " ok" not in line for line in about)
    assert any(f"1 shown, 0 failed, {len(tuning_rows.ALL)} not shown" in line for line in told)
    (finding,) = json.loads((tmp_path / "demo.json").read_text(encoding="utf-8"))
    assert finding["shown"] == "no trainer was started"


def test_a_demo_of_which_nothing_could_be_shown_has_not_succeeded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINER", "0")
    assert play(monkeypatch, finetuning.play) == output.REFUSED
