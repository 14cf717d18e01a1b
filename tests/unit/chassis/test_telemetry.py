"""Traces connect through batches, and carry no text that could be content."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from perron.chassis import telemetry
from perron.chassis.batcher import Batcher
from perron.chassis.errors import NotFound, PerronError
from perron.chassis.trace_file import TraceFile

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from opentelemetry.sdk.trace import ReadableSpan

SAMPLED = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
UNSAMPLED = SAMPLED[:-2] + "00"
OTHER = "00-1af7651916cd43dd8448eb211c80319c-a7ad6b7169203331-01"


@pytest.fixture
def exporter(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    memory = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(memory))
    monkeypatch.setattr(telemetry, "_tracer", provider.get_tracer("test"))
    yield memory
    provider.shutdown()


def hexed(span: ReadableSpan) -> tuple[str, str, str]:
    context = span.get_span_context()
    assert context is not None
    parent = f"{span.parent.span_id:016x}" if span.parent else ""
    return f"{context.trace_id:032x}", f"{context.span_id:016x}", parent


async def echo(items: Sequence[int]) -> list[int | PerronError]:
    with telemetry.database_span("write", "sqlite"):
        await asyncio.sleep(0)
    return [NotFound("RESOURCE_NOT_FOUND", "a secret text") if item < 0 else item for item in items]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        SAMPLED[:-1],
        SAMPLED.replace("0af7", "zzzz"),
        "00-" + "0" * 32 + "-b7ad6b7169203331-01",
        "\n" * 55,
    ],
)
def test_a_malformed_traceparent_begins_a_new_trace(text: str) -> None:
    assert telemetry.parse(text) is None


def test_a_call_continues_its_callers_trace(exporter: InMemorySpanExporter) -> None:
    with telemetry.server_scope("x.Y/Z", SAMPLED):
        assert telemetry.current_trace_id() == SAMPLED[3:35]
        assert telemetry.is_sampled(telemetry.current_trace_parent())
    (span,) = exporter.get_finished_spans()
    assert hexed(span)[0] == SAMPLED[3:35]
    assert hexed(span)[2] == SAMPLED[36:52]


def test_an_unsampled_call_has_a_trace_id_and_records_nothing(exporter: InMemorySpanExporter) -> None:
    for parent in ("", UNSAMPLED):
        with telemetry.server_scope("x.Y/Z", parent):
            assert len(telemetry.current_trace_id()) == 32
            with telemetry.client_scope("x.Y/W"):
                pass
    assert exporter.get_finished_spans() == ()


async def test_a_batch_of_one_is_a_child_of_its_caller(exporter: InMemorySpanExporter) -> None:
    batcher = Batcher(echo, name="verify", trace_parent=lambda _item: SAMPLED)
    await batcher.submit(1)
    spans = {span.name: hexed(span) for span in exporter.get_finished_spans()}
    assert set(spans) == {"verify", "sqlite write"}
    assert spans["verify"][2] == SAMPLED[36:52]
    assert spans["sqlite write"][2] == spans["verify"][1]


async def test_a_shared_batch_has_a_trace_of_its_own_and_each_caller_one_linked_span(
    exporter: InMemorySpanExporter,
) -> None:
    parents = {1: SAMPLED, 2: OTHER, 3: UNSAMPLED}
    batcher = Batcher(echo, name="verify", trace_parent=lambda item: parents[item])
    await batcher.submit_many([1, 2, 3])
    spans = exporter.get_finished_spans()
    (batch,) = [span for span in spans if span.name == "verify" and span.parent is None]
    assert batch.get_span_context() is not None
    items = [span for span in spans if span.name == "verify" and span.parent is not None]
    assert {(hexed(span)[0], hexed(span)[2]) for span in items} == {
        (SAMPLED[3:35], SAMPLED[36:52]),
        (OTHER[3:35], OTHER[36:52]),
    }
    assert all(span.links[0].context == batch.get_span_context() for span in items)
    (transaction,) = [span for span in spans if span.name == "sqlite write"]
    assert hexed(transaction)[2] == hexed(batch)[1], "the work belongs to the batch"


async def test_a_span_names_the_reason_and_never_the_text(exporter: InMemorySpanExporter) -> None:
    batcher = Batcher(echo, name="verify", trace_parent=lambda _item: SAMPLED)
    await batcher.submit_many([-1, -2])

    def fail() -> None:
        with telemetry.server_scope("x.Y/Z", SAMPLED):
            message = "a secret text"
            raise ValueError(message)

    with pytest.raises(ValueError, match="secret"):
        fail()
    spans = exporter.get_finished_spans()
    assert {
        span.attributes["error.type"] for span in spans if span.attributes and "error.type" in span.attributes
    } == {
        "RESOURCE_NOT_FOUND",
        "ValueError",
    }
    assert "secret" not in "".join(span.to_json() for span in spans)


FULL_FOR_A_WHILE = """
import resource
from perron.chassis import exporters, telemetry

exporters.start("test", ratio=0)
log = telemetry.logger("test")
_, hard = limits = resource.getrlimit(resource.RLIMIT_FSIZE)
log.info("before")
resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
for _ in range(100):
    log.info("meanwhile")
resource.setrlimit(resource.RLIMIT_FSIZE, limits)
log.info("after")
"""


def test_a_full_disk_costs_lines_of_the_log_and_nothing_else(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("wb") as stream:
        subprocess.run([sys.executable, "-c", FULL_FOR_A_WHILE], stderr=stream, check=True)

    events = [json.loads(line)["event"] for line in log.read_text("utf-8").splitlines()]
    assert events[0] == "before"
    assert events[-1] == "after"


def test_the_trace_file_is_capped(exporter: InMemorySpanExporter, tmp_path: Path) -> None:
    for _ in range(50):
        with telemetry.server_scope("x.Y/Z", SAMPLED):
            pass
    path = tmp_path / "traces" / "toy.jsonl"
    file = TraceFile(str(path), "toy", bytes_max=4000)
    for span in exporter.get_finished_spans():
        file.export([span])
    kept = [path, path.with_name("toy.jsonl.1")]
    assert all(0 < each.stat().st_size <= 4000 for each in kept)
    entries = [json.loads(line) for each in kept for line in each.read_text().splitlines()]
    assert {entry["service"] for entry in entries} == {"toy"}
    assert {entry["trace_id"] for entry in entries} == {SAMPLED[3:35]}
