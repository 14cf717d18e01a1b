import json
from pathlib import Path

import pytest
import typer

from perron.chassis.errors import SetupError
from perron.cli import app, connection, options, output
from perron.finetuning.jsonl import Validator


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(connection.FOLDER_VARIABLE, str(tmp_path))
    monkeypatch.delenv(connection.KEY_VARIABLE, raising=False)
    return tmp_path


def commands() -> list[list[str]]:
    """Every command, as words, found in the application itself."""
    found: list[list[str]] = []

    def walk(command: typer.core.TyperCommand | typer.core.TyperGroup, words: list[str]) -> None:
        below = getattr(command, "commands", None)
        if below is None:
            found.append(words)
            return
        for name, one in below.items():
            walk(one, [*words, name])

    walk(typer.main.get_command(app.build()), [])
    return found


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_every_command_explains_itself(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert app.run([*words, "--help"]) == output.OK
    printed = capsys.readouterr().out
    assert "Usage: perron" in printed
    if words not in (["serve"], ["trainer"]):
        assert "--json" in printed


@pytest.mark.parametrize(
    "words", [["nonsense"], ["keys", "list", "--nonsense"], ["serve", "nobody"], ["samples", "--count", "-1"]]
)
def test_wrong_usage_is_exit_code_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert app.run(words) == output.USAGE
    assert capsys.readouterr().out == ""


def test_missing_set_up_is_exit_code_2() -> None:
    assert app.run(["keys", "list"]) == output.USAGE
    assert app.run(["trace", "last"]) == output.USAGE
    assert app.run(["admit", "Who pays?"]) == output.USAGE


def test_samples_are_one_json_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert app.run(["samples", "--count", "5", "--json"]) == output.OK
    lines = capsys.readouterr().out.splitlines()
    assert [set(json.loads(line)) for line in lines] == [{"subject", "question", "answer"}] * 5


def test_samples_are_the_lines_of_a_training_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert app.run(["samples", "--count", "500", "--chat"]) == output.OK
    validator = Validator(b"k" * 32)
    validator.feed(capsys.readouterr().out.encode())
    report = validator.finish()
    assert not report.faults
    assert report.counts.examples == 500


def test_the_variable_comes_before_the_file_and_a_name_before_both(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "credentials.json").write_text('{"operator": "0p3n", "gateway": "gw"}', encoding="utf-8")
    assert connection.credential().secret == "0p3n"
    assert connection.credential("gateway").secret == "gw"
    monkeypatch.setenv(connection.KEY_VARIABLE, "mine\n")
    assert connection.credential().secret == "mine"
    assert connection.credential().origin == connection.KEY_VARIABLE
    assert connection.credential("operator").secret == "0p3n"
    assert "0p3n" not in repr(connection.credential("operator"))
    with pytest.raises(SetupError, match="it has operator, gateway"):
        connection.credential("nobody")


def test_a_service_that_does_not_answer_is_a_matter_of_set_up(folder: Path) -> None:
    (folder / "credentials.json").write_text('{"operator": "op"}', encoding="utf-8")
    (folder / "endpoints.json").write_text('{"identity": "127.0.0.1:1"}', encoding="utf-8")
    assert app.run(["orgs", "list"]) == output.USAGE


def test_times_are_written_as_a_distance_or_as_an_instant() -> None:
    assert options.instant("", "--expires") is None
    ahead = options.instant("30d", "--expires")
    assert ahead is not None
    exact = options.instant("2030-01-31T12:00:00+00:00", "--expires")
    assert exact is not None
    assert exact.ToJsonString() == "2030-01-31T12:00:00Z"
    for wrong in ("tomorrow", "30", "d", "99999999d", "-1d"):
        with pytest.raises(typer.BadParameter):
            options.instant(wrong, "--expires")
