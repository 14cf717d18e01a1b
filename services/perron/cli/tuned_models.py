"""Fine-tuned models: listed, shown, renamed, archived and deleted."""

import sys
from typing import Annotated, Any

import typer

from perron.api.finetuning.v1 import model_pb2, model_service_pb2, model_service_pb2_grpc
from perron.cli import options, output
from perron.cli.connection import Connection, connect
from perron.cli.output import AsJson

_COLUMNS = ("model_id", "name", "display_name", "state", "create_time")
_BASE_COLUMNS = ("name", "trainable", "methods", "sequence_tokens_max", "price_per_million_tokens")
_ARTIFACT_COLUMNS = ("name", "kind", "bytes", "sha256")
_PAGE = 1000
Model = Annotated[
    str,
    typer.Argument(metavar="MODEL", help="The model, by id (mdl_…) or by name (ft:…); `last` is the newest."),
]


def add_to(app: typer.Typer) -> None:
    """Adds the commands to those of models."""
    for name, command in (
        ("bases", bases),
        ("list", list_models),
        ("show", show),
        ("rename", rename),
        ("archive", archive),
        ("unarchive", unarchive),
        ("delete", delete),
    ):
        app.command(name)(command)


def stub(connection: Connection) -> model_service_pb2_grpc.ModelServiceStub:
    """The models of finetuning."""
    return connection.stub(model_service_pb2_grpc.ModelServiceStub)


def model_of(connection: Connection, word: str) -> str:
    """The id of the model that a word means: an id, a name of the caller's workspace, or its newest."""
    if word.startswith("mdl_"):
        return word
    request = model_service_pb2.ListModelsRequest(page_size=_PAGE)
    while True:
        page = connection.ask(stub(connection).ListModels, request)
        for model in page.models:
            if word in {model.name, "last"}:
                return model.model_id
        if not page.next_page_token:
            raise typer.BadParameter(f"{word!r} is neither an id nor a model's name", param_hint="MODEL")
        request.page_token = page.next_page_token


def bases(caller: options.As = "", as_json: AsJson = False) -> None:
    """List the base models of this installation."""
    with connect(caller) as connection:
        request = model_service_pb2.ListBaseModelsRequest()
        found = connection.ask(stub(connection).ListBaseModels, request).base_models
    rows: list[Any] = list(found)
    if not as_json:
        prices = [f"{one.price_micros / 1_000_000:g} {one.currency}" if one.currency else "" for one in found]
        rows = [
            output.readable(one)
            | {"trainable": one.trainable, "price_per_million_tokens": price, "methods": _methods(one)}
            for one, price in zip(found, prices, strict=True)
        ]
    output.show_list(rows, _BASE_COLUMNS, as_json=as_json, empty="no base model: see models.yaml")


def list_models(
    job: Annotated[str, typer.Option(help="Only what this job made, checkpoints included.")] = "",
    count: Annotated[int, typer.Option(min=1, max=_PAGE, help="How many, newest first.")] = 100,
    caller: options.As = "",
    as_json: AsJson = False,
) -> None:
    """List the models of the workspace, newest first; a job's checkpoints are models too."""
    with connect(caller) as connection:
        request = model_service_pb2.ListModelsRequest(job_id=job, page_size=count)
        answer = connection.ask(stub(connection).ListModels, request)
    output.show_list(
        answer.models, _COLUMNS, as_json=as_json, empty="no model yet: perron jobs create --help"
    )
    if answer.next_page_token:
        output.note(f"there are more than {count}")


def show(
    model: Model,
    print_name: Annotated[
        bool, typer.Option("--print-name", help="Print the name alone, for a variable.")
    ] = False,
    caller: options.As = "",
    as_json: AsJson = False,
) -> None:
    """Show a model, where it comes from and which files it has."""
    with connect(caller) as connection:
        request = model_service_pb2.GetModelRequest(model_id=model_of(connection, model))
        found = connection.ask(stub(connection).GetModel, request).model
    if print_name:
        sys.stdout.write(found.name + "\n")
    else:
        _show(found, as_json=as_json)


def rename(
    model: Model,
    name: Annotated[str, typer.Argument(help="A name for people; the name it is called by never changes.")],
    etag: Annotated[str, typer.Option("--etag", help="Only where the model still has this etag.")] = "",
    caller: options.As = "",
    as_json: AsJson = False,
) -> None:
    """Give a model another name for people."""
    request = model_service_pb2.UpdateModelRequest(display_name=name, etag=etag)
    request.update_mask.paths.append("display_name")
    with connect(caller) as connection:
        request.model_id = model_of(connection, model)
        _show(connection.ask(stub(connection).UpdateModel, request).model, as_json=as_json)


def archive(model: Model, caller: options.As = "", as_json: AsJson = False) -> None:
    """Take a model out of use until it is unarchived; it stays, and can be downloaded."""
    with connect(caller) as connection:
        request = model_service_pb2.ArchiveModelRequest(model_id=model_of(connection, model))
        _show(connection.ask(stub(connection).ArchiveModel, request).model, as_json=as_json)


def unarchive(model: Model, caller: options.As = "", as_json: AsJson = False) -> None:
    """Take an archived model into use again."""
    with connect(caller) as connection:
        request = model_service_pb2.UnarchiveModelRequest(model_id=model_of(connection, model))
        _show(connection.ask(stub(connection).UnarchiveModel, request).model, as_json=as_json)


def delete(model: Model, caller: options.As = "", as_json: AsJson = False) -> None:
    """Delete a model for good: its use ends at once, and what becomes of its weights is told."""
    with connect(caller) as connection:
        model_id = model_of(connection, model)
        request = model_service_pb2.DeleteModelRequest(model_id=model_id)
        erasure = connection.ask(stub(connection).DeleteModel, request).erasure
    if as_json:
        output.show({"model_id": model_id, "erasure": output.plain(erasure)}, as_json=True)
        return
    state = output.enum_word(model_pb2.Erasure.State.DESCRIPTOR, erasure.state)
    output.show({"model_id": model_id, "erasure": state, "holdings": erasure.holdings}, as_json=False)
    if erasure.holdings:
        output.note("whoever downloaded it removes the copy and releases it: perron models release --help")


def _methods(base: model_pb2.BaseModel) -> Any:
    return output.readable(base).get("methods", []) if base.trainable else []


def _show(model: model_pb2.Model, *, as_json: bool) -> None:
    if as_json:
        output.show(model, as_json=True)
        return
    fields = output.readable(model)
    artifacts = fields.pop("artifacts", [])
    output.show(fields | fields.pop("provenance", {}), as_json=False)
    if artifacts:
        output.answers.print()
        output.show_list(artifacts, _ARTIFACT_COLUMNS, as_json=False, empty="")
