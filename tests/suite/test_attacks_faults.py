"""When a peer, a store or the disk is gone, the suite says so, and it loses nothing it acknowledged."""

import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from perron.api.admission.v1 import admission_service_pb2 as admission
from perron.api.governance.v1 import decision_service_pb2, record_service_pb2
from perron.chassis.testing import postgresql_database
from perron.cli.listening import SERVICES
from perron.cli.suite import STORES, Suite
from tests import scale
from tests.attacks.faults import (
    PATIENCE_SECONDS,
    admit,
    database_of,
    eventually,
    full,
    gone,
    integrity,
    locked,
)
from tests.attacks.requests import Requests
from tests.attacks.tuning import ENVIRONMENT
from tests.attacks.wire import assert_refused_properly, named
from tests.attacks.world import World
from tests.rpcs import RPCS

ASKED_BY_NAME = ("agents", "finetuning")
"""Who is asked only where an agent, or a fine-tuned model, is named."""
PEERS = ("identity", "quotas", "governance", *ASKED_BY_NAME)
MUTATION = {
    "identity": "WorkspaceService.CreateWorkspace",
    "quotas": "LimitService.SetCap",
    "governance": "DirectiveService.SetTrainingPreference",
    "agents": "AgentService.CreateAlias",
    "finetuning": "FileService.CreateUpload",
}
"""One write of each store."""


@pytest.fixture(scope="module")
def fragile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A world of our own, whose services may be killed."""
    with Suite(tmp_path_factory.mktemp("fragile"), environment=ENVIRONMENT) as suite:
        world = World(suite)
        yield world
        world.wire.close()


@pytest.mark.parametrize("peer", PEERS)
def test_a_peer_that_is_gone_is_unavailable_and_missed_by_name(peer: str, fragile: World) -> None:
    assert eventually(lambda: admit(fragile, through=peer)).code == "OK"
    others = [name for name in ("", *ASKED_BY_NAME) if peer in ASKED_BY_NAME and name != peer]
    assert [admit(fragile, through=other).code for other in others] == ["OK"] * len(others)
    fragile.suite.kill(peer)
    try:
        assert [admit(fragile, through=other).code for other in others] == ["OK"] * len(others)
        for _ in range(5):
            start = time.monotonic()
            refused = admit(fragile, timeout=5, through=peer)
            assert_refused_properly(refused, "UNAVAILABLE")
            assert refused.reason == "PEER_UNAVAILABLE"
            assert refused.error is not None
            assert refused.error.metadata["peer"] == peer
            assert time.monotonic() - start < 5
    finally:
        fragile.suite.restart(peer)

    assert eventually(lambda: admit(fragile, through=peer)).code == "OK"


def test_without_identity_nobody_is_let_in_and_nobody_is_called_a_stranger(fragile: World) -> None:
    requests = Requests(fragile)
    made = [(rpc, requests.valid(rpc)) for rpc in RPCS if rpc.host != "identity"]
    fragile.suite.kill("identity")
    try:
        time.sleep(1.1)  # the answer for a service's own key may be remembered for a second
        for rpc, request in made:
            if rpc.access.public or rpc.streams:
                continue
            refused = fragile.wire.call(rpc, request, fragile.caller(rpc.access).secret, timeout=5)
            assert refused.code == "UNAVAILABLE", f"{rpc}: {refused}"
            assert refused.reason == "PEER_UNAVAILABLE", f"{rpc}: {refused}"
    finally:
        fragile.suite.restart("identity")
    assert eventually(lambda: admit(fragile)).code == "OK"


@pytest.mark.parametrize("peer", PEERS)
def test_a_peer_that_is_two_seconds_slow_is_waited_for_within_the_deadline(peer: str, fragile: World) -> None:
    assert eventually(lambda: admit(fragile, through=peer)).code == "OK"
    os.kill(fragile.suite.pids[peer], signal.SIGSTOP)
    wake = threading.Timer(2.0, os.kill, (fragile.suite.pids[peer], signal.SIGCONT))
    wake.start()
    try:
        start = time.monotonic()
        if peer in ASKED_BY_NAME:  # who hangs holds nobody up who names nothing of it
            assert admit(fragile, timeout=0.7).code == "OK"
        impatient = admit(fragile, timeout=0.7, through=peer)
        assert impatient.code in {"UNAVAILABLE", "DEADLINE_EXCEEDED"}, str(impatient)
        assert time.monotonic() - start < 1.9
        assert admit(fragile, timeout=PATIENCE_SECONDS, through=peer).code == "OK"
    finally:
        wake.join()


@pytest.mark.parametrize("service", STORES)
def test_a_store_that_is_locked_is_unavailable_within_the_deadline(service: str, fragile: World) -> None:
    rpc = named(MUTATION[service])
    key = fragile.tenant.admin.secret
    assert eventually(lambda: fragile.wire.call(rpc, Requests(fragile).valid(rpc), key)).code == "OK"
    with locked(fragile.suite.folder / f"{service}.sqlite"):
        refused = fragile.wire.call(rpc, Requests(fragile).valid(rpc), key, timeout=PATIENCE_SECONDS)
        assert_refused_properly(refused, "UNAVAILABLE")
        assert refused.reason == "STORE_UNAVAILABLE"

    assert eventually(lambda: fragile.wire.call(rpc, Requests(fragile).valid(rpc), key)).code == "OK"


@pytest.mark.parametrize("service", STORES)
def test_a_full_disk_is_unavailable_and_heals_without_a_restart(service: str, fragile: World) -> None:
    rpc = named(MUTATION[service])
    key = fragile.tenant.admin.secret
    pid = fragile.suite.pids[service]
    assert eventually(lambda: fragile.wire.call(rpc, Requests(fragile).valid(rpc), key)).code == "OK"
    with full(pid, fragile.suite.folder / f"{service}.sqlite"):
        for _ in range(3):
            refused = fragile.wire.call(rpc, Requests(fragile).valid(rpc), key, timeout=PATIENCE_SECONDS)
            assert_refused_properly(refused, "UNAVAILABLE")
            assert refused.reason == "STORE_UNAVAILABLE"
        if service in {"quotas", "governance"}:  # these write at every Admit
            assert admit(fragile).code == "UNAVAILABLE"

    assert eventually(lambda: fragile.wire.call(rpc, Requests(fragile).valid(rpc), key)).code == "OK"
    assert eventually(lambda: admit(fragile)).code == "OK"
    assert fragile.suite.pids[service] == pid


@pytest.fixture(scope="module")
def on_postgresql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A world whose stores are databases of a PostgreSQL."""
    urls = {service: postgresql_database(database_of(service)) for service in STORES}
    environment = ENVIRONMENT | {f"PERRON_{name.upper()}_DATABASE_URL": url for name, url in urls.items()}
    with Suite(tmp_path_factory.mktemp("postgresql"), environment=environment) as suite:
        world = World(suite)
        yield world
        world.wire.close()


@pytest.mark.parametrize("service", STORES)
def test_a_database_server_that_is_gone_is_unavailable_until_it_returns(
    service: str, on_postgresql: World
) -> None:
    world, rpc = on_postgresql, named(MUTATION[service])
    key, operator = world.tenant.admin.secret, world.operator.secret
    assert eventually(lambda: world.wire.call(rpc, Requests(world).valid(rpc), key)).code == "OK"
    assert eventually(lambda: admit(world, through=service)).code == "OK"
    with gone(database_of(service)):
        refused = world.wire.call(rpc, Requests(world).valid(rpc), key, timeout=PATIENCE_SECONDS)
        assert_refused_properly(refused, "UNAVAILABLE")
        assert refused.reason == "STORE_UNAVAILABLE"
        assert admit(world, through=service).code == "UNAVAILABLE"
        if service == "identity":
            listing = named("WorkspaceService.ListWorkspaces")
            assert world.wire.call(listing, Requests(world).valid(listing), operator).code == "UNAVAILABLE"

    assert eventually(lambda: world.wire.call(rpc, Requests(world).valid(rpc), key)).code == "OK"
    assert eventually(lambda: admit(world, through=service)).code == "OK"


@dataclass(slots=True)
class Ledger:
    """What the suite has acknowledged."""

    decisions: set[str] = field(default_factory=set)
    settled: dict[str, admission.CompleteResponse] = field(default_factory=dict)
    codes: Counter[str] = field(default_factory=Counter)


def gateway(world: World, ledger: Ledger, stop: threading.Event) -> None:
    """Admits and completes until it is stopped, and writes down every acknowledgement."""
    key = world.services["gateway"].secret
    while not stop.is_set():
        admitted = admit(world, timeout=5)
        ledger.codes[f"{admitted.code} {admitted.reason}"] += 1
        if admitted.code != "OK":
            time.sleep(0.01)
            continue
        response = admission.AdmitResponse.FromString(admitted.body)
        ledger.decisions.add(response.decision.decision_id)
        request = admission.CompleteRequest(admission_id=response.admission_id, tokens=7)
        request.content.input = request.content.output = response.decision.decision_id.encode()
        completed = world.wire.call(named("AdmissionService.Complete"), request, key, timeout=5)
        ledger.codes[f"{completed.code} {completed.reason}"] += 1
        if completed.code == "OK":
            ledger.settled[response.admission_id] = admission.CompleteResponse.FromString(completed.body)


def test_no_acknowledged_write_is_lost_when_processes_are_killed_under_load(fragile: World) -> None:
    ledger, stop = Ledger(), threading.Event()
    gateways = [threading.Thread(target=gateway, args=(fragile, ledger, stop)) for _ in range(6)]
    for thread in gateways:
        thread.start()
    draw = random.Random(7)
    kills = 0
    try:
        for _ in range(scale.times(1, 50)):
            for service in draw.sample(SERVICES, len(SERVICES)):
                time.sleep(draw.uniform(0.05, 0.3))  # any instant
                fragile.suite.kill(service)
                fragile.suite.restart(service)
                kills += 1
    finally:
        stop.set()
        for thread in gateways:
            thread.join()
    assert eventually(lambda: admit(fragile)).code == "OK"

    allowed = {"OK", "UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED"}
    assert {code.split(" ", maxsplit=1)[0] for code in ledger.codes} <= allowed, ledger.codes
    assert ledger.settled
    assert_decisions_are_kept(fragile, ledger)
    assert_settlements_are_kept(fragile, ledger)
    for service in STORES:
        assert integrity(fragile.suite.folder / f"{service}.sqlite") == "ok"
    scale.record(
        "no acknowledged write is lost when processes are killed under load",
        kills=kills,
        decisions=len(ledger.decisions),
        settled=len(ledger.settled),
    )


def assert_decisions_are_kept(world: World, ledger: Ledger) -> None:
    for decision_id in ledger.decisions:
        wanted = decision_service_pb2.GetDecisionRequest(decision_id=decision_id)
        world.wire.ask("DecisionService.GetDecision", wanted, world.tenant.admin.secret)


def assert_settlements_are_kept(world: World, ledger: Ledger) -> None:
    """What was settled stays settled with what it was settled with, and what was recorded can be read."""
    for admission_id, acknowledged in ledger.settled.items():
        again = admission.CompleteRequest(admission_id=admission_id, tokens=9)
        answer = world.wire.ask("AdmissionService.Complete", again, world.services["gateway"].secret)
        assert answer.settled_tokens == acknowledged.settled_tokens == 7
        if acknowledged.recorded:
            request = record_service_pb2.GetRecordRequest(record_id=acknowledged.record_id, purpose=1)  # type: ignore[arg-type]
            read = world.wire.call(named("RecordService.GetRecord"), request, world.tenant.admin.secret)
            assert read.code == "OK", str(read)
