"""Weights that leave the service, as streams: to their owner's workspace, or to the party of a transfer.

Whether a stream may go on is asked anew for every piece of it: a deletion or a revocation ends it within one
message. What a newcomer gets wrong: a check at the start alone lets an hour's download outlive the consent.
"""

from collections.abc import AsyncIterator, Callable
from typing import Final

from perron.api.finetuning.v1 import model_service_pb2 as pb
from perron.chassis.database import Database, Transaction
from perron.chassis.interceptors.access import Call
from perron.finetuning import convert, errors
from perron.finetuning.blobs import Blobs
from perron.finetuning.disclosures import DownloadCommand, Holdings, Transfers
from perron.finetuning.file_model import OpenBlob
from perron.finetuning.model import Artifact, Model
from perron.finetuning.models import Models
from perron.finetuning.sealed_blobs import read
from perron.finetuning.storage import Storage
from perron.finetuning.store import Store

DAY_US: Final = 86_400_000_000
"""How long a copy is taken to be held where nobody says otherwise."""

_Check = Callable[[Store], object]


class Downloads:
    """Streams of models."""

    def __init__(
        self,
        database: Database,
        storage: Storage,
        blobs: Blobs,
        models: Models,
        holdings: Holdings,
        transfers: Transfers,
    ) -> None:
        self._database = database
        self._storage = storage
        self._blobs = blobs
        self._models = models
        self._holdings = holdings
        self._transfers = transfers

    async def of_owner(
        self, call: Call, request: pb.DownloadModelRequest
    ) -> AsyncIterator[pb.DownloadModelResponse]:
        """Yields the holding, then each file and its bytes, until the model is deleted."""
        command = DownloadCommand(
            request.model_id, request.holding_id, convert.microseconds(request.ttl, DAY_US)
        )
        model, holding = await self._database.write(
            lambda tx: self._holdings.register(Store(tx), call, command)
        )
        wanted = _from(model, request.artifact, request.offset)
        yield pb.DownloadModelResponse(holding=convert.holding(holding))

        def check(store: Store) -> object:
            store.refuse_buried(model.organization_id, model.workspace_id)
            return self._models.usable(store, model.workspace_id, model.model_id)

        async for artifact, piece in self._pieces(wanted, request.offset, check):
            if artifact is not None:
                yield pb.DownloadModelResponse(artifact=convert.artifact(artifact))
            yield pb.DownloadModelResponse(chunk=piece)

    async def of_transfer(
        self, request: pb.DownloadTransferRequest
    ) -> AsyncIterator[pb.DownloadTransferResponse]:
        """Yields each file and its bytes, until the transfer is revoked or over."""
        transfer, model = await self._database.write(
            lambda tx: self._transfers.begin(Store(tx), request.secret)
        )
        wanted = _from(model, request.artifact, request.offset)

        def check(store: Store) -> object:
            return self._transfers.still_open(store, transfer)

        async for artifact, piece in self._pieces(wanted, request.offset, check):
            if artifact is not None:
                yield pb.DownloadTransferResponse(artifact=convert.artifact(artifact))
            yield pb.DownloadTransferResponse(chunk=piece)

    async def _pieces(
        self, wanted: list[Artifact], offset: int, check: _Check
    ) -> AsyncIterator[tuple[Artifact | None, bytes]]:
        """Yields the bytes of files, the first from `offset` on; with each file's first bytes the file."""
        for artifact in wanted:
            blob = await self._open(artifact.blob_id, check)
            named: Artifact | None = artifact
            async for piece in read(self._storage, blob, offset):
                await self._database.read(lambda tx: check(Store(tx)))
                yield named, piece
                named = None
            if named is not None:  # it was asked for from its end on
                yield named, b""
            offset = 0

    async def _open(self, blob_id: str, check: _Check) -> OpenBlob:
        def open_(tx: Transaction) -> OpenBlob:
            store = Store(tx)
            check(store)
            return self._blobs.to_read(store, blob_id)

        return await self._database.read(open_)


def _from(model: Model, name: str, offset: int) -> list[Artifact]:
    """Returns the files of a model from a named one on; raises NotFound, InvalidArgument."""
    files = convert.downloadable(model)
    names = [file.name for file in files]
    if name and name not in names:
        raise errors.not_found()
    files = files[names.index(name) if name else 0 :]
    if files and offset > files[0].bytes:
        raise errors.field_invalid("offset", "The file ends before.")
    return files
