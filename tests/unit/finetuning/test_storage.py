"""Storage and what lies sealed in it, in a local folder; and a bucket that does not answer."""

import os
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from perron.chassis.errors import SetupError, Unavailable
from perron.chassis.sealing import SealBrokenError, new_key
from perron.finetuning import sealed_blobs
from perron.finetuning.file_model import PART_BYTES, Blob, BlobKind, BlobState, OpenBlob, Runs
from perron.finetuning.sealed_blobs import PIECE_BYTES, SEGMENT_BYTES, BlobWriter
from perron.finetuning.storage import MissingObjectError, Storage
from tests.scale import times

BUCKET = "s3://bucket/prefix?region=eu-west-3&endpoint=http://127.0.0.1:1"


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(str(tmp_path / "objects"))


def a_blob(size: int, runs: Runs | None = None, blob_id: str = "blob_1") -> OpenBlob:
    blob = Blob(
        blob_id=blob_id,
        organization_id="org",
        workspace_id="ws",
        kind=BlobKind.FILE,
        owner_id="",
        state=BlobState.READY,
        runs=runs or Runs(),
        key_id="",
        wrapped_key=b"",
        create_us=0,
        bytes=size,
        sha256="",
    )
    return OpenBlob(blob, b"k" * 32)


async def stored(storage: Storage, content: bytes, piece: int = 700_000) -> OpenBlob:
    writer = BlobWriter(storage, a_blob(len(content)))
    for at in range(0, len(content), piece):
        await writer.write(content[at : at + piece])
    await writer.finish()
    return a_blob(len(content), writer.runs)


async def content_of(pieces: AsyncIterator[bytes]) -> bytes:
    return b"".join([piece async for piece in pieces])


async def keys(storage: Storage) -> list[str]:
    return sorted([one.key async for one in storage.list("blobs/")])


async def test_objects_are_written_whole_read_in_ranges_listed_and_deleted(storage: Storage) -> None:
    await storage.put("blobs/a/1", b"0123456789")
    await storage.put("blobs/a/1", b"abcdefghij")
    assert await storage.get_range("blobs/a/1", 2, 5) == b"cde"
    assert await storage.get("blobs/a/1") == b"abcdefghij"
    assert await keys(storage) == ["blobs/a/1"]
    await storage.delete("blobs/a/1")
    await storage.delete("blobs/a/1")
    assert await keys(storage) == []
    with pytest.raises(MissingObjectError):
        await storage.get("blobs/a/1")


async def test_a_bucket_that_does_not_answer_is_unavailable_and_says_nothing_of_itself() -> None:
    bucket = Storage(BUCKET)
    for ask in (bucket.put("blobs/a/1", b"x"), bucket.get("blobs/a/1"), keys(bucket)):
        with pytest.raises(Unavailable) as refused:
            await ask
        assert refused.value.reason == "STORAGE_UNAVAILABLE"
        assert "127.0.0.1" not in refused.value.message


@pytest.mark.parametrize("url", ["ftp://host/x", "s3://bucket?secret=x", "file://host/x", "/proc/nowhere"])
def test_what_is_no_storage_is_refused_at_the_start(url: str) -> None:
    with pytest.raises(SetupError):
        Storage(url)


async def test_drafts_of_killed_writers_are_deleted_once_they_are_old(
    storage: Storage, tmp_path: Path
) -> None:
    await storage.put("blobs/a/1", b"x")
    draft = tmp_path / "objects/blobs/a/2#1"
    draft.write_bytes(b"torn")
    assert await keys(storage) == ["blobs/a/1"]
    assert await storage.delete_drafts(timedelta(hours=1)) == 0
    os.utime(draft, (0, 0))
    assert await storage.delete_drafts(timedelta(hours=1)) == 1
    assert not draft.exists()
    assert await keys(storage) == ["blobs/a/1"]


@pytest.mark.parametrize(
    "size",
    [1, SEGMENT_BYTES, SEGMENT_BYTES + 1, PART_BYTES - 1, PART_BYTES, PART_BYTES + 1, 2 * PART_BYTES],
)
async def test_content_comes_back_as_it_was_written(storage: Storage, size: int) -> None:
    content = os.urandom(size)
    blob = await stored(storage, content)
    pieces = [piece async for piece in sealed_blobs.read(storage, blob)]
    assert b"".join(pieces) == content
    assert max(map(len, pieces)) <= PIECE_BYTES
    assert len(await keys(storage)) == -(-size // PART_BYTES)


@settings(
    max_examples=times(25, 500), suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(st.data())
async def test_any_range_opens(storage: Storage, data: st.DataObject) -> None:
    content = os.urandom(PART_BYTES + 3 * SEGMENT_BYTES + 17)
    blob = await stored(storage, content)
    edges = st.sampled_from([0, 1, SEGMENT_BYTES, PIECE_BYTES, PART_BYTES, PART_BYTES + 1, len(content)])
    places = edges | st.integers(0, len(content))
    start, end = sorted([data.draw(places), data.draw(places)])
    assert await content_of(sealed_blobs.read(storage, blob, start, end)) == content[start:end]


async def test_a_range_reads_its_own_segments_and_no_others(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    blob = await stored(storage, os.urandom(PART_BYTES))
    read: list[int] = []
    get_range = storage.get_range

    async def counted(key: str, start: int, end: int) -> bytes:
        read.append(end - start)
        return await get_range(key, start, end)

    monkeypatch.setattr(storage, "get_range", counted)
    await content_of(sealed_blobs.read(storage, blob, 3 * SEGMENT_BYTES + 5, 3 * SEGMENT_BYTES + 6))
    assert read == [SEGMENT_BYTES + 29]


async def test_nothing_can_be_moved_cut_off_or_read_with_another_key(
    storage: Storage, tmp_path: Path
) -> None:
    content = os.urandom(3 * SEGMENT_BYTES)
    blob = await stored(storage, content)
    (path,) = (tmp_path / "objects").rglob("*-1")
    sealed = path.read_bytes()
    part = SEGMENT_BYTES + 29
    assert content[:64] not in sealed
    tampered = {
        "swapped": sealed[part : 2 * part] + sealed[:part] + sealed[2 * part :],
        "changed": sealed[:100] + bytes([sealed[100] ^ 1]) + sealed[101:],
        "last one twice": sealed[: 2 * part] + sealed[part : 2 * part],
    }
    for changed in tampered.values():
        path.write_bytes(changed)
        with pytest.raises(SealBrokenError):
            await content_of(sealed_blobs.read(storage, blob))
    path.write_bytes(sealed[: 2 * part])
    shorter = a_blob(2 * SEGMENT_BYTES, blob.blob.runs)
    with pytest.raises(SealBrokenError):  # what is cut off at a seam lacks its last segment
        await content_of(sealed_blobs.read(storage, shorter))
    path.write_bytes(sealed)
    with pytest.raises(SealBrokenError):
        await content_of(sealed_blobs.read(storage, OpenBlob(blob.blob, new_key())))


async def test_another_stream_goes_on_where_whole_parts_end_and_never_meets_the_first(
    storage: Storage,
) -> None:
    content = os.urandom(2 * PART_BYTES + 5)
    first = BlobWriter(storage, a_blob(len(content)))
    for at in range(0, PART_BYTES + 10, PIECE_BYTES):
        await first.write(content[at : at + PIECE_BYTES])
    assert first.stored_bytes == PART_BYTES
    second = BlobWriter(storage, a_blob(len(content), first.runs), stream=2, offset=first.stored_bytes)
    await second.write(content[PART_BYTES:])
    await first.write(b"other bytes" * PART_BYTES)  # late, and into the same part
    await second.finish()
    blob = a_blob(len(content), second.runs)
    assert await content_of(sealed_blobs.read(storage, blob)) == content
    left_over = [key for key in await keys(storage) if not sealed_blobs.is_part_of(key, second.runs)]
    assert left_over
    assert all(key.endswith("-1") for key in left_over)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 9)), max_size=6))
def test_runs_say_who_wrote_each_part_last(begun: list[tuple[int, int]]) -> None:
    runs, writers = Runs(), dict[int, int]()
    for part, stream in [(0, 1), *begun]:
        runs = runs.begun(part, stream)
        writers |= dict.fromkeys(range(part, 10), stream)
    assert Runs.read(str(runs)) == runs
    assert {part: runs.stream_of(part) for part in range(10)} == writers


async def test_a_part_that_is_gone_is_unavailable(storage: Storage) -> None:
    blob: Any = await stored(storage, b"content")
    await sealed_blobs.delete(storage, blob.blob.blob_id)
    with pytest.raises(Unavailable):
        await content_of(sealed_blobs.read(storage, blob))
