import base64
import json
from pathlib import Path

import pytest

from perron.cli.demo import search


def test_every_form_of_a_planted_text_is_found(tmp_path: Path) -> None:
    text = search.marker()
    for path in search.plant(tmp_path, text):
        form = path.name.split("-", 1)[1].rsplit("-", 1)[0]
        assert search.Finding(path, form) in search.find(tmp_path, text)


@pytest.mark.parametrize("before", range(7))
def test_base64_is_found_wherever_the_text_begins(tmp_path: Path, before: int) -> None:
    text = search.marker()
    (tmp_path / "file").write_bytes(base64.b64encode(b"y" * before + text.encode() + b"z" * 5))
    assert [finding.form for finding in search.find(tmp_path, text)] == ["base64"]


def test_a_text_inside_a_json_document_is_found(tmp_path: Path) -> None:
    text = search.marker()
    (tmp_path / "file").write_text(json.dumps({"message": f"before {text} after"}), encoding="utf-8")
    assert [finding.form for finding in search.find(tmp_path, text)] == ["JSON-escaped"]


def test_another_text_is_not_found(tmp_path: Path) -> None:
    search.plant(tmp_path, search.marker())
    assert search.find(tmp_path, search.marker()) == []


def test_the_marker_is_32_bytes_that_json_must_escape() -> None:
    for _ in range(200):
        text = search.marker()
        assert len(text.encode()) == 32
        assert json.dumps(text)[1:-1] != text
