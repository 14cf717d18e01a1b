import os
import socket
import stat
from pathlib import Path

import pytest

from perron.chassis.errors import SetupError
from perron.cli import listening, suite
from perron.cli.listening import SERVICES
from perron.cli.suite import PEERS, STOP_ORDER, Suite
from perron.cli.training import TRAINER


def test_a_persons_own_key_is_not_handed_to_the_services(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERRON_API_KEY", "prn_live_mine")
    monkeypatch.setenv("PERRON_VAR", "/somewhere")
    monkeypatch.setenv("PERRON_QUOTAS_LOG_LEVEL", "DEBUG")
    inherited = suite._inherited()
    assert "PERRON_API_KEY" not in inherited
    assert "PERRON_VAR" not in inherited
    assert inherited["PERRON_QUOTAS_LOG_LEVEL"] == "DEBUG"
    assert inherited["PATH"] == os.environ["PATH"]


def test_each_service_is_told_of_those_it_asks_and_of_no_other_services_settings(tmp_path: Path) -> None:
    planned = Suite(tmp_path, environment={"PERRON_QUOTAS_TIERS_FILE": "tiers", "OTEL_TRACES_SAMPLER": "x"})
    planned.endpoints = {name: f"127.0.0.1:{index}" for index, name in enumerate(SERVICES)}
    for service in (*SERVICES, TRAINER):
        told = planned.environment(service)
        targets = {name for name in told if name.endswith("_TARGET")}
        assert targets == {
            f"PERRON_{service.upper()}_{peer.upper()}_TARGET" for peer in PEERS.get(service, ())
        }
        assert ("PERRON_QUOTAS_TIERS_FILE" in told) == (service == "quotas")
        assert told["OTEL_TRACES_SAMPLER"] == "x"


def test_a_service_ends_before_those_it_asks_or_with_those_that_ask_each_other() -> None:
    order = {name: place for place, names in enumerate(STOP_ORDER) for name in names}
    assert sorted(order) == sorted((*SERVICES, TRAINER))
    for service, peers in PEERS.items():
        for peer in peers:
            mutual = service in PEERS.get(peer, ())
            assert order[service] == order[peer] if mutual else order[service] < order[peer]


def test_free_ports_are_drawn_apart_and_a_taken_one_is_named() -> None:
    assert len(set(listening.addresses(SERVICES, 0).values())) == len(SERVICES)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(SetupError, match=f"port {port} \\(admission\\) is in use"):
            listening.addresses(SERVICES, port)


def test_a_private_file_is_readable_by_its_owner_alone_and_never_half_written(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    suite.write_private(path, "first")
    suite.write_private(path, "second")
    assert path.read_text(encoding="utf-8") == "second"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]
