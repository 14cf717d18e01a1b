"""Finetuning is killed with SIGKILL while somebody watches and while somebody uploads."""

from collections.abc import Iterator

import pytest

from perron.api.finetuning.v1 import file_pb2, file_service_pb2, job_pb2
from perron.cli.connection import UnreachableError
from perron.finetuning.file_model import PART_BYTES
from tests.suite.customers import PAID
from tests.suite.tuners import (
    PIECE_BYTES,
    Tuner,
    awake,
    blob_of,
    examples,
    messages,
    objects_of,
    swept,
    tuner,
    until,
)
from tests.suite.workers import Workshop

LINE_BYTES = 1_000_000


@pytest.fixture
def ada(workshop: Workshop) -> Tuner:
    """The admin of a customer."""
    return tuner(workshop.made, workshop.made.new(PAID))


def test_a_watch_goes_on_where_a_killed_service_left_it(workshop: Workshop, ada: Tuner) -> None:
    suite, worker = workshop.suite, workshop.worker
    job = ada.create_job([ada.upload().file_id])
    lease = worker.lease(job.job_id)
    worker.step(lease, 1)
    watch, seen = ada.watch(job.job_id), []
    while not (seen and seen[-1].HasField("metrics")):
        seen.append(next(watch))

    suite.kill("finetuning")
    with pytest.raises(UnreachableError):
        next(watch)
    suite.restart("finetuning")
    until(lambda: awake(ada))
    rest = ada.watch(job.job_id, seen[-1].number)
    worker.step(lease, 1)  # the answer may have been lost: told again, it is taken once
    worker.step(lease, 2)
    model_id = worker.finish(lease)
    seen += rest

    assert [event.number for event in seen] == list(range(1, len(seen) + 1))
    assert [event.metrics.step for event in seen if event.HasField("metrics")] == [1, 2]
    assert (seen[-1].job.state, seen[-1].job.model_id) == (job_pb2.Job.STATE_SUCCEEDED, model_id)
    assert seen[-1].job.attempts == 1


def test_an_upload_goes_on_where_a_killed_service_left_it_and_no_orphan_is_left(
    workshop: Workshop, ada: Tuner
) -> None:
    suite, content = workshop.suite, examples(10, size=LINE_BYTES)
    upload, given_up = ada.announce(content), ada.announce(content)
    _killed_at(workshop, ada, upload.upload_id, content, 2 * PART_BYTES)
    _killed_at(workshop, ada, given_up.upload_id, content, PART_BYTES)
    abandoned = blob_of(suite, given_up.upload_id)
    assert len(objects_of(suite, abandoned)) >= 1

    file = ada.send(upload.upload_id, content, ada.received(upload.upload_id))

    assert (file.state, file.statistics.examples) == (file_pb2.File.STATE_VALID, 10)
    assert ada.content(file.file_id) == content
    blob_id = blob_of(suite, file.file_id)
    planted = suite.folder / "storage" / "blobs" / f"{blob_id[:-1]}z" / "0-0"
    planted.parent.mkdir()
    planted.write_bytes(b"of a row that was never written")
    swept(suite, ada)
    until(lambda: not planted.exists())
    until(lambda: not objects_of(suite, abandoned))
    assert len(objects_of(suite, blob_id)) == -(-len(content) // PART_BYTES)
    assert ada.content(file.file_id) == content


def _killed_at(workshop: Workshop, ada: Tuner, upload_id: str, content: bytes, stored: int) -> None:
    """Sends an upload on, kills the service when so much of it is stored, and brings it back."""
    offset = ada.received(upload_id)

    def sent() -> Iterator[file_service_pb2.UploadFileRequest]:
        yield from messages(upload_id, content[: stored + PIECE_BYTES], offset)
        until(lambda: ada.received(upload_id) >= stored)
        workshop.suite.kill("finetuning")

    with pytest.raises(UnreachableError):
        ada.connection.send_stream(ada.files.UploadFile, sent())
    workshop.suite.restart("finetuning")
    until(lambda: awake(ada))
    assert ada.received(upload_id) == stored
