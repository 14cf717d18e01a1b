"""Authors who write at the same instant, to several replicas, on a service that is killed, lose nothing."""

import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import pairwise

import grpc
import pytest

from perron.api.agents.v1 import agent_pb2, configuration_pb2
from perron.chassis.errors import SetupError
from perron.chassis.testing import BOTH, postgresql_database
from perron.cli import listening
from perron.cli.connection import Connection, Credential, RefusedError
from perron.cli.demo.team import Member
from perron.cli.suite import Suite
from tests import scale
from tests.attacks.faults import integrity
from tests.attacks.wire import OPTIONS
from tests.suite.builders import configuration, joined
from tests.suite.customers import customers

AUTHORS = 8
DEPTH_MAX = 5
START_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Replicas:
    """Where agents is served from one store, and authors who ask one each, in turn."""

    suite: Suite
    targets: list[str]
    stack: ExitStack

    def authors(self, count: int = AUTHORS) -> list[Member]:
        """One author on as many connections; the first is on the first replica."""
        with customers(self.suite) as made:
            bo = joined(made, made.new(), "bo")
        found = []
        for number in range(count):
            connection = Connection(Credential(bo.secret, "a test"), self.suite.endpoints)
            # As others wait for a service that was killed, a test need not.
            target = self.targets[number % len(self.targets)]
            connection._channels["agents"] = grpc.insecure_channel(target, OPTIONS)
            found.append(Member(bo.member_id, bo.secret, self.stack.enter_context(connection)))
        return found


@pytest.fixture(params=BOTH, scope="module")
def replicas(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replicas]:
    with ExitStack() as opened:
        if request.param == "sqlite":
            suite: Suite = request.getfixturevalue("suite")
            yield Replicas(suite, [suite.endpoints["agents"]], opened)
            return
        folder = tmp_path_factory.mktemp("replicas")
        name = f"perron_agents_{os.environ.get('PYTEST_XDIST_WORKER', 'main')}_{folder.name}".replace(
            "-", "_"
        )
        url = {"PERRON_AGENTS_DATABASE_URL": postgresql_database(name)}
        suite = opened.enter_context(Suite(folder, environment=url))
        second = opened.enter_context(replica(suite))
        yield Replicas(suite, [suite.endpoints["agents"], second], opened)


@contextmanager
def replica(suite: Suite) -> Iterator[str]:
    """Another process on the store of a suite's agents."""
    target = listening.addresses(["agents"], 0)["agents"]
    own: Mapping[str, str] = os.environ | suite.environment("agents")
    process = subprocess.Popen(
        [sys.executable, "-m", "perron.agents"],
        env={**own, "PERRON_AGENTS_LISTEN_ADDRESS": target},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        end = time.monotonic() + START_SECONDS
        with grpc.insecure_channel(target) as channel:
            while not listening.is_serving(channel) and time.monotonic() < end:
                time.sleep(0.05)
        yield target
    finally:
        process.terminate()
        process.wait()


def at_once(calls: list[Callable[[], agent_pb2.Agent]]) -> list[agent_pb2.Agent | str]:
    """What each call answers, or the reason of its refusal; all begin together."""
    line = threading.Barrier(len(calls))

    def one(call: Callable[[], agent_pb2.Agent]) -> agent_pb2.Agent | str:
        line.wait()
        try:
            return call()
        except RefusedError as refused:
            return refused.error.reason

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(one, calls))


def writing(author: Member, agent_id: str, text: str, etag: str = "") -> Callable[[], agent_pb2.Agent]:
    return lambda: author.write(agent_id, configuration(text), etag)


def test_of_authors_with_one_etag_one_wins_and_no_version_is_lost(replicas: Replicas) -> None:
    authors = replicas.authors()
    agent = authors[0].create("Desk", configuration("first"))
    written = {1: "first"}
    rounds = scale.times(10, 300)
    for number in range(rounds):
        calls = [
            writing(author, agent.agent_id, f"{number} {place}", agent.etag)
            for place, author in enumerate(authors)
        ]
        outcomes = at_once(calls)
        ((place, agent),) = [
            (place, one) for place, one in enumerate(outcomes) if isinstance(one, agent_pb2.Agent)
        ]
        assert Counter(one for one in outcomes if isinstance(one, str)) == {"ETAG_STALE": AUTHORS - 1}
        written[agent.latest_version] = f"{number} {place}"

    assert list(written) == list(range(1, rounds + 2))
    assert read(authors[-1], agent.agent_id, written) == written
    scale.record("of authors with one etag one wins", rounds=rounds, replicas=len(replicas.targets))


def test_authors_without_an_etag_all_write_versions_of_their_own(replicas: Replicas) -> None:
    authors = replicas.authors()
    agent = authors[0].create("Desk", configuration("first"))
    for number in range(scale.times(4, 100)):
        texts = [f"{number} {place}" for place in range(AUTHORS)]
        outcomes = at_once(
            [writing(*each) for each in zip(authors, [agent.agent_id] * AUTHORS, texts, strict=True)]
        )
        written = {
            one.latest_version: text
            for one, text in zip(outcomes, texts, strict=True)
            if isinstance(one, agent_pb2.Agent)
        }
        assert len(written) == AUTHORS
        assert read(authors[-1], agent.agent_id, written) == written


def read(member: Member, agent_id: str, versions: Mapping[int, str]) -> dict[int, str]:
    return {number: member.version(agent_id, number).configuration.instructions for number in versions}


def test_authors_together_close_no_circle_of_handoffs_and_make_no_chain_too_long(replicas: Replicas) -> None:
    """Each change is harmless alone; all of them would be a ring, or a chain of seven."""
    authors = replicas.authors(DEPTH_MAX + 2)
    refused: Counter[str] = Counter()
    rounds = scale.times(6, 200)
    for number in range(rounds):
        agents = [
            author.create(f"{number} {place}", configuration()).agent_id
            for place, author in enumerate(authors)
        ]
        ring = 2 + number % (len(authors) - 1)
        targets = {agents[place]: agents[(place + 1) % ring] for place in range(ring)}
        if number % 2:  # a chain through all of them
            targets = dict(pairwise(agents))
        outcomes = at_once(
            [handing(author, *pair) for author, pair in zip(authors, targets.items(), strict=False)]
        )
        refused.update(one for one in outcomes if isinstance(one, str))
        kept = {agent: set(authors[0].version(agent, 0).configuration.handoff_agent_ids) for agent in agents}
        assert longest(kept) <= DEPTH_MAX
        assert sum(map(len, kept.values())) == sum(not isinstance(one, str) for one in outcomes)
    assert set(refused) == {"HANDOFF_CYCLE", "HANDOFF_TOO_DEEP"}
    scale.record("authors together close no circle of handoffs", rounds=rounds, refused=refused.total())


def handing(author: Member, agent_id: str, target_id: str) -> Callable[[], agent_pb2.Agent]:
    told = configuration_pb2.AgentConfiguration(model="small-1", handoff_agent_ids=[target_id])
    return lambda: author.write(agent_id, told)


def longest(handoffs: Mapping[str, set[str]]) -> int:
    """The longest chain of handoffs; beyond all bounds where there is a circle."""
    depth, level = 0, set(handoffs)
    while level := {target for agent in level for target in handoffs[agent]}:
        depth += 1
        if depth > len(handoffs):
            return depth
    return depth


@dataclass(slots=True)
class Ledger:
    """What was acknowledged while the service was killed again and again."""

    versions: list[tuple[str, int, str]] = field(default_factory=list)
    """Agent, version, and what it was told."""
    refused: Counter[str] = field(default_factory=Counter)


def test_no_acknowledged_version_is_lost_when_agents_is_killed_under_load(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    ledger, stop = Ledger(), threading.Event()
    kills = scale.times(4, 100)
    with Suite(tmp_path_factory.mktemp("killed")) as suite, ExitStack() as opened:
        authors = Replicas(suite, [suite.endpoints["agents"]], opened).authors()
        agents = [
            author.create(f"agent {place}", configuration()).agent_id for place, author in enumerate(authors)
        ]

        def write(place: int) -> None:
            for number in range(1_000_000):
                if stop.is_set():
                    return
                text = f"{place} {number}"
                try:
                    agent = authors[place].write(agents[place], configuration(text))
                    ledger.versions.append((agent.agent_id, agent.latest_version, text))
                except RefusedError as refused:
                    ledger.refused[refused.error.code] += 1
                except SetupError:  # nobody listens at this instant
                    ledger.refused["UNAVAILABLE"] += 1
                    time.sleep(0.02)

        with ThreadPoolExecutor(AUTHORS) as pool:
            writers = [pool.submit(write, place) for place in range(AUTHORS)]
            draw = random.Random(7)
            for _ in range(kills):
                time.sleep(draw.uniform(0.1, 0.4))  # any instant
                suite.kill("agents")
                suite.restart("agents")
            stop.set()
            for writer in writers:
                writer.result()

        assert set(ledger.refused) <= {"UNAVAILABLE", "DEADLINE_EXCEEDED"}, ledger.refused
        assert len(ledger.versions) > AUTHORS
        assert len({one[:2] for one in ledger.versions}) == len(ledger.versions)
        grpc.channel_ready_future(authors[0].connection._channels["agents"]).result(START_SECONDS)
        for agent_id, version, text in ledger.versions:
            assert authors[0].version(agent_id, version).configuration.instructions == text
        suite.terminate("agents")
        assert integrity(suite.folder / "agents.sqlite") == "ok"
    scale.record("no acknowledged version is lost", kills=kills, versions=len(ledger.versions))
