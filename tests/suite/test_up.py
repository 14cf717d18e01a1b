"""`perron up` and what it starts, as processes."""

import json
import os
import select
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from perron.chassis.errors import SetupError
from perron.chassis.testing import postgresql_database
from perron.cli.listening import SERVICES
from perron.cli.suite import STORES, Suite
from perron.cli.training import TRAINER
from tests.extras import HAS_TRAINER
from tests.suite.command import environment, perron


@contextmanager
def running(
    folder: Path, *arguments: str, trainer: bool = False
) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """`perron up` on free ports, and what it announced."""
    process = subprocess.Popen(
        [sys.executable, "-m", "perron.cli", "up", "--var", str(folder), "--port-base", "0", *arguments],
        env=environment(TRAINER="1" if trainer else "0"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        announced = ""
        while not announced.endswith("}\n"):
            line = process.stdout.readline()
            assert line, process.communicate()[1]
            announced += line
        yield process, json.loads(announced)
    finally:
        if process.poll() is None:
            process.terminate()
        process.communicate(timeout=60)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_up_keeps_its_keys_private_and_drains_on_ctrl_c(tmp_path: Path) -> None:
    with running(tmp_path, "--json") as (process, announced):
        assert set(announced["endpoints"]) == set(SERVICES)
        created = perron(
            "orgs",
            "create",
            "Acme",
            "--email",
            "ada@acme.example",
            "--accept-terms",
            "--json",
            PERRON_VAR=str(tmp_path),
        )
        assert created.status == 0, created.notes
        assert "as the operator key of" in created.notes
        secret = created.parsed["secret"]
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    assert not any(map(alive, announced["pids"].values()))
    for name in (
        "credentials.json",
        "keys/operator.key",
        "keys/admission.key",
        "keys/root",
        "keys/agents-root",
        "keys/sealing",
    ):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600, name
    assert secret not in (tmp_path / "credentials.json").read_text(encoding="utf-8")

    # The second start finds everything as it was left.
    kept = (tmp_path / "credentials.json").read_text(encoding="utf-8")
    with running(tmp_path, "--json"):
        assert (tmp_path / "credentials.json").read_text(encoding="utf-8") == kept
        admitted = perron("admit", "Still here?", "--json", PERRON_VAR=str(tmp_path), PERRON_API_KEY=secret)
        assert admitted.status == 0, admitted.notes
        assert admitted.parsed["completed"]["recorded"] is True


def test_a_port_in_use_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        refused = perron("up", "--var", str(tmp_path), "--port-base", str(port - 2))
    assert refused.status == 2
    assert refused.answer == ""
    assert refused.notes.strip().splitlines() == [
        f"perron: port {port} (quotas) is in use: end what listens there, or change --port-base"
    ]
    assert not (tmp_path / "identity.sqlite").exists()


def test_a_wrong_setting_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    refused = perron("up", "--var", str(tmp_path), "--port-base", "0", PERRON_IDENTITY_PEPER_FILE="typo")
    assert refused.status == 2
    assert refused.notes.strip().splitlines() == [
        "perron: identity did not start: PERRON_IDENTITY_PEPER_FILE: there is no such setting"
    ]


def test_a_store_that_is_served_cannot_be_served_twice(suite: Suite) -> None:
    with pytest.raises(SetupError, match="another process serves"):
        Suite(suite.folder).start()
    assert set(suite.pids) == set(SERVICES)


def test_a_service_that_dies_ends_up_with_its_last_words(tmp_path: Path) -> None:
    with running(tmp_path, "--json") as (process, announced):
        os.kill(announced["pids"]["quotas"], signal.SIGKILL)
        _, notes = process.communicate(timeout=60)
        assert process.returncode == 1
        assert "quotas ended with status -9" in notes
        assert not any(map(alive, announced["pids"].values()))


@pytest.mark.skipif(not HAS_TRAINER, reason="the extra `trainer` is not installed")
def test_a_trainer_that_dies_is_told_of_and_the_services_go_on(tmp_path: Path) -> None:
    with running(tmp_path, "--json", trainer=True) as (process, announced):
        assert set(announced["pids"]) == {*SERVICES, TRAINER}
        assert (tmp_path / "models" / "tiny" / "model.safetensors").is_file()
        os.kill(announced["pids"][TRAINER], signal.SIGKILL)
        assert process.stderr is not None
        told = next(line for line in process.stderr if "trainer" in line)
        created = perron(
            "orgs", "create", "A", "--email", "a@a.example", "--accept-terms", PERRON_VAR=str(tmp_path)
        )
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    assert "trainer ended with status -9" in told
    assert "perron trainer" in told
    assert created.status == 0, created.notes


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="the end of a stranger is waited for as on Linux")
def test_services_end_with_an_up_that_is_killed(tmp_path: Path) -> None:
    with running(tmp_path, "--json") as (process, announced):
        ends = {name: os.pidfd_open(pid) for name, pid in announced["pids"].items()}
        process.kill()
        assert set(SERVICES) <= set(ends)
        for name, end in ends.items():
            assert select.select([end], [], [], 30)[0], f"{name} goes on"
            os.close(end)
    for address in announced["endpoints"].values():
        with socket.socket() as free:
            free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            free.bind(("127.0.0.1", int(address.partition(":")[2])))


def test_the_suite_runs_on_postgresql_migrated_by_itself(tmp_path: Path) -> None:
    stores = {
        f"PERRON_{name.upper()}_DATABASE_URL": postgresql_database(f"perron_up_{tmp_path.name[-20:]}_{name}")
        for name in STORES
    }
    with Suite(tmp_path, environment=stores) as own:
        folder = str(own.folder)
        created = perron(
            "orgs",
            "create",
            "Acme",
            "--email",
            "a@acme.example",
            "--accept-terms",
            "--print-key",
            PERRON_VAR=folder,
        )
        key = created.answer.strip()
        admitted = perron("admit", "Where am I?", "--json", PERRON_VAR=folder, PERRON_API_KEY=key)
        assert admitted.status == 0, admitted.notes
        assert admitted.parsed["completed"]["recorded"] is True
        drawn = perron("trace", "last", PERRON_VAR=folder)
        assert "postgresql write" in drawn.answer
    assert not list(tmp_path.glob("*.sqlite"))


def test_a_killed_service_comes_back_where_it_was(tmp_path: Path) -> None:
    with Suite(tmp_path) as own:
        target = own.endpoints["governance"]
        own.kill("governance")
        assert "governance" not in own.pids
        assert own.died()["governance"].startswith("governance ended with status -9")
        own.restart("governance")
        assert own.endpoints["governance"] == target
        assert set(own.pids) == set(SERVICES)


def test_commands_without_a_suite_say_what_is_missing(tmp_path: Path) -> None:
    refused = perron("orgs", "list", PERRON_VAR=str(tmp_path))
    assert refused.status == 2
    assert "start the suite with `perron up`" in refused.notes
    assert refused.answer == ""


def test_a_refusal_is_exit_code_1_with_its_reason_and_trace(suite: Suite) -> None:
    folder = str(suite.folder)
    refused = perron(
        "orgs", "change-plan", "org_00000000000000000000000000", "gold", "--json", PERRON_VAR=folder
    )
    assert refused.status == 1
    assert refused.parsed["error"]["reason"] in {"RESOURCE_NOT_FOUND", "PLAN_UNKNOWN"}
    assert len(refused.parsed["trace_id"]) == 32
    typo = perron("keys", "list", PERRON_VAR=folder, PERRON_API_KEY="prn_live_typo")
    assert typo.status == 1
    assert "CREDENTIAL_INVALID" in typo.notes
    assert "as PERRON_API_KEY" in typo.notes


def test_the_data_files_that_ship_fit_each_other() -> None:
    checked = perron("check", "--json")
    assert checked.status == 0, checked.answer
    files = {"plans", "documents", "tiers", "rules", "models", "bases to train", "distributors"}
    assert {row["file"] for row in checked.parsed} == files


def test_a_plan_whose_tier_is_missing_is_found(tmp_path: Path) -> None:
    tiers = tmp_path / "tiers.yaml"
    tiers.write_text("tiers:\n  - name: free\n    limits: []\n", encoding="utf-8")
    checked = perron("check", "--json", PERRON_QUOTAS_TIERS_FILE=str(tiers))
    assert checked.status == 1
    assert {
        "file": "plans",
        "holds": "scale-1",
        "fault": "its tier scale-1 is not among the tiers",
    } in checked.parsed


def test_an_entitlement_that_nobody_reads_is_found(tmp_path: Path) -> None:
    plans = tmp_path / "plans.yaml"
    odd = {"agent_channels": "api,caht", "agent_sharing": "everybody", "fine_tuning": "yes"}
    odd |= {"fine_tuning_jobs": "2", "fine_tuning_bytes": "10 GiB"}
    plan = {
        "name": "free",
        "display_name": "Free",
        "terms_class": "FREE",
        "tier": "free",
        "entitlements": odd,
    }
    plans.write_text(json.dumps({"plans": [plan]}), encoding="utf-8")
    checked = perron("check", "--json", PERRON_IDENTITY_PLANS_FILE=str(plans))
    assert checked.status == 1
    fault = (
        "gives nothing by agent_channels caht, agent_sharing, which is workspace or none, "
        "fine_tuning_bytes, which is a number"
    )
    assert {"file": "plans", "holds": "free", "fault": fault} in checked.parsed
