"""Sealed blobs: content of any length, in segments that are sealed one by one.

A segment is 64 KiB under AES-256-GCM with a data key of the blob's own; it is bound to its blob, its number
and whether it is the last, so that none can be moved, dropped or cut off. A range opens without reading what
lies before it. Segments travel in parts of 2 MiB, one object each, and a part counts from the moment that its
writer says so in the store: what a broken stream left behind beyond it is as if it were not there.
"""

from collections.abc import AsyncIterator
from functools import partial
from typing import Final

from perron.chassis.errors import Unavailable
from perron.chassis.sealing import open_sealed, seal
from perron.finetuning.file_model import PART_BYTES, OpenBlob, Runs
from perron.finetuning.storage import MissingObjectError, Storage

SEGMENT_BYTES: Final = 64 * 1024
PIECE_BYTES: Final = 1024 * 1024
_SEAL_BYTES: Final = 29
_SEALED_BYTES: Final = SEGMENT_BYTES + _SEAL_BYTES
_SEGMENTS: Final = PART_BYTES // SEGMENT_BYTES


class BlobWriter:
    """Writes the content of one blob as one stream, from the beginning or from the end of a whole part."""

    def __init__(self, storage: Storage, blob: OpenBlob, *, stream: int = 1, offset: int = 0) -> None:
        assert offset % PART_BYTES == 0
        self._storage = storage
        self._blob = blob
        self._part = offset // PART_BYTES
        self._waiting = bytearray()
        self._stream = stream
        self.runs = blob.blob.runs.begun(self._part, stream)

    @property
    def stored_bytes(self) -> int:
        """How many bytes lie in storage in whole parts: where another stream may go on."""
        return self._part * PART_BYTES

    async def write(self, piece: bytes) -> bool:
        """Takes the next bytes; returns whether `stored_bytes` has grown. Raises Unavailable."""
        self._waiting += piece
        before = self._part
        # The last byte waits: whether a segment is the last one is known when there is another, or none.
        while len(self._waiting) > PART_BYTES:
            await self._put(bytes(self._waiting[:PART_BYTES]), is_last=False)
            del self._waiting[:PART_BYTES]
        return self._part > before

    async def finish(self) -> None:
        """Writes what is left as the last part. Raises Unavailable."""
        await self._put(bytes(self._waiting), is_last=True)
        self._waiting.clear()

    async def _put(self, content: bytes, *, is_last: bool) -> None:
        sealed = await self._storage.aside(
            partial(_seal_part, self._blob, self._part, content, is_last=is_last)
        )
        await self._storage.put(part_key(self._blob.blob.blob_id, self._part, self._stream), sealed)
        self._part += 1


async def read(
    storage: Storage, blob: OpenBlob, start: int = 0, end: int | None = None
) -> AsyncIterator[bytes]:
    """Yields the content from byte `start` to before `end`, in pieces of up to 1 MiB.

    Raises Unavailable (STORAGE_UNAVAILABLE), SealBrokenError for what is not as it was written.
    """
    size = blob.blob.bytes
    end = size if end is None else min(end, size)
    while start < end:
        segment = start // SEGMENT_BYTES
        before = min(end, (segment // _SEGMENTS + 1) * PART_BYTES, start - start % PIECE_BYTES + PIECE_BYTES)
        until = -(-before // SEGMENT_BYTES)
        sealed = await _fetch(storage, blob, segment, until)
        content = await storage.aside(partial(_open_segments, blob, segment, sealed))
        skipped = segment * SEGMENT_BYTES
        yield content[start - skipped : before - skipped]
        start = before


async def delete(storage: Storage, blob_id: str) -> None:
    """Deletes every object of a blob, whoever wrote it. Raises Unavailable."""
    async for one in storage.list(blob_prefix(blob_id)):
        await storage.delete(one.key)


def blob_prefix(blob_id: str) -> str:
    """Returns what the keys of a blob's objects begin with."""
    return f"blobs/{blob_id}/"


def part_key(blob_id: str, part: int, stream: int) -> str:
    """Returns the key of one part as one stream wrote it."""
    return f"{blob_prefix(blob_id)}{part:08d}-{stream}"


def is_part_of(key: str, runs: Runs) -> bool:
    """Tells whether an object of a blob is one of its parts, and not what another stream left behind."""
    part, _, stream = key.rpartition("/")[2].partition("-")
    return bool(runs.pairs) and str(runs.stream_of(int(part))) == stream


async def _fetch(storage: Storage, blob: OpenBlob, segment: int, until: int) -> bytes:
    """Returns sealed segments of one part."""
    part = segment // _SEGMENTS
    first = part * _SEGMENTS
    content_end = min(until * SEGMENT_BYTES, blob.blob.bytes) - first * SEGMENT_BYTES
    end = content_end + (until - first) * _SEAL_BYTES
    key = part_key(blob.blob.blob_id, part, blob.blob.runs.stream_of(part))
    try:
        return await storage.get_range(key, (segment - first) * _SEALED_BYTES, end)
    except MissingObjectError:
        raise Unavailable("STORAGE_UNAVAILABLE", "the storage lacks a part of the content") from None


def _seal_part(blob: OpenBlob, part: int, content: bytes, *, is_last: bool) -> bytes:
    pieces = [content[at : at + SEGMENT_BYTES] for at in range(0, len(content), SEGMENT_BYTES)] or [b""]
    first = part * _SEGMENTS
    last = first + len(pieces) - 1
    return b"".join(
        seal(blob.data_key, piece, _bound(blob.blob.blob_id, number, is_last=is_last and number == last))
        for number, piece in enumerate(pieces, first)
    )


def _open_segments(blob: OpenBlob, segment: int, sealed: bytes) -> bytes:
    last = max(-(-blob.blob.bytes // SEGMENT_BYTES) - 1, 0)
    pieces = (sealed[at : at + _SEALED_BYTES] for at in range(0, len(sealed), _SEALED_BYTES))
    return b"".join(
        open_sealed(blob.data_key, piece, _bound(blob.blob.blob_id, number, is_last=number == last))
        for number, piece in enumerate(pieces, segment)
    )


def _bound(blob_id: str, number: int, *, is_last: bool) -> bytes:
    return f"{blob_id}\0{number}\0{int(is_last)}".encode()
