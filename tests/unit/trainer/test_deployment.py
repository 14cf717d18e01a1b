"""The Job template says what the trainer understands, asks for a GPU, and shows no key."""

from typing import Any

import yaml

from perron.trainer.settings import Settings
from tests.rpcs import ROOT

PREFIX = "PERRON_TRAINER_"


def test_the_kubernetes_job_is_one_that_a_trainer_starts_with() -> None:
    job, policy = yaml.safe_load_all((ROOT / "deploy/kubernetes/trainer-job.yaml").read_text("utf-8"))
    pod: Any = job["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    given = {one["name"]: one.get("value", "pod-1") for one in container["env"]}

    Settings.read(given)  # raises for a name that is no setting, and a value that is none
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert given[PREFIX + "DEVICE"] == "cuda"
    assert not [value for value in given.values() if value.startswith("prn_")]
    mounted = {one["mountPath"] for one in container["volumeMounts"]}
    assert given[PREFIX + "SCRATCH_FOLDER"] in mounted
    assert {
        given[f"{PREFIX}{name}_FILE"].rsplit("/", 1)[0] for name in ("KEY", "MODELS", "PEER_CA")
    } <= mounted
    assert {one["name"] for one in container["volumeMounts"]} == {
        one["name"] for one in pod["spec"]["volumes"]
    }
    assert policy["spec"]["podSelector"]["matchLabels"] == pod["metadata"]["labels"]
