"""A run that was cut off and resumed ends with the weights of one that was left alone, bit for bit."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from perron.trainer import training
from perron.trainer.model import (
    Evaluated,
    Finished,
    Hyperparameters,
    Lora,
    Method,
    Reason,
    Saved,
    Stepped,
    TrainingFailedError,
)
from tests.unit.trainer.chats_of_tests import QUICK, digest, only, task, trained

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")

SAVING = replace(QUICK, checkpoint_steps=2, evaluation_steps=2, weight_decay=0.01)
FULL = replace(SAVING, method=Method.FULL, learning_rate=2e-3)


def weights(folder: Path) -> dict[str, str]:
    return {path.name: digest(path) for path in sorted((folder / "output" / "model").iterdir())}


@pytest.mark.parametrize(
    "asked", [SAVING, replace(SAVING, packing=False), FULL], ids=["packed", "rows", "FULL"]
)
def test_a_resumed_run_ends_with_the_same_weights(asked: Hyperparameters, base: Path, tmp_path: Path) -> None:
    whole = trained(task(base, tmp_path / "whole", asked))
    steps = [saved.step for saved in only(whole, Saved)]
    assert len(steps) >= 1

    for step in steps:
        checkpoint = tmp_path / "whole" / "output" / f"checkpoint-{step}"
        again = tmp_path / f"from-{step}"
        resumed = trained(task(base, again, asked, resume=str(checkpoint)))

        assert weights(again) == weights(tmp_path / "whole")
        assert only(resumed, Finished) == only(whole, Finished)
        assert [(one.step, one.loss) for one in only(resumed, Stepped)] == [
            (one.step, one.loss) for one in only(whole, Stepped) if one.step > step
        ]


def test_it_would_not_if_dropout_drew_from_one_stream(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The variant that general trainers have to rescue by carrying the stream's state about."""

    class Seedless:
        """torch, as `training` sees it, but seeded only once, when the network is made."""

        def __getattr__(self, name: str) -> Any:
            return (lambda _seed: None) if name == "manual_seed" else getattr(torch, name)

    monkeypatch.setattr(training, "torch", Seedless())
    whole = trained(task(base, tmp_path / "whole", SAVING))
    step = only(whole, Saved)[0].step

    trained(task(base, tmp_path / "again", SAVING, resume=str(tmp_path / f"whole/output/checkpoint-{step}")))

    assert weights(tmp_path / "again") != weights(tmp_path / "whole")


def test_early_stopping_remembers_across_a_resume(base: Path, tmp_path: Path) -> None:
    patient = replace(
        QUICK, epochs=9, evaluation_steps=1, checkpoint_steps=3, patience_evaluations=4, learning_rate=1e-9
    )
    whole = trained(task(base, tmp_path / "whole", patient))

    resumed = trained(
        task(base, tmp_path / "again", patient, resume=str(tmp_path / "whole/output/checkpoint-3"))
    )

    assert only(whole, Finished)[0].step == only(resumed, Finished)[0].step == 4
    assert [one.step for one in only(resumed, Evaluated)] == [4]


@pytest.mark.parametrize("spoil", ["other network", "torn", "absent"])
def test_a_checkpoint_that_does_not_fit_is_refused(spoil: str, base: Path, tmp_path: Path) -> None:
    trained(task(base, tmp_path / "whole", SAVING))
    checkpoint = tmp_path / "whole" / "output" / "checkpoint-2"
    asked = SAVING
    match spoil:
        case "other network":
            asked = replace(SAVING, lora=Lora(rank=5, alpha=8))
        case "torn":
            state = checkpoint / "state.safetensors"
            state.write_bytes(state.read_bytes()[:-100])
        case "absent":
            (checkpoint / "state.safetensors").unlink()

    with pytest.raises(TrainingFailedError) as caught:
        trained(task(base, tmp_path / "again", asked, resume=str(checkpoint)))

    assert caught.value.reason is Reason.CHECKPOINT_UNFIT
