"""Receiving: the bytes of one upload are counted, digested, validated and sealed as they arrive.

What a broken stream had brought is read back from storage when another goes on: it passes through the same
digest and the same validator, so neither keeps a state that a crash could tear.
"""

import hashlib
from functools import partial

from perron.finetuning import errors
from perron.finetuning.file_model import OpenBlob, Runs, Upload
from perron.finetuning.jsonl import Report, Validator
from perron.finetuning.sealed_blobs import BlobWriter, read
from perron.finetuning.storage import Storage


class Receiving:
    """One stream of one upload."""

    def __init__(self, storage: Storage, upload: Upload, blob: OpenBlob, digest_key: bytes) -> None:
        self._storage = storage
        self._upload = upload
        self._blob = blob
        self._validator = Validator(digest_key)
        self._digest = hashlib.sha256()
        self._writer = BlobWriter(storage, blob, stream=upload.stream, offset=upload.received_bytes)
        self._received = upload.received_bytes

    @property
    def is_complete(self) -> bool:
        """Whether as many bytes have come as were announced."""
        return self._received == self._upload.bytes

    @property
    def stored_bytes(self) -> int:
        """How many bytes lie in storage, where another stream may go on."""
        return self._writer.stored_bytes

    @property
    def runs(self) -> Runs:
        """Which streams wrote which parts of what is stored."""
        return self._writer.runs

    async def catch_up(self) -> None:
        """Reads what is stored already. Raises Unavailable."""
        async for piece in read(self._storage, self._blob, 0, self._upload.received_bytes):
            await self._storage.aside(partial(self._take, piece))

    async def take(self, chunk: bytes) -> bool:
        """Takes the next bytes; returns whether `stored_bytes` has grown.

        Raises InvalidArgument for more bytes than were announced, Unavailable.
        """
        if self._received + len(chunk) > self._upload.bytes:
            raise errors.field_invalid("chunk", "more bytes than were announced")
        self._received += len(chunk)
        await self._storage.aside(partial(self._take, chunk))
        return await self._writer.write(chunk)

    async def finish(self) -> tuple[Report, bytes] | None:
        """Stores the last bytes; returns what the validator found, and the digests of the lines.

        Returns None where the bytes are not the announced ones. Raises Unavailable.
        """
        if self._digest.hexdigest() != self._upload.sha256:
            return None
        await self._writer.finish()
        return await self._storage.aside(self._report)

    def _take(self, piece: bytes) -> None:
        self._digest.update(piece)
        self._validator.feed(piece)

    def _report(self) -> tuple[Report, bytes]:
        return self._validator.finish(), self._validator.digests.pack()
