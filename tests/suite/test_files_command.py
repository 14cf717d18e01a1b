"""`perron files` as people and scripts use it, also where the network breaks off."""

import hashlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from perron.cli import resuming
from perron.cli.suite import Suite
from tests.suite.command import environment
from tests.suite.cutting import Cutting
from tests.suite.forge import Run, lines, uploaded

MIB = 1024 * 1024
BAD = b"""\
{"messages": [{"role": "user", "content": "a b"}, {"role": "assistant", "content": "c"}]}
{"messages": [{"role": "user", "content": "hush"}]}
{"messages": "hush", "hush": 1
"""


def test_a_file_goes_up_is_told_by_its_counts_comes_back_and_is_deleted(run: Run, tmp_path: Path) -> None:
    content, path, back = lines(30), tmp_path / "a.jsonl", tmp_path / "back.jsonl"
    path.write_bytes(content)
    made = run("files", "upload", str(path), "--attest", "--name", "thirty", "--json")
    assert made.parsed["statistics"]["examples"] == "30"
    assert made.parsed["display_name"] == "thirty"
    file_id = made.parsed["file_id"]
    assert file_id in run("files", "list").answer
    assert "examples 30" in run("files", "show", file_id).answer

    assert run("files", "download", file_id, str(back)).status == 0
    assert back.read_bytes() == content
    assert run("files", "download", file_id, "-").answer == content.decode()
    assert run("files", "delete", file_id, "--json").parsed == {"file_id": file_id, "deferred": False}
    gone = run("files", "download", file_id, str(tmp_path / "none"), "--json")
    assert (gone.status, gone.parsed["error"]["reason"]) == (1, "RESOURCE_NOT_FOUND")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["a.jsonl", "back.jsonl"]


def test_lines_that_break_a_rule_are_told_by_place_and_never_quoted(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_bytes(BAD)
    refused = run("files", "upload", str(path), "--attest")

    assert refused.status == 1
    rows = [line.split() for line in refused.answer.splitlines()]
    assert ["line", "column", "rule"] in rows
    assert rows[-2][0::2] == ["2", "role-misplaced"]
    assert rows[-1][0::2] == ["3", "not-json"]
    assert "hush" not in refused.answer + refused.notes
    printed = run("files", "upload", str(path), "--attest", "--json")
    assert (printed.status, printed.parsed["state"], len(printed.parsed["errors"])) == (1, "STATE_INVALID", 2)


def test_nothing_is_uploaded_without_a_word_that_one_has_the_rights(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(lines(1))
    refused = run("files", "upload", str(path))
    assert (refused.status, refused.answer) == (2, "")
    assert "--attest" in refused.notes
    assert run("files", "upload", str(tmp_path / "none"), "--attest").status == 2


def test_an_upload_and_a_download_outlive_broken_connections(
    cutting: Callable[..., tuple[Cutting, Run]], tmp_path: Path
) -> None:
    content = lines(8000, 1000)
    way, run = cutting(bytes_max=3 * MIB, cuts=2)
    file_id = uploaded(run, tmp_path / "big.jsonl", content)
    assert (way.cuts, way.connections) == (0, 3)
    assert run("files", "show", file_id, "--json").parsed["sha256"] == hashlib.sha256(content).hexdigest()

    way.cuts = 2
    back = run("files", "download", file_id, str(tmp_path / "back"))
    assert back.status == 0, back.notes
    assert way.cuts == 0
    assert (tmp_path / "back").read_bytes() == content


def test_without_patience_a_broken_connection_ends_the_command_and_leaves_nothing_half(
    run: Run,
    cutting: Callable[..., tuple[Cutting, Run]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    content = lines(4000, 1000)
    file_id = uploaded(run, tmp_path / "whole.jsonl", content)
    monkeypatch.setattr(resuming, "PAUSES_SECONDS", ())
    _, broken = cutting(bytes_max=MIB, cuts=2)
    given_up = broken("files", "upload", str(tmp_path / "whole.jsonl"), "--attest", "--print-id")
    assert (given_up.status, given_up.answer) == (2, "")
    assert "nobody answers at finetuning" in given_up.notes
    torn = broken("files", "download", file_id, str(tmp_path / "back"))
    assert (torn.status, torn.answer) == (2, "")
    assert [one.name for one in tmp_path.iterdir() if one.name.startswith("back")] == []


def test_an_upload_that_was_given_up_goes_on_when_it_is_asked_to(
    run: Run, suite: Suite, key: str, tmp_path: Path
) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(lines(100_000, 200))
    command = [sys.executable, "-m", "perron.cli", "files", "upload", str(path), "--attest"]
    whose = environment(PERRON_VAR=str(suite.folder), PERRON_API_KEY=key)
    with subprocess.Popen(command, env=whose, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as first:
        assert first.stderr is not None
        said = first.stderr.readline() + first.stderr.readline()
        first.kill()
    assert b"\nupl_" in said
    upload_id = said.decode().splitlines()[1].split(":")[0]

    other = tmp_path / "b.jsonl"
    other.write_bytes(lines(1))
    refused = run("files", "upload", str(other), "--resume", upload_id)
    assert (refused.status, "is not what was announced" in refused.notes) == (2, True)
    done = run("files", "upload", str(path), "--resume", upload_id, "--json").parsed
    assert (done["state"], done["statistics"]["examples"]) == ("STATE_VALID", "100000")
    again = run("files", "upload", str(path), "--resume", upload_id, "--print-id")
    assert again.answer.strip() == done["file_id"]
