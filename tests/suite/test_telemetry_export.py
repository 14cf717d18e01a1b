"""What a collector sees of the running suite: connected traces under load, contracted names, no content."""

import json
import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from perron.cli import samples
from perron.cli.demo import gateway
from perron.cli.samples import Exchange
from perron.cli.suite import Suite
from tests.collector import Collector, roots
from tests.suite.command import perron

NAMES = yaml.safe_load(
    (Path(__file__).parents[2] / "deploy" / "otel" / "names.yaml").read_text(encoding="utf-8")
)
CANARY = secrets.token_hex(16)


class Observed:
    """What was played, and what the collector has of it."""

    def __init__(
        self, collector: Collector, played: list[gateway.Played], keys: list[str], logs: str
    ) -> None:
        self.collector = collector
        self.played = played
        self.keys = keys
        self.logs = logs


@pytest.fixture(scope="module")
def observed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Observed]:
    """160 exchanges at 32 in flight, every eighth sampled, then a suite that ended and so has flushed all."""
    exchanges = [
        Exchange(
            **{**_fields(one), "question": f"{CANARY} {one.question}", "answer": f"{one.answer} {CANARY}"}
        )
        for one in samples.exchanges(160)
    ]
    with Collector() as collector:
        environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint}
        folder = tmp_path_factory.mktemp("observed")
        with Suite(folder, environment=environment) as suite:
            created = perron(
                "orgs",
                "create",
                "Observed",
                "--email",
                "o@acme.example",
                "--accept-terms",
                "--print-key",
                PERRON_VAR=str(folder),
            )
            key = created.answer.strip()
            played = gateway.play(
                suite.endpoints["admission"], suite.gateway_key, key, exchanges, advance=lambda: None
            )
            keys = [key, suite.gateway_key, suite.operator_key]
        logs = "".join(path.read_text(encoding="utf-8") for path in (folder / "logs").iterdir())
        yield Observed(collector, played, keys, logs)


def test_every_sampled_admit_is_one_connected_tree_through_four_services(observed: Observed) -> None:
    assert not gateway.errors(observed.played)
    traced = [one.trace_id for one in observed.played if one.trace_id]
    assert len(traced) == 20
    for trace_id in traced:
        spans = observed.collector.spans_of(trace_id)
        assert {span.service for span in spans} == {
            "perron-admission",
            "perron-identity",
            "perron-quotas",
            "perron-governance",
        }
        # The gateway's own span is the parent of the one root that the collector knows.
        assert len({span.parent_id for span in roots(spans)}) == 1, trace_id


def test_shared_work_is_linked_and_not_lost(observed: Observed) -> None:
    known = {(span.trace_id, span.span_id) for span in observed.collector.spans}
    links = [link for span in observed.collector.spans for link in span.links]
    assert links, "nobody shared a batch, so nothing was shown"
    assert set(links) <= known


def test_transactions_have_spans(observed: Observed) -> None:
    assert any(
        span.name == "sqlite write" and span.attributes["db.system.name"] == "sqlite"
        for span in observed.collector.spans
    )


def test_every_name_is_one_of_the_contract(observed: Observed) -> None:
    fixed = {name for names in NAMES["spans"] for name in names.split(", ")}
    unknown = {
        span.name
        for span in observed.collector.spans
        if span.name not in fixed
        and span.name.removeprefix("ask ") not in fixed
        and not re.fullmatch(r"(perron\.api|grpc)\.[a-z0-9.]+\.[A-Za-z]+/[A-Za-z]+", span.name)
    }
    assert not unknown
    assert set().union(*(span.attributes for span in observed.collector.spans)) <= set(
        NAMES["span_attributes"]
    )
    assert observed.collector.metric_names
    assert {name for name in observed.collector.metric_names if not name.startswith("otel.")} <= set(
        NAMES["metrics"]
    )


def test_no_content_key_or_passport_is_exported_or_logged(observed: Observed) -> None:
    exported = b"".join(observed.collector.raw)
    for forbidden in (CANARY, *observed.keys, "eyJhbGciOiJFZERTQSI"):
        assert forbidden.encode() not in exported
        assert forbidden not in observed.logs


def test_logs_are_one_json_object_a_line(observed: Observed) -> None:
    entries: list[dict[str, Any]] = [json.loads(line) for line in observed.logs.splitlines()]
    assert {entry["event"] for entry in entries} >= {"serving", "stopping"}


def _fields(one: Exchange) -> dict[str, Any]:
    return {name: getattr(one, name) for name in one.__dataclass_fields__}
