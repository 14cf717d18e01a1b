from pathlib import Path

import pytest

from perron.chassis.errors import FailedPrecondition, InvalidArgument, SetupError
from perron.finetuning.entitlements import allowance
from perron.finetuning.estimates import estimate
from perron.finetuning.hyperparameters import Wanted, filled
from perron.finetuning.model import Lora, Method, TrainingFile
from perron.finetuning.operator_files import read_base_models, read_distributors
from perron.finetuning.settings import Settings
from tests.unit.finetuning.platform import TINY

FILE = TrainingFile("file", "blob", True, 100, "", examples=20, tokens=1000)


def test_the_files_that_come_with_perron_can_be_read() -> None:
    fields = Settings.model_fields
    models = read_base_models(fields["models_file"].default)

    assert models.trainable("tiny", Method.FULL).price_micros == 100_000
    assert read_distributors(fields["distributors_file"].default) == frozenset()


def test_a_file_that_lets_admission_accept_any_name_lets_nothing_else_be_trained(tmp_path: Path) -> None:
    path = tmp_path / "models.yaml"
    path.write_text("models: [{name: '*'}, {name: small, trainable: true, folder: a}]")

    models = read_base_models(path)

    assert [model.name for model in models.all()] == ["small"]
    with pytest.raises(FailedPrecondition):
        models.trainable("*", Method.LORA)


@pytest.mark.parametrize(
    ("model", "complaint"),
    [
        ("{name: tiny, trainable: true}", "folder"),
        ("{name: tiny, trainable: true, folder: a, hub: {repository: b, revision: c}}", "one of them"),
        ("{name: tiny, trainable: true, hub: {repository: b, revision: main}}", "pinned"),
        ("{name: 'ft:x'}", "letters"),
        ("{name: tiny, trainable: true, folder: a, price_per_million_tokens: '-1'}", "price"),
        ("{name: tiny, trainable: true, folder: a, price_per_million_tokens: NaN}", "price"),
        ("{name: tiny, methods: [QLORA]}", "QLORA"),
        ("{name: tiny, trust_remote_code: true}", "trust_remote_code"),
        ("{name: " + "a" * 49 + ", trainable: true, folder: a}", "48"),
        ("{name: a}, {name: a}", "twice"),
    ],
)
def test_a_models_file_that_cannot_work_says_why(tmp_path: Path, model: str, complaint: str) -> None:
    path = tmp_path / "models.yaml"
    path.write_text(f"currency: EUR\nmodels: [{model}]")

    with pytest.raises(SetupError, match=complaint):
        read_base_models(path)


def test_defaults_are_filled_in_by_base_and_method() -> None:
    lora = filled(Wanted(lora=Lora(rank=4, alpha=0)), TINY, Method.LORA, has_validation=False)
    full = filled(Wanted(), TINY, Method.FULL, has_validation=False)

    assert lora.lora == Lora(rank=4, alpha=8)
    assert (lora.learning_rate, lora.sequence_tokens_max) == (2e-4, 512)
    assert (full.learning_rate, full.lora) == (2e-5, None)
    assert filled(Wanted(warmup_ratio=0.0), TINY, Method.LORA, has_validation=False).warmup_ratio == 0.0


@pytest.mark.parametrize(
    "wanted", [Wanted(sequence_tokens_max=513), Wanted(early_stop_evaluations=1), Wanted(lora=Lora())]
)
def test_hyperparameters_that_fit_nothing_are_refused(wanted: Wanted) -> None:
    with pytest.raises(InvalidArgument):
        filled(wanted, TINY, Method.FULL, has_validation=False)


def test_an_estimate_counts_steps_packed_or_not_and_rounds_money_up() -> None:
    plain = filled(Wanted(epochs=2, batch_size=8), TINY, Method.LORA, has_validation=False)
    packed = filled(Wanted(epochs=2, batch_size=1, packing=True), TINY, Method.LORA, has_validation=False)

    assert estimate(plain, TINY, [FILE], 500.0).steps == 6
    assert estimate(packed, TINY, [FILE], 500.0).steps == 4
    found = estimate(plain, TINY, [FILE], 500.0)
    assert (found.tokens, found.seconds, found.cost_micros, found.currency) == (2000, 4.0, 5000, "EUR")


@pytest.mark.parametrize(
    "entitlements",
    [
        {},
        {"fine_tuning": "no"},
        {"fine_tuning": "yes", "fine_tuning_jobs": "2"},
        {"fine_tuning": "yes", "fine_tuning_jobs": "-1", "fine_tuning_bytes": "9"},
        {"fine_tuning": "yes", "fine_tuning_jobs": "²", "fine_tuning_bytes": "9"},
    ],
)
def test_what_a_plan_does_not_say_it_does_not_give(entitlements: dict[str, str]) -> None:
    with pytest.raises(FailedPrecondition):
        allowance(entitlements)
