"""The rows on fine-tuning fail where what they speak of fails: on a platform that is broken on purpose."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from rich.console import Console

from perron.api.admission.v1 import admission_service_pb2
from perron.api.common.v1 import roles_pb2
from perron.api.finetuning.v1 import model_pb2
from perron.api.governance.v1 import decision_pb2
from perron.chassis.errors import FailedPrecondition, NotFound, PerronError
from perron.cli.connection import RefusedError
from perron.cli.demo import learning, owning, tuning_rows, workshop
from perron.cli.demo.stage import Stage
from perron.cli.demo.workshop import Workshop

MODEL = model_pb2.Model(
    model_id="mdl_" + 26 * "1",
    name="ft:tiny:ws_1:tutor:1111111111",
    artifacts=[model_pb2.Artifact(blob_id="blob_1"), model_pb2.Artifact(blob_id="blob_2")],
)
AGENT = "agt_" + 26 * "1"
HIDDEN = NotFound("RESOURCE_NOT_FOUND", "there is no such thing")
DELETED = FailedPrecondition("MODEL_DELETED", "the model was deleted")


class Platform:
    """A customer and a workshop whose answers are set by hand, by the credential and what it asks for."""

    def __init__(self, folder: Path) -> None:
        self.answers: dict[str, str | PerronError] = {}
        self.erasure = model_pb2.Erasure(state=model_pb2.Erasure.STATE_ERASED)
        self.erasure.time.seconds = 1
        self.blobs = folder / "storage" / "blobs"
        for artifact in MODEL.artifacts:
            (self.blobs / artifact.blob_id).mkdir(parents=True)
            (self.blobs / artifact.blob_id / "00000000-0").touch()
        self.leaves: set[str] = set()
        self.customer = self

    def admit(
        self, _exchange: object, credential: str = "", *, model: str
    ) -> admission_service_pb2.AdmitResponse:
        answer = self.answers.get(credential + model, HIDDEN if credential else MODEL.name)
        if isinstance(answer, PerronError):
            raise RefusedError(answer, "")
        return admission_service_pb2.AdmitResponse(effective_model=answer)

    def model(self, model_id: str, connection: object = None) -> model_pb2.Model:
        if connection is not None:
            raise RefusedError(HIDDEN, "")
        return model_pb2.Model(model_id=model_id, erasure=self.erasure)

    def delete(self, _model_id: str) -> model_pb2.Erasure:
        for artifact in MODEL.artifacts:
            if artifact.blob_id not in self.leaves:
                (self.blobs / artifact.blob_id / "00000000-0").unlink()
        return model_pb2.Erasure(state=model_pb2.Erasure.STATE_PENDING)


class Silent(Stage):
    """A stage that tells nobody."""

    def __init__(self, folder: Path) -> None:
        suite: Any = SimpleNamespace(folder=folder)
        super().__init__(suite, Console(file=io.StringIO()))

    @contextmanager
    def connect(self, secret: str, origin: str) -> Iterator[Any]:  # type: ignore[override]
        yield origin

    def failed(self) -> list[str]:
        """What was found not to hold."""
        return [one.shown for one in self.findings if not one.ok]


@pytest.fixture
def platform(tmp_path: Path) -> Platform:
    return Platform(tmp_path)


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Silent:
    monkeypatch.setattr(owning, "_neighbour", lambda _customer: "neighbour ")
    monkeypatch.setattr(workshop, "_PATIENCE_SECONDS", 0.0)
    return Silent(tmp_path)


def as_workshop(platform: Platform) -> Workshop:
    return cast("Workshop", platform)


@pytest.mark.parametrize(
    ("broken", "row"),
    [
        ({}, None),
        ({MODEL.name: "tiny"}, tuning_rows.USABLE),
        ({"neighbour " + MODEL.name: MODEL.name}, tuning_rows.HIDDEN),
        ({"neighbour " + MODEL.model_id: DELETED}, tuning_rows.HIDDEN),
        ({"neighbour " + MODEL.name: NotFound("RESOURCE_NOT_FOUND", "not yours")}, tuning_rows.HIDDEN),
    ],
)
def test_what_a_neighbour_learns_and_an_owner_does_not_get_fails(
    broken: dict[str, str | PerronError], row: Any, stage: Silent, platform: Platform
) -> None:
    platform.answers = broken
    owning.use(stage, as_workshop(platform), MODEL)
    assert stage.failed() == ([row.shown] if row else [])


@pytest.mark.parametrize(
    ("fault", "row"),
    [
        ("none", None),
        ("the model is used on", tuning_rows.DELETED),
        ("the agent falls back to its base", tuning_rows.DELETED),
        ("an object is left", tuning_rows.ERASED),
        ("nothing is told", tuning_rows.ERASED),
        ("nothing was stored", tuning_rows.ERASED),
    ],
)
def test_what_a_deletion_leaves_behind_fails(fault: str, row: Any, stage: Silent, platform: Platform) -> None:
    platform.answers = {MODEL.name: DELETED, MODEL.model_id: DELETED, AGENT: DELETED}
    match fault:
        case "the model is used on":
            del platform.answers[MODEL.name]
        case "the agent falls back to its base":
            platform.answers[AGENT] = "tiny"
        case "an object is left":
            platform.leaves.add("blob_2")
        case "nothing is told":
            platform.erasure.state = model_pb2.Erasure.STATE_PENDING
        case "nothing was stored":
            platform.delete("")
            platform.leaves = {"blob_1", "blob_2"}
    owning.delete(stage, as_workshop(platform), MODEL, AGENT)
    assert stage.failed() == ([row.shown] if row else [])


@pytest.mark.parametrize(
    ("validation", "learned"),
    [
        ([(0, 5.64), (66, 4.14)], True),
        ([(0, 5.64), (66, 4.15)], False),
        ([(0, 5.64), (33, 2.0), (66, 5.0)], False),
        ([(8, 5.64), (66, 2.7)], False),
        ([(0, 5.64)], False),
        ([], False),
    ],
)
def test_a_loss_that_falls_by_less_than_the_margin_fails(
    validation: list[tuple[int, float]], *, learned: bool
) -> None:
    assert learning.has_learned(validation) is learned


def test_an_exchange_that_may_be_trained_on_or_whose_reason_is_another_fails() -> None:
    good = decision_pb2.Decision(terms_class=roles_pb2.TERMS_CLASS_FREE)
    good.permissions.add(purpose=decision_pb2.PURPOSE_PROVIDE_SERVICES)
    good.clauses.add(clause="1.2-conf", reason=decision_pb2.CLAUSE_REASON_FINE_TUNED_MODEL)
    eligible, improving, of_opt_out, paid = (
        decision_pb2.Decision.FromString(good.SerializeToString()) for _ in range(4)
    )
    eligible.training_eligible = True
    improving.permissions.add(purpose=decision_pb2.PURPOSE_IMPROVE_SERVICES)
    of_opt_out.clauses[0].reason = decision_pb2.CLAUSE_REASON_OPTED_OUT
    paid.terms_class = roles_pb2.TERMS_CLASS_PAID

    assert owning.is_of_a_model(good)
    assert not any(map(owning.is_of_a_model, (eligible, improving, of_opt_out, paid)))
