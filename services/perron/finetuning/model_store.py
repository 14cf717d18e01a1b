"""The rows of models within one open transaction: models and their artifacts."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import Select, func, insert, or_, select, update

from perron.chassis.mutations import Mutations
from perron.finetuning import errors, tables
from perron.finetuning.model import (
    Artifact,
    ArtifactKind,
    ErasureState,
    Model,
    ModelState,
    Provenance,
)

_MODELS: Final = tables.models
_ARTIFACTS: Final = tables.artifacts
_HOLDINGS: Final = tables.holdings
_UNERASED: Final = (ErasureState.PENDING.value, ErasureState.DEFERRED.value)


class ModelStore(Mutations):
    """Models as rows."""

    def add_model(self, model: Model) -> None:
        """Writes a new model."""
        self.tx.execute(insert(_MODELS), _row(model))

    def save_model(self, model: Model) -> None:
        """Writes what may change of a model."""
        self.tx.execute(update(_MODELS).where(_MODELS.c.id == model.model_id), _changing(model))

    def model(self, workspace_id: str, model_id: str) -> Model:
        """Returns a model of a workspace, also a deleted one; raises NotFound."""
        return self._model_where(
            select(_MODELS).where(_MODELS.c.id == model_id, _MODELS.c.workspace_id == workspace_id)
        )

    def lock_model(self, workspace_id: str, model_id: str) -> Model:
        """Returns a model of a workspace, locked until the commit; raises NotFound."""
        query = select(_MODELS).where(_MODELS.c.id == model_id, _MODELS.c.workspace_id == workspace_id)
        return self._model_where(query.with_for_update())

    def model_of_organization(self, organization_id: str, model_id: str) -> Model:
        """Returns a model of any workspace of an organization; raises NotFound."""
        query = select(_MODELS).where(_MODELS.c.id == model_id, _MODELS.c.organization_id == organization_id)
        return self._model_where(query)

    def models(self, workspace_id: str, job_id: str, before: str, count: int) -> list[Model]:
        """Returns the models of a workspace that are not deleted, newest first, after id `before`."""
        query = select(_MODELS).where(
            _MODELS.c.workspace_id == workspace_id, _MODELS.c.state != ModelState.DELETED.value
        )
        if job_id:
            query = query.where(_MODELS.c.job_id == job_id)
        if before:
            query = query.where(_MODELS.c.id < before)
        return self._models_where(query.order_by(_MODELS.c.id.desc()).limit(count))

    def checkpoints(self, job_id: str, before_step: int | None, count: int) -> list[Model]:
        """Returns the checkpoints of a job that are not deleted, latest step first, before a step."""
        query = select(_MODELS).where(
            _MODELS.c.job_id == job_id,
            _MODELS.c.checkpoint_id != "",
            _MODELS.c.state != ModelState.DELETED.value,
        )
        if before_step is not None:
            query = query.where(_MODELS.c.step < before_step)
        return self._models_where(query.order_by(_MODELS.c.step.desc()).limit(count))

    def checkpoint_at(self, job_id: str, step: int) -> str:
        """Returns the id of a job's checkpoint at a step, also of a deleted one; else an empty text."""
        query = select(_MODELS.c.checkpoint_id).where(
            _MODELS.c.job_id == job_id, _MODELS.c.checkpoint_id != "", _MODELS.c.step == step
        )
        return str(self.tx.execute(query).scalar() or "")

    def resolved(self, named: Collection[str]) -> dict[str, tuple[str, str, str, str, str]]:
        """Returns (id, name, base model, workspace, state) of the models with these names or ids, by both."""
        columns = (
            _MODELS.c.id,
            _MODELS.c.name,
            _MODELS.c.base_model,
            _MODELS.c.workspace_id,
            _MODELS.c.state,
        )
        found: dict[str, tuple[str, str, str, str, str]] = {}
        names = list(named)
        query = select(*columns).where(or_(_MODELS.c.name.in_(names), _MODELS.c.id.in_(names)))
        for row in self.tx.execute(query):
            found[row.id] = found[row.name] = tuple(row)
        return found

    def lock_models_of_tenant(self, organization_id: str, workspace_id: str) -> list[Model]:
        """Returns models of a workspace (empty: of the organization) that are not deleted, locked."""
        query = select(_MODELS).where(
            _MODELS.c.organization_id == organization_id, _MODELS.c.state != ModelState.DELETED.value
        )
        if workspace_id:
            query = query.where(_MODELS.c.workspace_id == workspace_id)
        return self._models_where(query.order_by(_MODELS.c.id).with_for_update())

    def unerased(self, count: int) -> list[Model]:
        """Returns deleted models whose erasure may have come further, the longest waiting first."""
        left = select(tables.blobs.c.id).where(
            tables.blobs.c.owner_id == _MODELS.c.id, tables.blobs.c.state != "ERASED"
        )
        live = select(_HOLDINGS.c.id).where(
            _HOLDINGS.c.model_id == _MODELS.c.id,
            _HOLDINGS.c.release_time == 0,
            _HOLDINGS.c.expire_time > self.tx.now_us(),
        )
        query = select(_MODELS).where(_MODELS.c.erasure.in_(_UNERASED), ~left.exists(), ~live.exists())
        return self._models_where(query.order_by(_MODELS.c.erasure_time).limit(count))

    def add_artifact(self, artifact: Artifact) -> None:
        """Writes an artifact that nothing has claimed yet."""
        self.tx.execute(
            insert(_ARTIFACTS),
            {
                "blob_id": artifact.blob_id,
                "job_id": artifact.job_id,
                "model_id": artifact.model_id,
                "kind": artifact.kind.value,
                "name": artifact.name,
                "bytes": artifact.bytes,
                "sha256": artifact.sha256,
                "create_time": artifact.create_us,
            },
        )

    def unclaimed(self, job_id: str, blob_ids: Collection[str] | None = None) -> list[Artifact]:
        """Returns artifacts of a job that belong to no model, all of them or those named."""
        query = select(_ARTIFACTS).where(_ARTIFACTS.c.job_id == job_id, _ARTIFACTS.c.model_id == "")
        if blob_ids is not None:
            query = query.where(_ARTIFACTS.c.blob_id.in_(list(blob_ids)))
        return [_artifact(row) for row in self.tx.execute(query.order_by(_ARTIFACTS.c.name))]

    def claim_artifacts(self, model_id: str, blob_ids: Collection[str]) -> None:
        """Gives artifacts to a model."""
        named = list(blob_ids)
        self.tx.execute(update(_ARTIFACTS).where(_ARTIFACTS.c.blob_id.in_(named)).values(model_id=model_id))
        blobs = tables.blobs
        self.tx.execute(update(blobs).where(blobs.c.id.in_(named)).values(owner_id=model_id))

    def training_states(self, job_id: str) -> list[str]:
        """Returns the blobs of what the checkpoints of a job need to go on."""
        query = select(_ARTIFACTS.c.blob_id).where(
            _ARTIFACTS.c.job_id == job_id, _ARTIFACTS.c.kind == ArtifactKind.STATE.value
        )
        return list(self.tx.execute(query).scalars())

    def forget_artifacts(self, blob_ids: Collection[str]) -> None:
        """Removes rows of artifacts whose bytes are being erased."""
        self.tx.execute(_ARTIFACTS.delete().where(_ARTIFACTS.c.blob_id.in_(list(blob_ids))))

    def _model_where(self, query: Select[Any]) -> Model:
        found = self._models_where(query)
        if not found:
            raise errors.not_found()
        return found[0]

    def _models_where(self, query: Select[Any]) -> list[Model]:
        rows = self.tx.execute(query).all()
        if not rows:
            return []
        ids = [row.id for row in rows]
        artifacts: dict[str, list[Artifact]] = {model_id: [] for model_id in ids}
        named = select(_ARTIFACTS).where(_ARTIFACTS.c.model_id.in_(ids)).order_by(_ARTIFACTS.c.name)
        for row in self.tx.execute(named):
            artifacts[row.model_id].append(_artifact(row))
        holdings = self._live_holdings([row.id for row in rows if row.state == ModelState.DELETED.value])
        return [_model(row, artifacts[row.id], holdings) for row in rows]

    def _live_holdings(self, model_ids: Sequence[str]) -> dict[str, int]:
        if not model_ids:
            return {}
        query = (
            select(_HOLDINGS.c.model_id, func.count().label("live"))
            .where(
                _HOLDINGS.c.model_id.in_(list(model_ids)),
                _HOLDINGS.c.release_time == 0,
                _HOLDINGS.c.expire_time > self.tx.now_us(),
            )
            .group_by(_HOLDINGS.c.model_id)
        )
        return {row.model_id: row.live for row in self.tx.execute(query)}


def _row(model: Model) -> dict[str, object]:
    return _changing(model) | {
        "id": model.model_id,
        "name": model.name,
        "organization_id": model.organization_id,
        "workspace_id": model.workspace_id,
        "job_id": model.job_id,
        "checkpoint_id": model.checkpoint_id,
        "step": model.step,
        "base_model": model.base_model,
        "provenance": msgspec.json.encode(model.provenance).decode(),
        "decision_id": model.decision_id,
        "create_time": model.create_us,
    }


def _changing(model: Model) -> dict[str, object]:
    return {
        "display_name": model.display_name,
        "state": model.state.value,
        "erasure": model.erasure.value,
        "erasure_time": model.erasure_us,
        "version": model.version,
    }


def _model(row: Any, artifacts: Sequence[Artifact], holdings: Mapping[str, int]) -> Model:
    return Model(
        model_id=row.id,
        name=row.name,
        organization_id=row.organization_id,
        workspace_id=row.workspace_id,
        display_name=row.display_name,
        state=ModelState(row.state),
        job_id=row.job_id,
        checkpoint_id=row.checkpoint_id,
        step=row.step,
        base_model=row.base_model,
        provenance=msgspec.json.decode(row.provenance, type=Provenance),
        decision_id=row.decision_id,
        erasure=ErasureState(row.erasure),
        erasure_us=row.erasure_time,
        create_us=row.create_time,
        version=row.version,
        artifacts=tuple(artifacts),
        holdings=holdings.get(row.id, 0),
    )


def _artifact(row: Any) -> Artifact:
    return Artifact(
        row.blob_id,
        row.job_id,
        row.model_id,
        ArtifactKind(row.kind),
        row.name,
        row.bytes,
        row.sha256,
        row.create_time,
    )
