"""Training files: uploaded, listed, downloaded and deleted."""

import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Annotated, Any

import typer

from perron.api.finetuning.v1 import file_pb2, file_service_pb2, file_service_pb2_grpc
from perron.chassis.errors import SetupError
from perron.cli import options, output, uploading
from perron.cli.byte_bars import byte_bar
from perron.cli.connection import Connection, RefusedError, UnreachableError, connect
from perron.cli.output import AsJson
from perron.cli.resuming import Patience

app = typer.Typer(no_args_is_help=True, help="Training files: chat JSONL, validated while it is uploaded.")

_COLUMNS = ("file_id", "display_name", "state", "bytes", "examples", "expire_time", "create_time")
_ERROR_COLUMNS = ("line", "column", "rule")
_NAME_MAX = 120
File = Annotated[str, typer.Argument(metavar="FILE", help="The file, by id (file_…).")]


def _stub(connection: Connection) -> file_service_pb2_grpc.FileServiceStub:
    return connection.stub(file_service_pb2_grpc.FileServiceStub)


@app.command()
def upload(
    path: Annotated[
        Path,
        typer.Argument(metavar="PATH", exists=True, dir_okay=False, help="Chat JSONL, an example a line."),
    ],
    attest: Annotated[
        bool, typer.Option("--attest", help="State that you have the rights in the content to train on it.")
    ] = False,
    name: Annotated[str, typer.Option(help="A name for people; default: the file's.")] = "",
    resume: Annotated[
        str, typer.Option(metavar="UPLOAD", help="Go on with an upload that was interrupted, by id (upl_…).")
    ] = "",
    print_id: options.PrintId = False,
    caller: options.As = "",
    as_json: AsJson = False,
) -> None:
    """Upload a file; a connection that breaks is taken up again where the service says.

    Lines that break a rule are told by line, column and rule, and end the command with 1; what the rules are
    stands in docs/training-files.md.
    """
    if not attest and not resume:
        raise typer.BadParameter(
            "without your word that you have the rights in the content nothing is taken",
            param_hint="--attest",
        )
    size = path.stat().st_size
    with byte_bar("reading", size) as moved:
        sha256 = uploading.digest(path, moved)
    with connect(caller) as connection:
        if resume:
            upload_id = _continued(connection, resume, path, (size, sha256))
        else:
            request = file_service_pb2.CreateUploadRequest(
                display_name=(name or path.name)[:_NAME_MAX], bytes=size, sha256=sha256, rights_attested=True
            )
            upload_id = connection.ask(_stub(connection).CreateUpload, request).upload.upload_id
        output.note(f"{upload_id}: if it is interrupted, --resume {upload_id} goes on")
        with byte_bar("sending", size) as moved:
            file = uploading.send(connection, upload_id, path, moved)
    if print_id and file.state == file_pb2.File.STATE_VALID:
        sys.stdout.write(file.file_id + "\n")
    else:
        _show(file, as_json=as_json)
    if file.state != file_pb2.File.STATE_VALID:
        raise typer.Exit(output.REFUSED)


@app.command("list")
def list_files(
    count: Annotated[int, typer.Option(min=1, max=1000, help="How many, newest first.")] = 100,
    caller: options.As = "",
    as_json: AsJson = False,
) -> None:
    """List the files of the workspace, newest first."""
    with connect(caller) as connection:
        request = file_service_pb2.ListFilesRequest(page_size=count)
        answer = connection.ask(_stub(connection).ListFiles, request)
    rows: list[Any] = list(answer.files)
    if not as_json:
        rows = [output.readable(one) | {"examples": one.statistics.examples} for one in answer.files]
    output.show_list(rows, _COLUMNS, as_json=as_json, empty="no file yet: perron files upload --help")
    if answer.next_page_token:
        output.note(f"there are more than {count}")


@app.command()
def show(file: File, caller: options.As = "", as_json: AsJson = False) -> None:
    """Show a file: what was counted in it, or which lines break which rules."""
    with connect(caller) as connection:
        request = file_service_pb2.GetFileRequest(file_id=file)
        found = connection.ask(_stub(connection).GetFile, request).file
    _show(found, as_json=as_json)


@app.command()
def download(
    file: File,
    path: Annotated[Path, typer.Argument(help="Where to write it; - is standard output.")],
    caller: options.As = "",
    as_json: AsJson = False,
) -> None:
    """Download a file as it was uploaded; a connection that breaks is taken up again where it was."""
    to_stdout = path == Path("-")
    with connect(caller) as connection:
        if to_stdout:
            _receive(connection, file, sys.stdout.buffer)
            return
        draft = path.with_name(path.name + ".part")
        try:
            with draft.open("wb") as content:
                received = _receive(connection, file, content)
            draft.replace(path)
        except OSError as broken:
            raise SetupError(f"{path} cannot be written ({type(broken).__name__})") from None
        finally:
            draft.unlink(missing_ok=True)
    output.show({"path": str(path), "bytes": received.bytes, "sha256": received.sha256}, as_json=as_json)


@app.command()
def delete(file: File, caller: options.As = "", as_json: AsJson = False) -> None:
    """Delete a file for good; jobs that still need it fail, what was trained on it stays."""
    with connect(caller) as connection:
        request = file_service_pb2.DeleteFileRequest(file_id=file)
        deferred = connection.ask(_stub(connection).DeleteFile, request).deferred
    output.show({"file_id": file, "deferred": deferred}, as_json=as_json)
    if deferred and not as_json:
        output.note("a legal hold keeps the content, unreadable, until it is released")


def _continued(connection: Connection, upload_id: str, path: Path, announced: tuple[int, str]) -> str:
    """The id of an upload that a file was announced as; SetupError where it was another file."""
    request = file_service_pb2.GetUploadRequest(upload_id=upload_id)
    found = connection.ask(_stub(connection).GetUpload, request).upload
    if (found.bytes, found.sha256) != announced:
        raise SetupError(f"{path} is not what was announced as {upload_id}")
    return upload_id


def _receive(connection: Connection, file_id: str, into: IO[bytes]) -> file_pb2.File:
    """Writes a file's content, and returns the file; SetupError where the bytes are not the file's."""
    found, written, digest, patience = file_pb2.File(), 0, hashlib.sha256(), Patience()
    request = file_service_pb2.GetFileRequest(file_id=file_id)
    with byte_bar("receiving", connection.ask(_stub(connection).GetFile, request).file.bytes) as moved:
        while not found.bytes or written < found.bytes:
            try:
                for part in _parts(connection, file_id, written):
                    if part.HasField("file"):
                        found = part.file
                    else:
                        into.write(part.chunk)
                        digest.update(part.chunk)
                        written += len(part.chunk)
                        moved(written)
                        patience.renew()
            except (RefusedError, UnreachableError) as broken:
                patience.bear(broken)
            else:
                if written < found.bytes:
                    patience.bear(UnreachableError(f"{file_id} ended too early"))
    if digest.hexdigest() != found.sha256:
        raise SetupError(f"what arrived is not {file_id}: its digest is another")
    return found


def _parts(
    connection: Connection, file_id: str, offset: int
) -> Iterator[file_service_pb2.DownloadFileResponse]:
    request = file_service_pb2.DownloadFileRequest(file_id=file_id, offset=offset)
    return connection.ask_stream(_stub(connection).DownloadFile, request, timeout=None)


def _show(file: file_pb2.File, *, as_json: bool) -> None:
    if as_json:
        output.show(file, as_json=True)
        return
    fields = output.readable(file)
    errors = fields.pop("errors", [])
    output.show(fields, as_json=False)
    if errors:
        output.answers.print()
        output.show_list(errors, _ERROR_COLUMNS, as_json=False, empty="")
        if file.error_count > len(errors):
            output.note(f"the first {len(errors)} of {file.error_count} faults")
