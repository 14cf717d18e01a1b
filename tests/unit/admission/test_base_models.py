import pytest

from perron.admission.base_models import BaseModels, Kind, kind_of
from perron.chassis.errors import NotFound, PermissionDenied


def test_a_listed_model_may_be_run() -> None:
    BaseModels(["small-1", "large-1"]).check("large-1", [])


def test_a_star_accepts_any_name() -> None:
    BaseModels(["*"]).check("whatever", [])


def test_a_model_that_is_not_listed_is_unknown() -> None:
    with pytest.raises(NotFound) as refused:
        BaseModels(["small-1"]).check("small-2", [])
    assert refused.value.reason == "MODEL_UNKNOWN"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("agt_01", Kind.AGENT),
        ("agent:support", Kind.AGENT),
        ("agent:ft:support", Kind.AGENT),
        ("ft:small-1:acme", Kind.FINE_TUNED_MODEL),
        ("mdl_01", Kind.FINE_TUNED_MODEL),
        ("small-1", Kind.BASE_MODEL),
        ("agents-1", Kind.BASE_MODEL),
    ],
)
def test_agents_and_fine_tuned_models_are_none_of_the_operators_list(name: str, kind: Kind) -> None:
    assert kind_of(name) is kind
    if kind is not Kind.BASE_MODEL:
        BaseModels(["small-1"]).check(name, [])


@pytest.mark.parametrize("name", ["large-1", "agt_01", "agent:support", "ft:small-1:acme"])
def test_a_key_bound_to_models_runs_no_other(name: str) -> None:
    models = BaseModels(["small-1", "large-1"])

    models.check("small-1", ["small-1"])
    with pytest.raises(PermissionDenied) as refused:
        models.check(name, ["small-1"])
    assert refused.value.reason == "MODEL_NOT_ALLOWED"


def test_a_key_bound_to_nothing_runs_nothing() -> None:
    with pytest.raises(PermissionDenied):
        BaseModels(["*"]).check("small-1", ["!"])
