"""Copies of a model's weights: downloaded into a folder, held for a time, renewed, and released when gone.

The service counts who holds a copy, because an erasure is complete only when the last of them has let go. The
folder therefore remembers its holding beside the weights, and a download that is run again, after whatever
befell the first, goes on under it at the byte where it was.
"""

import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from perron.api.finetuning.v1 import model_pb2, model_service_pb2
from perron.chassis.errors import SetupError
from perron.cli import options, output, uploading
from perron.cli.byte_bars import byte_bar
from perron.cli.connection import Connection, RefusedError, UnreachableError, connect
from perron.cli.output import AsJson
from perron.cli.resuming import Patience
from perron.cli.tuned_models import Model, model_of, stub

HOLDING_FILE: Final = ".perron-holding.json"
_NAME: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}")
Folder = Annotated[
    Path, typer.Argument(metavar="FOLDER", help="The folder that the model was downloaded to.")
]
Hours = Annotated[
    int, typer.Option(min=1, max=720, help="For how many hours the copy is held unless it is renewed.")
]


def add_to(app: typer.Typer) -> None:
    """Adds the commands to those of models."""
    for name, command in (("download", download), ("renew", renew), ("release", release)):
        app.command(name)(command)


def download(
    model: Model,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where to; made where it is missing.")],
    hours: Hours = 24,
    caller: options.As = "",
    as_json: AsJson = False,
) -> None:
    """Download a model into a folder; run again after an interruption, it goes on where it was.

    The copy is a *holding*: until it is released, or its time is over, the erasure of the model waits for it.
    """
    with connect(caller) as connection:
        request = model_service_pb2.GetModelRequest(model_id=model_of(connection, model))
        found = connection.ask(stub(connection).GetModel, request).model
        copy = _Copy(folder, found)
        with byte_bar("receiving", sum(one.bytes for one in found.artifacts)) as moved:
            for place in copy.receive(connection, hours):
                moved(place)
    output.show({"folder": str(folder), **_read(folder)}, as_json=as_json)
    if not as_json:
        output.note(f"when the copy is gone, say so: perron models release {folder}")


def renew(folder: Folder, hours: Hours = 24, caller: options.As = "", as_json: AsJson = False) -> None:
    """Hold a copy for longer; ends with 1 where the model was deleted and the copy has to go."""
    request = model_service_pb2.RenewHoldingRequest(holding_id=_read(folder)["holding_id"])
    request.ttl.seconds = hours * 3600
    with connect(caller) as connection:
        answer = connection.ask(stub(connection).RenewHolding, request)
    _write(folder, answer.holding)
    output.show({**_read(folder), "model_deleted": answer.model_deleted}, as_json=as_json)
    if answer.model_deleted:
        output.note(f"the model was deleted; remove the copy: perron models release {folder}")
        raise typer.Exit(output.REFUSED)


def release(folder: Folder, caller: options.As = "", as_json: AsJson = False) -> None:
    """Remove a copy from its folder and say that it is gone; other files in the folder stay."""
    held = _read(folder)
    for name in held["files"]:
        _path(folder, name).unlink(missing_ok=True)
        _draft(folder, name).unlink(missing_ok=True)
    request = model_service_pb2.ReleaseHoldingRequest(holding_id=held["holding_id"])
    with connect(caller) as connection:
        deleted = connection.ask(stub(connection).ReleaseHolding, request).model_deleted
    (folder / HOLDING_FILE).unlink()
    output.show({"holding_id": held["holding_id"], "model_deleted": deleted}, as_json=as_json)


class _Copy:
    """A model on its way into a folder: whole files under their names, the one under way as a draft."""

    def __init__(self, folder: Path, model: model_pb2.Model) -> None:
        self._folder = folder
        self._model = model
        whole = list(itertools.takewhile(lambda one: _is_whole(folder, one), model.artifacts))
        self._whole_bytes = sum(one.bytes for one in whole)
        self._missing = model.artifacts[len(whole) :]  # a stream goes on from a place to the end of all
        for later in self._missing[1:]:
            _draft(folder, later.name).unlink(missing_ok=True)

    def receive(self, connection: Connection, hours: int) -> Iterator[int]:
        """Brings what is missing, under the folder's holding or a new one; yields the bytes there are."""
        held, is_held, patience = self._held(), False, Patience()
        while self._missing or not is_held:
            artifact, offset = self._place()
            request = model_service_pb2.DownloadModelRequest(
                model_id=self._model.model_id, holding_id=held, artifact=artifact, offset=offset
            )
            request.ttl.seconds = hours * 3600
            try:
                for part in connection.ask_stream(stub(connection).DownloadModel, request, timeout=None):
                    if part.HasField("holding"):
                        held, is_held = part.holding.holding_id, True
                        _write(self._folder, part.holding, self._model)
                    else:
                        yield self._take(part.chunk)
                        if part.chunk:
                            patience.renew()
            except (RefusedError, UnreachableError) as broken:
                is_over = isinstance(broken, RefusedError) and broken.error.reason == "RESOURCE_NOT_FOUND"
                if not (is_over and held):
                    patience.bear(broken)
                held = "" if is_over else held  # a holding that is past its time; the next is a new one
            else:
                if self._missing:
                    patience.bear(UnreachableError("the download ended too early"))

    def _held(self) -> str:
        """The holding that the folder remembers; SetupError where it is of another model."""
        if not (self._folder / HOLDING_FILE).exists():
            return ""
        held = _read(self._folder)
        if held["model_id"] != self._model.model_id:
            raise SetupError(f"{self._folder} holds {held['model_id']}: choose another folder")
        return str(held["holding_id"])

    def _place(self) -> tuple[str, int]:
        """The file and the byte to go on from; the very end where nothing is missing."""
        if self._missing:
            draft = _draft(self._folder, self._missing[0].name)
            return self._missing[0].name, draft.stat().st_size if draft.exists() else 0
        last = self._model.artifacts[-1] if self._model.artifacts else model_pb2.Artifact()
        return last.name, last.bytes

    def _take(self, chunk: bytes) -> int:
        """Adds bytes to the draft; nothing, where a file begins. Returns how many bytes are there in all.

        A draft that has all its bytes becomes the file, also one that had them when an earlier download died.
        """
        there = 0
        while self._missing:
            artifact = self._missing[0]
            draft = _draft(self._folder, artifact.name)
            with draft.open("ab") as content:
                content.write(chunk)
                there = content.tell()
            if there < artifact.bytes:
                break
            if uploading.digest(draft, lambda _: None) != artifact.sha256:
                draft.unlink()
                raise SetupError(f"{artifact.name} is not what was announced: its digest is another")
            draft.replace(_path(self._folder, artifact.name))
            self._whole_bytes += artifact.bytes
            del self._missing[0]
            chunk, there = b"", 0
        return self._whole_bytes + there


def _is_whole(folder: Path, artifact: model_pb2.Artifact) -> bool:
    path = _path(folder, artifact.name)
    if not path.exists() or path.stat().st_size != artifact.bytes:
        return False
    return uploading.digest(path, lambda _: None) == artifact.sha256


def _path(folder: Path, name: str) -> Path:
    """Where a file lies; SetupError for a name that would lead out of the folder."""
    if not _NAME.fullmatch(name):
        raise SetupError("a file of the model has a name that no file should have")
    return folder / name


def _draft(folder: Path, name: str) -> Path:
    return _path(folder, name).with_name(name + ".part")


def _write(folder: Path, holding: model_pb2.Holding, model: model_pb2.Model | None = None) -> None:
    files = [one.name for one in model.artifacts] if model is not None else _read(folder)["files"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / HOLDING_FILE).write_text(
        json.dumps({**output.plain(holding), "files": files}, indent=2) + "\n", encoding="utf-8"
    )


def _read(folder: Path) -> dict[str, Any]:
    """What a folder remembers of its holding; SetupError where it holds no copy."""
    try:
        found: dict[str, Any] = json.loads((folder / HOLDING_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise SetupError(f"{folder} holds no downloaded model: it has no {HOLDING_FILE}") from None
    return found
