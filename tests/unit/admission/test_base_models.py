import pytest

from perron.admission.base_models import BaseModels
from perron.chassis.errors import NotFound, PermissionDenied


def test_a_listed_model_is_run_as_it_was_asked_for() -> None:
    assert BaseModels(["small-1", "large-1"]).effective("large-1", []) == "large-1"


def test_a_star_accepts_any_name() -> None:
    assert BaseModels(["*"]).effective("whatever", []) == "whatever"


def test_a_model_that_is_not_listed_is_unknown() -> None:
    with pytest.raises(NotFound) as refused:
        BaseModels(["small-1"]).effective("small-2", [])
    assert refused.value.reason == "MODEL_UNKNOWN"


@pytest.mark.parametrize("name", ["agt_01", "agent:support", "ft:small-1:acme"])
def test_agents_and_fine_tuned_models_are_unknown_even_under_a_star(name: str) -> None:
    with pytest.raises(NotFound) as refused:
        BaseModels(["*"]).effective(name, [])
    assert refused.value.reason == "MODEL_UNKNOWN"


def test_a_key_bound_to_models_runs_no_other() -> None:
    models = BaseModels(["small-1", "large-1"])

    assert models.effective("small-1", ["small-1"]) == "small-1"
    with pytest.raises(PermissionDenied) as refused:
        models.effective("large-1", ["small-1"])
    assert refused.value.reason == "MODEL_NOT_ALLOWED"


def test_a_key_bound_to_nothing_runs_nothing() -> None:
    with pytest.raises(PermissionDenied):
        BaseModels(["*"]).effective("small-1", ["!"])
