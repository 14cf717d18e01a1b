"""Models: made by jobs, used by their owners alone, deleted whenever their owners like.

Deletion ends use at once, whatever else is true: on any plan, under a hold, in a suspension. What becomes of
the bytes is a second question with an answer of its own: erased, deferred by a legal hold, or pending while
storage, or somebody who holds a copy, has not followed yet.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from perron.chassis.errors import PerronError
from perron.chassis.ids import IdSource
from perron.chassis.interceptors.access import Call, Caller, CallerKind
from perron.finetuning import errors
from perron.finetuning.file_model import BlobState
from perron.finetuning.model import (
    Artifact,
    ArtifactKind,
    ErasureState,
    Job,
    Model,
    ModelState,
    Provenance,
    Resolved,
    SourceFile,
)
from perron.finetuning.store import Store

_FOLLOWED_AT_ONCE: Final = 200
_SHORT_ID: Final = 10
_ERASING: Final = Call(
    Caller(CallerKind.SERVICE, name="finetuning"), "perron.api.finetuning.v1.ModelService/DeleteModel"
)


@dataclass(frozen=True, slots=True)
class ResolveCommand:
    """A name or id that somebody of a workspace wants to use."""

    workspace_id: str
    model: str
    trace_parent: str = ""
    organization_id: str = ""


@dataclass(frozen=True, slots=True)
class UpdateCommand:
    """A change of a model; None leaves a field as it is."""

    model_id: str
    etag: str
    display_name: str | None


class Models:
    """Making, using and ending models."""

    def __init__(self, new_id: IdSource) -> None:
        self._new_id = new_id

    def make(
        self, store: Store, job: Job, artifacts: Sequence[Artifact], *, step: int, checkpoint_id: str = ""
    ) -> Model:
        """Makes the model of a job, or of one of its checkpoints, of artifacts that it claims."""
        model_id = self._new_id("mdl")
        model = Model(
            model_id=model_id,
            name=model_name(job.base_model, job.workspace_id, job.suffix, model_id),
            organization_id=job.organization_id,
            workspace_id=job.workspace_id,
            display_name="",
            state=ModelState.ACTIVE,
            job_id=job.job_id,
            checkpoint_id=checkpoint_id,
            step=step,
            base_model=job.base_model,
            provenance=Provenance(
                base_model_revision=job.base_model_revision,
                method=job.method,
                hyperparameters=job.hyperparameters,
                files=tuple(SourceFile(file.file_id, file.sha256, file.validation) for file in job.files),
                metrics=store.last_metrics(job.job_id, step),
            ),
            decision_id=job.decision_id,
            erasure=ErasureState.NONE,
            erasure_us=0,
            create_us=store.now_us(),
            version=1,
            artifacts=tuple(artifacts),
        )
        store.add_model(model)
        store.claim_artifacts(model_id, [artifact.blob_id for artifact in artifacts])
        _tell(store, model, "created")
        return model

    def resolve(self, store: Store, commands: Sequence[ResolveCommand]) -> list[Resolved | PerronError]:
        """Says what names mean; another workspace's model does not exist."""
        found = store.resolved({command.model for command in commands})
        return [_resolved(found, command) for command in commands]

    def usable(self, store: Store, workspace_id: str, model_id: str) -> Model:
        """Returns a model of a workspace; raises NotFound, FailedPrecondition (MODEL_DELETED)."""
        model = store.model(workspace_id, model_id)
        if model.state is ModelState.DELETED:
            raise errors.model_deleted()
        return model

    def update(self, store: Store, call: Call, command: UpdateCommand) -> Model:
        """Changes what people may change of a model; raises Aborted (ETAG_STALE)."""
        if store.once(call, command.model_id) is not None:
            return store.model(call.caller.workspace_id, command.model_id)
        model = _lock(store, call, command.model_id)
        if command.etag and command.etag != etag(model):
            raise errors.etag_stale()
        name = model.display_name if command.display_name is None else command.display_name
        return _changed(store, call, model, replace(model, display_name=name), "updated")

    def archive(self, store: Store, call: Call, model_id: str, *, archived: bool) -> Model:
        """Takes a model out of use, or into use again; one that is so already is returned as it is."""
        if store.once(call, model_id) is not None:
            return store.model(call.caller.workspace_id, model_id)
        model = _lock(store, call, model_id)
        state = ModelState.ARCHIVED if archived else ModelState.ACTIVE
        if model.state is state:
            return model
        return _changed(store, call, model, replace(model, state=state), state.value.lower())

    def delete(self, store: Store, call: Call, model_id: str, *, held: bool) -> Model:
        """Ends the use of a model for good; `held` says whether a legal hold keeps its bytes."""
        workspace_id = call.caller.workspace_id
        if store.once(call, model_id) is not None:
            return store.model(workspace_id, model_id)
        model = store.lock_model(workspace_id, model_id)
        if model.state is not ModelState.DELETED:
            store.audit(call, model_id, model.organization_id)
            _end_use(store, model, held=held)
        return store.model(workspace_id, model_id)

    def workspace_gone(self, store: Store, organization_id: str, workspace_id: str) -> None:
        """Ends the use of every model of a workspace (empty: of the organization).

        Their bytes count as held until governance, asked by those who erase, says that they are not.
        """
        for model in store.lock_models_of_tenant(organization_id, workspace_id):
            _end_use(store, model, held=True)

    def follow_erasures(self, store: Store) -> bool:
        """Writes down how far erasures have come; says whether there may be more to do at once."""
        found = store.unerased(_FOLLOWED_AT_ONCE)
        return sum(_follow(store, model) for model in found) == _FOLLOWED_AT_ONCE


def _end_use(store: Store, model: Model, *, held: bool) -> None:
    store.drop_blobs([artifact.blob_id for artifact in model.artifacts], held=held)
    deleted = replace(
        model,
        state=ModelState.DELETED,
        erasure=ErasureState.PENDING,
        erasure_us=store.now_us(),
        version=model.version + 1,
    )
    store.save_model(deleted)
    _tell(store, deleted, "deleted")
    _follow(store, store.model(model.workspace_id, model.model_id))


def _follow(store: Store, model: Model) -> bool:
    """Writes how far one erasure has come, where it has come further.

    It is over when storage has let go of every copy, no key to any is left, and nobody holds one any more.
    """
    states = store.states_of([artifact.blob_id for artifact in model.artifacts])
    found = {state for state, _ in states.values()}
    if BlobState.HELD in found:
        erasure = ErasureState.DEFERRED
    elif model.holdings or found - {BlobState.ERASED}:
        erasure = ErasureState.PENDING
    else:
        erasure = ErasureState.ERASED
    if erasure is model.erasure:
        return False
    store.save_model(replace(model, erasure=erasure, erasure_us=store.now_us()))
    if erasure is ErasureState.ERASED:
        store.audit(_ERASING, model.model_id, model.organization_id, action="model.erased")
        _tell(store, model, "erased")
    return True


def model_name(base_model: str, workspace_id: str, suffix: str, model_id: str) -> str:
    """Returns the name of a model."""
    return f"ft:{base_model}:{workspace_id}:{suffix}:{model_id[-_SHORT_ID:]}"


def etag(model: Model) -> str:
    """Returns the etag of a model's present version (AIP-154)."""
    return str(model.version)


def downloadable(model: Model) -> list[Artifact]:
    """Returns the files of a model that leave the service: all but what only a training needs."""
    return [one for one in model.artifacts if one.kind is not ArtifactKind.STATE]


def _lock(store: Store, call: Call, model_id: str) -> Model:
    caller = call.caller
    store.refuse_buried(caller.organization_id, caller.workspace_id)
    model = store.lock_model(caller.workspace_id, model_id)
    if model.state is ModelState.DELETED:
        raise errors.model_deleted()
    return model


def _changed(store: Store, call: Call, model: Model, wanted: Model, what: str) -> Model:
    changed = replace(wanted, version=model.version + 1)
    store.save_model(changed)
    store.audit(call, model.model_id, model.organization_id)
    _tell(store, changed, what)
    return changed


def _tell(store: Store, model: Model, what: str) -> None:
    store.publish(
        f"model.{what}",
        organization_id=model.organization_id,
        workspace_id=model.workspace_id,
        resource_id=model.model_id,
        version=model.version,
    )


def _resolved(
    found: Mapping[str, tuple[str, str, str, str, str]], command: ResolveCommand
) -> Resolved | PerronError:
    row = found.get(command.model)
    if row is None or row[3] != command.workspace_id:
        return errors.not_found()
    model_id, name, base_model, _, state = row
    if state == ModelState.DELETED:
        return errors.model_deleted()
    if state == ModelState.ARCHIVED:
        return errors.model_archived()
    return Resolved(model_id, name, base_model)
