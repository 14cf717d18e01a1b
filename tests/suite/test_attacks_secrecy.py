"""What callers send is seen by nobody who reads logs, spans, metrics or errors, whatever fails meanwhile."""

import re
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.descriptor import FieldDescriptor

from perron.chassis.interceptors import validation
from perron.cli.demo import search
from perron.cli.listening import SERVICES
from perron.cli.suite import STORES, Suite
from tests.attacks.requests import Requests, alternatives
from tests.attacks.tuning import ENVIRONMENT
from tests.attacks.wire import Answer
from tests.attacks.world import World
from tests.collector import Collector
from tests.rpcs import RPCS, Rpc, is_map, is_repeated

Field = FieldDescriptor
STEM = "canarysings"
"""How every canary begins."""


@dataclass(slots=True)
class Watched:
    """A suite at its most talkative, and everything that it says."""

    world: World
    collector: Collector
    canaries: dict[str, str] = field(default_factory=dict)
    """Each canary with where it was put."""
    said: list[tuple[str, bytes]] = field(default_factory=list)
    """What callers were told, with what they had asked."""
    codes: Counter[str] = field(default_factory=Counter)

    def call(self, rpc: Rpc, request: Any) -> Answer:
        """Calls as somebody the contract lets in, and listens to a refusal."""
        key = None if rpc.access.public else self.world.caller(rpc.access).secret
        trace = [("traceparent", f"00-{len(self.said) + 1:032x}-{1:016x}-01")]
        answer = self.world.wire.call(rpc, request, key, metadata=trace, timeout=7)
        self.codes[answer.code] += 1
        self.said.append((str(rpc), (answer.message + str(answer.trailing)).encode()))
        return answer

    def canary(self, where: str) -> str:
        """A text that nothing else could have made, put down with where it goes."""
        made = f"{STEM}{len(self.canaries)}x"
        self.canaries[made] = where
        return made


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    with Collector() as collector:
        environment = ENVIRONMENT | {
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint,
            "OTEL_BSP_SCHEDULE_DELAY": "200",
        }
        for name in SERVICES:
            environment |= {
                f"PERRON_{name.upper()}_LOG_LEVEL": "DEBUG",
                f"PERRON_{name.upper()}_TRACE_RATIO": "1",
            }
        with Suite(tmp_path_factory.mktemp("watched"), environment=environment) as suite:
            world = World(suite)
            yield Watched(world, collector)
            world.wire.close()


def texts(message: Any, path: str) -> Iterator[tuple[Any, Field, str]]:
    """Every text and piece of content in a message, at any depth: its holder, the field, the way there."""
    for each in message.DESCRIPTOR.fields:
        where = f"{path}.{each.name}"
        if is_map(each):
            continue
        if each.message_type is not None:
            held = getattr(message, each.name)
            for part in held if is_repeated(each) else [held] if message.HasField(each.name) else []:
                if part.DESCRIPTOR.full_name.startswith("perron."):
                    yield from texts(part, where)
        elif each.cpp_type == Field.CPPTYPE_STRING and (
            each.containing_oneof is None or message.WhichOneof(each.containing_oneof.name) == each.name
        ):
            yield message, each, where


def marked(watched: Watched, rpc: Rpc, *, valid: bool) -> Iterator[Any]:
    """Requests with a canary in their texts: one for each text, and one with all that may be any text."""
    requests = Requests(watched.world)
    for alternative in alternatives(rpc):
        together = requests.valid(rpc, alternative=alternative)
        for number in range(len(list(texts(together, str(rpc))))):
            request = requests.valid(rpc, alternative=alternative)
            for target in (request, together):
                holder, each, where = list(texts(target, str(rpc)))[number]
                before = getattr(holder, each.name)
                before = list(before) if is_repeated(each) else before
                put(holder, each, watched.canary(where))
                if target is together and (is_broken(rpc, together) or each.name in NEEDED):
                    put(holder, each, before)
            if not valid:
                yield request
        yield together


NEEDED = {
    "credential",
    "document",
    "name",
    "passport",
    "passports",
    "plan",
    "secret",
    "text_digest",
    "version",
}
"""Texts without which a call goes no further than its first question."""


def put(holder: Any, each: Field, value: Any) -> None:
    if is_repeated(each):
        values = value if isinstance(value, list) else [value]
        del getattr(holder, each.name)[:]
        getattr(holder, each.name).extend(values)
    else:
        as_bytes = each.type == Field.TYPE_BYTES and isinstance(value, str)
        setattr(holder, each.name, value.encode() if as_bytes else value)


def is_broken(rpc: Rpc, request: Any) -> bool:
    checked = [request, *(request.items if rpc.batch_item is not None else ())]
    return any(validation.check(message) is not None for message in checked)


def tables(path: Path) -> list[str]:
    with closing(sqlite3.connect(path, timeout=10)) as connection:
        rows = connection.execute(
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
        )
        return [name for (name,) in rows]


@contextmanager
def without(path: Path, table: str) -> Iterator[None]:
    """Takes a table from under a running service, so that whoever needs it fails there."""

    def rename(old: str, new: str) -> None:
        with closing(sqlite3.connect(path, timeout=10)) as connection:
            connection.execute("PRAGMA legacy_alter_table = ON")  # what refers to it is to miss it
            connection.execute(f'ALTER TABLE "{old}" RENAME TO "{new}"')

    rename(table, f"hidden_{table}")
    try:
        yield
    finally:
        rename(f"hidden_{table}", table)


def test_canaries_sing_in_no_log_span_metric_or_error(watched: Watched) -> None:
    for rpc in RPCS:
        for request in marked(watched, rpc, valid=False):
            watched.call(rpc, request)
    for service in STORES:
        store = watched.world.suite.folder / f"{service}.sqlite"
        for table in tables(store):
            prepared = [
                (rpc, each)
                for rpc in RPCS
                if rpc.host == service
                for each in marked(watched, rpc, valid=True)
            ]
            with without(store, table):
                for rpc, request in prepared:
                    watched.call(rpc, request)
    asked = [rpc for rpc in RPCS if rpc.host == "admission"]
    prepared = [(rpc, each) for rpc in asked for each in marked(watched, rpc, valid=True)]
    watched.world.suite.kill("governance")
    for rpc, request in prepared:
        watched.call(rpc, request)
    passport = watched.world.passport(watched.world.tenant)
    watched.world.suite.stop()

    told = ("instructions", "examples.input", "examples.output", "tools.function.description", "description")
    put = {f"AgentService.CreateAgent.configuration.{name}" for name in told}
    put |= {f"JobService.CreateJob.agent.configuration.{name}" for name in told}
    put |= {"FileService.UploadFile.chunk", "WorkerService.WriteArtifact.chunk"}
    assert put <= set(watched.canaries.values())
    assert watched.codes["OK"] > 100, watched.codes
    assert watched.codes["UNAVAILABLE"] > 50, watched.codes
    assert any(place == "collector" and b"perron.api" in text for place, text in aloud(watched))
    assert heard(watched, passport) == {}
    log = watched.world.suite.folder / "logs" / "planted.log"
    for form in search.forms(watched.canary("planted"))["base64"]:
        log.write_bytes(form)
        assert heard(watched, passport) == {"a canary": "planted.log"}, "the search would have found nothing"


def heard(watched: Watched, passport: str) -> dict[str, str]:
    """Canaries and secrets that were said aloud: where each was put, and where it was heard."""
    world = watched.world
    people = [*world.callers, world.other.admin]
    needles = {person.secret: f"the key of {person}" for person in people}
    needles[passport.split(".", maxsplit=1)[0] + "."] = "a passport"  # all begin alike
    needles["ptk_"] = "the key of a transfer"  # as do these
    needles[STEM] = "a canary"
    wanted = {
        what: [form for kind in search.forms(text).values() for form in kind]
        for text, what in needles.items()
    }
    found = {}
    for place, text in aloud(watched):
        for what, forms in wanted.items():
            if any(form in text for form in forms):
                sung = re.search(rf"{STEM}\d+x".encode(), text)
                found[watched.canaries[sung[0].decode()] if sung else what] = place
    return found


def aloud(watched: Watched) -> Iterator[tuple[str, bytes]]:
    """Everything that operators and callers can read."""
    for folder in ("logs", "traces"):
        for path in (watched.world.suite.folder / folder).iterdir():
            for line in path.read_bytes().splitlines():
                yield path.name, line
    for raw in watched.collector.raw:
        yield "collector", raw
    yield from watched.said
