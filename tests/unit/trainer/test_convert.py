"""Every value that a lease can ask for reaches the training, and every reason of the training has a name."""

import re

import pytest

from perron.api.finetuning.v1 import job_pb2, model_pb2
from perron.trainer import convert
from perron.trainer.model import RETRIABLE, Decay, Evaluated, Hyperparameters, Lora, Method, Stepped
from perron.trainer.settings import Settings


def test_what_a_lease_asks_for_is_what_is_trained() -> None:
    asked = job_pb2.Hyperparameters(
        epochs=7,
        batch_size=3,
        gradient_accumulation=2,
        learning_rate=0.5,
        learning_rate_decay=job_pb2.LEARNING_RATE_DECAY_LINEAR,
        warmup_ratio=0.25,
        gradient_norm_max=2,
        weight_decay=0.125,
        sequence_tokens_max=99,
        packing=True,
        seed=11,
        evaluation_steps=4,
        checkpoint_steps=5,
        early_stop_evaluations=6,
        lora={"rank": 3, "alpha": 9, "dropout": 0.5, "target_modules": ["q_proj"]},
    )

    assert convert.hyperparameters(job_pb2.TRAINING_METHOD_LORA, asked) == Hyperparameters(
        method=Method.LORA,
        lora=Lora(3, 9, 0.5, ("q_proj",)),
        seed=11,
        epochs=7,
        batch_size=3,
        accumulation_steps=2,
        length_max=99,
        packing=True,
        learning_rate=0.5,
        decay=Decay.LINEAR,
        warmup_ratio=0.25,
        weight_decay=0.125,
        gradient_norm_max=2,
        evaluation_steps=4,
        checkpoint_steps=5,
        patience_evaluations=6,
    )


def test_measurements_stay_within_the_contracts_bounds() -> None:
    step = convert.metrics(Stepped(3, 1e9, 0.5, 0.1, 2.0, 50, 1e12))
    seen = convert.metrics(Evaluated(3, 2.0, 0.5, 10))

    assert (step.source, step.loss, step.tokens_per_second) == (job_pb2.Metrics.SOURCE_TRAINING, 1e6, 1e9)
    assert (seen.source, seen.loss, seen.learning_rate) == (job_pb2.Metrics.SOURCE_VALIDATION, 2.0, 0)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("adapter_model.safetensors", model_pb2.ARTIFACT_KIND_WEIGHTS),
        ("model.safetensors", model_pb2.ARTIFACT_KIND_WEIGHTS),
        ("state.safetensors", model_pb2.ARTIFACT_KIND_STATE),
        ("adapter_config.json", model_pb2.ARTIFACT_KIND_CONFIG),
        ("config.json", model_pb2.ARTIFACT_KIND_CONFIG),
        ("tokenizer.json", model_pb2.ARTIFACT_KIND_TOKENIZER),
        ("chat_template.jinja", model_pb2.ARTIFACT_KIND_TOKENIZER),
    ],
)
def test_each_file_is_written_as_what_it_is(name: str, kind: int) -> None:
    assert convert.artifact_kind(name) == kind


def test_what_would_fail_again_is_not_tried_again() -> None:
    assert not RETRIABLE & convert.FAILURES.keys() - {"WORKER_STOPPED"}


def test_a_worker_keeps_its_name_and_every_setting_says_what_it_is() -> None:
    assert Settings.read({"PERRON_TRAINER_NAME": "gpu-1"}).worker_name() == "gpu-1"
    assert Settings.read({}).worker_name() == Settings.read({}).worker_name()
    assert (
        Settings.read({}).worker_name() != Settings.read({"PERRON_TRAINER_SCRATCH_FOLDER": "b"}).worker_name()
    )
    assert re.fullmatch(r"[A-Za-z0-9._-]{1,64}", Settings.read({}).worker_name())
    assert all(field.description for field in Settings.model_fields.values())
