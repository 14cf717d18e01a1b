"""`perron jobs` and `perron models` as people and scripts use them, also where the network breaks off."""

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from perron.cli.model_copies import HOLDING_FILE
from perron.cli.suite import Suite
from tests.extras import HAS_TRAINER
from tests.suite.command import environment
from tests.suite.cutting import Cutting
from tests.suite.forge import Run, succeeded, uploaded

DESK = """\
display_name: Desk
configuration:
  instructions: "Be kind.\\n"
  tools:
    - function: {name: look_up, parameters_schema: {type: object}}
"""


def test_a_dry_run_says_what_a_job_would_take_and_creates_none(run: Run, file_id: str) -> None:
    asked = ("jobs", "create", "--base", "tiny", "--training-file", file_id, "--dry-run")
    shown = dict(line.split(maxsplit=1) for line in run(*asked).answer.splitlines())
    assert set(shown) == {"tokens", "steps", "duration", "cost"}
    assert shown["cost"].split()[1] == "EUR"
    more = run(*asked, "--set", "epochs=6", "--method", "full", "--json").parsed
    assert more["hyperparameters"]["epochs"] == 6
    assert more["method"] == "TRAINING_METHOD_FULL"
    assert "job_id" not in more
    assert file_id not in run("jobs", "list").answer

    refused = run(*asked, "--set", "epochs=101", "--json")
    assert (refused.status, refused.parsed["error"]["reason"]) == (1, "FIELD_INVALID")
    assert run(*asked, "--set", "epoch=6").status == 2
    assert run(*asked, "--method", "magic").status == 2


@pytest.mark.usefixtures("worker")
def test_a_job_is_held_started_watched_to_its_end_and_drawn(run: Run, file_id: str, tmp_path: Path) -> None:
    made = run("jobs", "create", "--base", "tiny", "--training-file", file_id, "--no-start", "--json").parsed
    job_id = made["job_id"]
    shown = run("jobs", "show", job_id)
    assert "validated" in shown.answer
    unmeasured = run("jobs", "plot", job_id, "-o", str(tmp_path / "none.png"))
    assert (unmeasured.status, (tmp_path / "none.png").exists()) == (1, False)

    watched = run("jobs", "start", job_id, "--watch")
    assert watched.status == 0, watched.notes
    told = [line.split("  ", 1)[1] for line in watched.answer.splitlines()]
    states = [line.split()[0] for line in told if not line.startswith(("step", "checkpoint"))]
    assert states == ["queued", "validating", "validated", "started", "running", "succeeded"]
    assert [line.split(",")[0] for line in told if line.startswith("step 2:")] == [
        "step 2: training loss 0.5000"
    ]
    assert sum(line.startswith("checkpoint at step") for line in told) == 4
    assert told[-1].split()[1].startswith("mdl_")

    events = [json.loads(line) for line in run("jobs", "watch", job_id, "--json").answer.splitlines()]
    assert [int(event["number"]) for event in events] == list(range(1, len(events) + 1))
    assert len(events) == len(told)
    picture = run("jobs", "plot", job_id, "-o", str(tmp_path / "loss.png"), "--json").parsed
    assert (picture["training_points"], picture["validation_points"]) == (4, 0)
    assert (tmp_path / "loss.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    assert len(run("jobs", "checkpoints", job_id, "--json").parsed) == 4
    assert "step 4 of 4" in run("jobs", "list").answer


@pytest.mark.usefixtures("worker")
def test_a_watch_misses_nothing_and_repeats_nothing_where_the_connection_breaks(
    run: Run, file_id: str, cutting: Callable[..., tuple[Cutting, Run]]
) -> None:
    job_id = run("jobs", "create", "--base", "tiny", "--training-file", file_id, "--print-id").answer.strip()
    way, broken = cutting(bytes_max=1200, cuts=2)
    watched = broken("jobs", "watch", job_id, "--json")

    assert watched.status == 0, watched.notes
    assert way.cuts == 0
    numbers = [int(json.loads(line)["number"]) for line in watched.answer.splitlines()]
    assert numbers == list(range(1, numbers[-1] + 1))


@pytest.mark.usefixtures("worker")
def test_a_job_makes_the_agent_that_its_file_describes(run: Run, file_id: str, tmp_path: Path) -> None:
    desk = tmp_path / "desk.yaml"
    desk.write_text(DESK, encoding="utf-8")
    asked = ("jobs", "create", "--base", "tiny", "--training-file", file_id, "--agent", str(desk))
    refused = run(*asked)
    assert (refused.status, "NAME_NOT_ATTESTED" in refused.notes) == (1, True)
    watched = run(*asked, "--attest-name", "--watch", "--json")
    assert watched.status == 0, watched.notes
    job = json.loads(watched.answer.splitlines()[-1])["job"]
    made = run("agents", "show", job["agent_id"], "--json").parsed["version"]["configuration"]
    assert made["instructions"] == "Be kind.\n"
    assert made["model"].startswith("ft:tiny:")

    desk.write_text(DESK.replace("type: object", "type: object, $ref: 'http://host/x'"), encoding="utf-8")
    refused = run(*asked, "--attest-name")
    assert refused.status == 1
    assert f"{desk}:5: configuration.tools[0].function.parameters_schema" in refused.notes


def test_a_cancelled_job_ends_its_watch_with_1(run: Run, file_id: str) -> None:
    job_id = run(
        "jobs", "create", "--base", "tiny", "--training-file", file_id, "--no-start", "--print-id"
    ).answer.strip()
    assert run("jobs", "cancel", job_id, "--json").parsed["state"] == "STATE_CANCELLED"
    watched = run("jobs", "watch", job_id)
    assert watched.status == 1
    assert watched.answer.splitlines()[-1].endswith("  cancelled")
    unknown = run("jobs", "watch", job_id[:-1] + ("0" if job_id[-1] != "0" else "1"), "--json")
    assert (unknown.status, unknown.parsed["error"]["reason"]) == (1, "RESOURCE_NOT_FOUND")


@pytest.mark.usefixtures("worker")
def test_a_model_is_renamed_archived_downloaded_deleted_and_let_go(
    run: Run, file_id: str, tmp_path: Path
) -> None:
    job_id, folder = succeeded(run, file_id), tmp_path / "copy"
    listed = run("models", "list", "--job", job_id, "--json").parsed
    assert len(listed) == 5
    (name,) = [one["name"] for one in listed if "checkpoint_id" not in one["provenance"]]
    model_id = run("models", "show", name, "--json").parsed["model_id"]
    assert run("models", "show", "last", "--print-name").answer == f"{name}\n"
    assert run("models", "rename", name, "Smith", "--json").parsed["display_name"] == "Smith"
    assert run("models", "archive", name, "--json").parsed["state"] == "STATE_ARCHIVED"
    assert run("models", "unarchive", model_id, "--json").parsed["state"] == "STATE_ACTIVE"
    assert run("models", "bases", "--json").parsed[0]["name"] == "tiny"
    assert run("models", "show", "ft:nobody").status == 2

    held = run("models", "download", name, str(folder), "--hours", "2", "--json").parsed
    assert held["files"] == ["weights.safetensors"]
    whole = (folder / "weights.safetensors").read_bytes()
    (folder / "weights.safetensors").unlink()
    (folder / "weights.safetensors.part").write_bytes(whole[:-7])
    again = run("models", "download", name, str(folder), "--json").parsed
    assert again["holding_id"] == held["holding_id"]
    assert (folder / "weights.safetensors").read_bytes() == whole
    assert run("models", "renew", str(folder), "--json").parsed["model_deleted"] is False

    deleted = run("models", "delete", name, "--json").parsed
    assert deleted == {"model_id": model_id, "erasure": deleted["erasure"]}
    assert deleted["erasure"]["holdings"] == 1
    told = run("models", "renew", str(folder))
    assert (told.status, "models release" in told.notes) == (1, True)
    assert run("models", "release", str(folder), "--json").parsed["model_deleted"] is True
    assert list(folder.iterdir()) == []
    assert run("models", "release", str(folder)).status == 2


@pytest.mark.usefixtures("worker")
def test_a_folder_never_keeps_bytes_that_are_not_the_models(run: Run, file_id: str, tmp_path: Path) -> None:
    first, second = (
        run("models", "list", "--job", succeeded(run, file_id), "--json").parsed[0]["model_id"]
        for _ in range(2)
    )
    run("models", "download", first, str(tmp_path / "copy"))
    refused = run("models", "download", second, str(tmp_path / "copy"))
    assert (refused.status, f"holds {first}" in refused.notes) == (2, True)

    weights = tmp_path / "copy" / "weights.safetensors"
    whole = weights.read_bytes()
    weights.unlink()
    (tmp_path / "copy" / "weights.safetensors.part").write_bytes(b"x" * len(whole[:-9]))
    torn = run("models", "download", first, str(tmp_path / "copy"))
    assert (torn.status, "its digest is another" in torn.notes) == (2, True)
    assert [one.name for one in (tmp_path / "copy").iterdir()] == [HOLDING_FILE]
    assert run("models", "download", first, str(tmp_path / "copy")).status == 0
    assert weights.read_bytes() == whole


@pytest.mark.usefixtures("worker")
def test_a_transfer_shows_its_key_once_and_is_revoked(run: Run, file_id: str) -> None:
    model_id = run("models", "list", "--job", succeeded(run, file_id), "--json").parsed[0]["model_id"]
    consent = ("models", "record-consent", model_id, "Acme Partners", "--purpose", "a trial", "--until", "2d")
    made = run(*consent, "--json").parsed
    assert made["secret"].startswith("ptk_")
    assert run(*consent, "--print-key").answer.strip().startswith("ptk_")
    unknown = run("models", "authorize-transfer", model_id, "cloud-9", "--until", "2d", "--json")
    assert unknown.parsed["error"]["reason"] == "DISTRIBUTOR_UNKNOWN"

    revoked = run("models", "revoke-transfer", made["transfer_id"], "--json").parsed
    assert revoked["state"] == "STATE_REVOKED"
    listed = run("models", "transfers", "--model", model_id)
    assert made["transfer_id"] in listed.answer
    assert made["secret"] not in listed.answer
    assert len(run("models", "transfers", "--model", model_id, "--json").parsed) == 2


@pytest.mark.skipif(not HAS_TRAINER, reason="the extra `trainer` is not installed")
def test_a_real_training_is_told_line_by_line_learns_and_is_downloaded(
    run: Run, suite: Suite, tmp_path: Path, tiny_base: Path, cutting: Callable[..., tuple[Cutting, Run]]
) -> None:
    from tests.unit.trainer.chats_of_tests import lines as chats
    from tests.unit.trainer.chats_of_tests import sums

    training = uploaded(run, tmp_path / "train.jsonl", chats(sums(64)))
    validation = uploaded(run, tmp_path / "valid.jsonl", chats(sums(12, start=3)))
    (tmp_path / "models.yaml").write_text(
        f"models: [{{name: tiny, trainable: true, folder: {tiny_base}}}]\n", encoding="utf-8"
    )
    files = {
        "--server": suite.endpoints["finetuning"],
        "--key-file": str(suite.folder / "keys" / "trainer.key"),
        "--models": str(tmp_path / "models.yaml"),
        "--scratch": str(tmp_path / "scratch"),
        "--device": "cpu",
    }
    command = [sys.executable, "-m", "perron.cli", "trainer"]
    words = [word for pair in files.items() for word in pair]
    settings = {"learning_rate": "5e-3", "batch_size": "4", "evaluation_steps": "8", "lora.rank": "4"}
    asked = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    with subprocess.Popen([*command, *words], env=environment(), stderr=subprocess.DEVNULL) as trainer:
        watched = run(
            "jobs", "create", "--base", "tiny", "--training-file", training, "--validation-file", validation,
            *asked, "--watch", "--json",
        )  # fmt: skip
        trainer.terminate()
    events = [json.loads(line) for line in watched.answer.splitlines()]
    losses = [
        one["metrics"]["loss"]
        for one in events
        if one.get("metrics", {}).get("source") == "SOURCE_VALIDATION"
    ]

    assert watched.status == 0, watched.notes
    assert losses[-1] < losses[0] / 2
    assert events[-1]["job"]["state"] == "STATE_SUCCEEDED"
    picture = run("jobs", "plot", events[-1]["job"]["job_id"], "-o", str(tmp_path / "loss.png"), "--json")
    assert picture.parsed["validation_points"] == len(losses)

    way, broken = cutting(bytes_max=100_000, cuts=2)
    got = broken("models", "download", events[-1]["job"]["model_id"], str(tmp_path / "model"))
    assert (got.status, way.cuts) == (0, 0), got.notes
    (made,) = (one for one in run("models", "list", "--json").parsed if one["model_id"] in got.answer)
    for one in made["artifacts"]:
        content = (tmp_path / "model" / one["name"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == one["sha256"]
