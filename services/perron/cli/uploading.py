"""Sends a training file: its digest first, then its bytes, from wherever an earlier stream came to an end."""

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from perron.api.finetuning.v1 import file_pb2, file_service_pb2, file_service_pb2_grpc
from perron.chassis.errors import SetupError
from perron.cli.connection import Connection, RefusedError, UnreachableError
from perron.cli.resuming import Patience

PIECE_BYTES: Final = 256 * 1024


def digest(path: Path, moved: Callable[[int], None]) -> str:
    """The SHA-256 of a file; SetupError where it cannot be read."""
    found = hashlib.sha256()
    try:
        with path.open("rb") as content:
            while piece := content.read(PIECE_BYTES):
                found.update(piece)
                moved(content.tell())
    except OSError as broken:
        raise unreadable(path, broken) from None
    return found.hexdigest()


def send(
    connection: Connection,
    upload_id: str,
    path: Path,
    moved: Callable[[int], None],
    patience: Patience | None = None,
) -> file_pb2.File:
    """Sends what the service lacks of an upload, and returns the file that it became.

    A stream that breaks is taken up again where the service says, not where it seems to have broken: what was
    sent last may be lost. RefusedError and UnreachableError come when that did not help for half a minute.
    """
    stub = connection.stub(file_service_pb2_grpc.FileServiceStub)
    patience, reached = patience or Patience(), -1
    while True:
        try:
            request = file_service_pb2.GetUploadRequest(upload_id=upload_id)
            received = connection.ask(stub.GetUpload, request).upload.received_bytes
            if received > reached:
                patience.renew()
            reached = received
            moved(received)
            answer = connection.send_stream(stub.UploadFile, _messages(upload_id, path, received, moved))
        except (RefusedError, UnreachableError) as broken:
            patience.bear(broken)
            continue
        if not answer.HasField("file"):
            raise SetupError(f"{path} was shorter when it was sent than when it was announced")
        return answer.file


def unreadable(path: Path, broken: OSError) -> SetupError:
    """Says that a file cannot be read."""
    return SetupError(f"{path} cannot be read ({type(broken).__name__})")


def _messages(
    upload_id: str, path: Path, offset: int, moved: Callable[[int], None]
) -> Iterator[file_service_pb2.UploadFileRequest]:
    yield file_service_pb2.UploadFileRequest(
        start=file_service_pb2.UploadStart(upload_id=upload_id, offset=offset)
    )
    with contextlib.suppress(OSError), path.open("rb") as content:  # what is missing is missed at the end
        content.seek(offset)
        while piece := content.read(PIECE_BYTES):
            yield file_service_pb2.UploadFileRequest(chunk=piece)
            moved(content.tell())
