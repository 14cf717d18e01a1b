"""Weights that leave the service, as streams: to their owner's workspace, or to the party of a transfer.

Whether a stream may go on is asked anew for every piece of it: a deletion or a revocation ends it within one
message. What a newcomer gets wrong: a check at the start alone lets an hour's download outlive the consent.
"""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from perron.chassis.database import Database, Transaction
from perron.chassis.interceptors.access import Call
from perron.finetuning import errors
from perron.finetuning.blobs import Blobs
from perron.finetuning.disclosures import DownloadCommand, Holdings, Transfers
from perron.finetuning.file_model import OpenBlob
from perron.finetuning.model import Artifact, Holding, Model
from perron.finetuning.models import Models, downloadable
from perron.finetuning.sealed_blobs import read
from perron.finetuning.storage import Storage
from perron.finetuning.store import Store

Part = Holding | Artifact | bytes
"""What a stream consists of: the holding once, then each file followed by its bytes."""

_Check = Callable[[Store], object]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a stream begins: at a byte of a file; without a name, of the first."""

    artifact: str
    offset: int


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

    async def of_owner(self, call: Call, command: DownloadCommand, place: Place) -> AsyncIterator[Part]:
        """Yields the holding, then each file and its bytes, until the model is deleted."""
        model, holding = await self._database.write(
            lambda tx: self._holdings.register(Store(tx), call, command)
        )
        wanted = _from(model, place)
        yield holding

        def check(store: Store) -> object:
            store.refuse_buried(model.organization_id, model.workspace_id)
            return self._models.usable(store, model.workspace_id, model.model_id)

        async for part in self._parts(wanted, place.offset, check):
            yield part

    async def of_transfer(self, secret: str, place: Place) -> AsyncIterator[Part]:
        """Yields each file and its bytes, until the transfer is revoked or over."""
        # Anybody may knock: a key that opens nothing costs no write.
        await self._database.read(lambda tx: self._transfers.open(Store(tx), secret))
        transfer, model = await self._database.write(lambda tx: self._transfers.begin(Store(tx), secret))

        def check(store: Store) -> object:
            return self._transfers.still_open(store, transfer)

        async for part in self._parts(_from(model, place), place.offset, check):
            yield part

    async def _parts(self, wanted: list[Artifact], offset: int, check: _Check) -> AsyncIterator[Part]:
        """Yields files and their bytes, of the first those from `offset` on."""
        for artifact in wanted:
            blob = await self._open(artifact.blob_id, check)
            yield artifact
            async for piece in read(self._storage, blob, offset):
                await self._database.read(lambda tx: check(Store(tx)))
                yield piece
            offset = 0

    async def _open(self, blob_id: str, check: _Check) -> OpenBlob:
        def open_(tx: Transaction) -> OpenBlob:
            store = Store(tx)
            check(store)
            return self._blobs.to_read(store, blob_id)

        return await self._database.read(open_)


def _from(model: Model, place: Place) -> list[Artifact]:
    """Returns the files of a model from a named one on; raises NotFound, InvalidArgument."""
    files = downloadable(model)
    names = [file.name for file in files]
    if place.artifact and place.artifact not in names:
        raise errors.not_found()
    files = files[names.index(place.artifact) if place.artifact else 0 :]
    if files and place.offset > files[0].bytes:
        raise errors.field_invalid("offset", "The file ends before.")
    return files
