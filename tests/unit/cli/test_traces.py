import io
import json
from pathlib import Path
from typing import Any

from rich.console import Console

from perron.cli import traces, waterfall

TRACE = "0af7651916cd43dd8448eb211c80319c"


def entry(span_id: str, parent_id: str = "", service: str = "admission", **other: Any) -> dict[str, Any]:
    return {
        "trace_id": TRACE,
        "span_id": span_id,
        "parent_id": parent_id,
        "service": service,
        "name": "perron.api.admission.v1.AdmissionService/Admit",
        "kind": "SERVER",
        "start_ns": 1_000_000,
        "end_ns": 5_000_000,
        "status": "UNSET",
        "attributes": {},
        "links": [],
    } | other


def write(folder: Path, name: str, *entries: dict[str, Any], end: str = "\n") -> None:
    text = "\n".join(json.dumps(one, separators=(",", ":")) for one in entries)
    (folder / name).write_text(text + end, encoding="utf-8")


def test_a_trace_is_put_together_from_the_files_of_all_services(tmp_path: Path) -> None:
    write(tmp_path, "admission.jsonl", entry("a", "caller"), entry("other", trace_id="f" * 32))
    write(tmp_path, "quotas.jsonl", entry("b", "a", "quotas", start_ns=2_000_000))
    write(tmp_path, "quotas.jsonl.1", entry("c", "b", "quotas", start_ns=3_000_000))
    spans = traces.read(tmp_path, TRACE[:10])
    assert [span.span_id for span in spans] == ["a", "b", "c"]
    (root,) = traces.trees(spans)
    assert [(depth, span.span_id) for depth, span in root.walk()] == [(0, "a"), (1, "b"), (2, "c")]


def test_a_line_that_is_still_written_is_left_for_the_next_time(tmp_path: Path) -> None:
    write(tmp_path, "admission.jsonl", entry("a"), entry("b", "a"), end="")
    assert [span.span_id for span in traces.read(tmp_path, TRACE)] == ["a"]


def test_a_trace_in_pieces_is_not_called_connected(tmp_path: Path) -> None:
    write(tmp_path, "admission.jsonl", entry("a", "caller"), entry("b", "lost"))
    assert not traces.connected(traces.trees(traces.read(tmp_path, TRACE)))
    write(tmp_path, "admission.jsonl", entry("a", "caller"), entry("b", "caller"))
    assert traces.connected(traces.trees(traces.read(tmp_path, TRACE)))


def test_the_last_call_is_none_that_services_make_by_themselves(tmp_path: Path) -> None:
    write(
        tmp_path,
        "identity.jsonl",
        entry("a"),
        entry("b", trace_id="e" * 32, name="grpc.health.v1.Health/Check", start_ns=9_000_000),
        entry("c", trace_id="d" * 32, kind="INTERNAL", name="verify", start_ns=9_000_000),
    )
    assert traces.last(tmp_path) == TRACE
    assert not traces.last(tmp_path / "empty")


def test_the_waterfall_keeps_to_the_terminal_and_says_who_shared_a_batch(tmp_path: Path) -> None:
    batch = {"trace_id": "b" * 32, "span_id": "1"}
    write(tmp_path, "admission.jsonl", entry("a"), entry("b", "a", links=[batch], start_ns=2_000_000))
    write(
        tmp_path,
        "quotas.jsonl",
        entry("c", "b", "quotas", status="ERROR", attributes={"error.type": "LIMIT_REACHED"}),
    )
    roots = traces.trees(traces.read(tmp_path, TRACE))
    for width in (80, 120, 300):
        console = Console(file=io.StringIO(), width=width)
        console.print(waterfall.draw(roots, {"b" * 32: 12}, width))
        assert isinstance(console.file, io.StringIO)
        drawn = " ".join(console.file.getvalue().split())
        assert "one connected tree" in drawn
        assert "in a batch of 12" in drawn
        assert "LIMIT_REACHED" in drawn
        assert "4.00 ms" in drawn
        assert "…" not in drawn
