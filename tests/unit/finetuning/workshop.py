"""Everything that files need, over one store, a folder and a vault."""

import hashlib
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

from perron.chassis.clock import SystemClock
from perron.chassis.database import Database
from perron.chassis.errors import Unavailable
from perron.chassis.ids import new_id
from perron.chassis.leases import Leases
from perron.chassis.testing import customer_call
from perron.chassis.vault import Vault
from perron.finetuning import sealed_blobs
from perron.finetuning.blobs import Blobs
from perron.finetuning.file_model import (
    Directives,
    File,
    OpenBlob,
    Retention,
    Upload,
    UploadCommand,
)
from perron.finetuning.file_store import FileStore
from perron.finetuning.files import Files
from perron.finetuning.model import FailureReason
from perron.finetuning.receiving import Receiving
from perron.finetuning.storage import Storage
from perron.finetuning.upkeep import Upkeep
from tests.unit.finetuning.horrors import GOOD

T = TypeVar("T")
CALL = customer_call()
PLAIN = Directives(zero_retention=False, held=False)
HELD = Directives(zero_retention=False, held=True)
DAY = timedelta(days=1)


class Rules:
    """A governance that says what a test makes true."""

    def __init__(self) -> None:
        self.held: set[str] = set()
        self.reachable = True

    async def directives(self, scopes: Any) -> list[Directives]:
        if not self.reachable:
            raise Unavailable("PEER_UNAVAILABLE", "governance does not answer")
        return [Directives(zero_retention=False, held=resource in self.held) for _, _, resource in scopes]


class Workshop:
    """Everything that files need, over one store."""

    def __init__(self, database: Database, folder: Path) -> None:
        self.database = database
        self.leases = Leases(database)
        self.folder = folder
        self.storage = Storage(str(folder / "objects"))
        self.vault = Vault(folder / "vault", b"r" * 32)
        self.blobs = Blobs(self.vault, new_id)
        self.ended: list[tuple[str, FailureReason]] = []
        self.files = Files(
            self.blobs, new_id, lambda _, file_id, reason: self.ended.append((file_id, reason))
        )
        self.rules = Rules()
        self.upkeep = Upkeep(
            database,
            self.storage,
            self.files,
            self.blobs,
            self.rules,
            SystemClock(),
            orphan_age=timedelta(0),
        )

    async def write(self, work: Callable[[FileStore], T]) -> T:
        return await self.database.write(lambda tx: work(FileStore(tx)))

    async def announced(
        self, content: bytes, retention: Retention | None = None, bytes_max: int = 1 << 40
    ) -> Upload:
        command = UploadCommand("train", len(content), hashlib.sha256(content).hexdigest())
        kept = retention or Retention("dec_1")
        return await self.write(lambda store: self.files.announce(store, CALL, command, kept, bytes_max))

    async def received(self, upload: Upload, content: bytes) -> tuple[Upload, Receiving]:
        taken, blob = await self.write(
            lambda store: self.files.take_up(store, CALL, upload.upload_id, upload.received_bytes)
        )
        assert isinstance(blob, OpenBlob)
        receiving = Receiving(self.storage, taken, blob, b"d" * 32)
        await receiving.catch_up()
        for at in range(upload.received_bytes, len(content), 1 << 20):
            if await receiving.take(content[at : at + (1 << 20)]):
                taken = await self.acknowledge(taken, receiving)
        return taken, receiving

    async def acknowledge(self, taken: Upload, receiving: Receiving) -> Upload:
        return await self.write(
            lambda store: self.files.progress(store, taken, receiving.stored_bytes, receiving.runs)
        )

    async def uploaded(
        self, content: bytes = GOOD, retention: Retention | None = None, now: Directives = PLAIN
    ) -> File:
        upload, receiving = await self.received(await self.announced(content, retention), content)
        finished = await receiving.finish()
        assert finished is not None
        _, file = await self.write(
            lambda store: self.files.complete(store, CALL, upload, receiving.runs, *finished, now)
        )
        return file

    async def content(self, file: File) -> bytes:
        _, blob = await self.write(lambda store: self.files.to_read(store, file.workspace_id, file.file_id))
        return b"".join([piece async for piece in sealed_blobs.read(self.storage, blob)])

    async def delete(self, file: File, now: Directives = PLAIN) -> bool:
        return await self.write(lambda store: self.files.delete(store, CALL, file.file_id, now))

    async def keep_up(self) -> None:
        """Does the periodic work until there is nothing left to do."""
        lease = await self.leases.acquire("upkeep")
        assert lease is not None
        for work in (self.upkeep.end_due, self.upkeep.erase, self.upkeep.sweep):
            while await work(lease):
                pass

    async def states(self) -> list[str]:
        statement = "SELECT state FROM blobs ORDER BY id"
        return list(await self.database.read(lambda tx: tx.driver_execute(statement).scalars().all()))

    def objects(self) -> list[Path]:
        return sorted(path for path in (self.folder / "objects").rglob("*") if path.is_file())

    def key_files(self) -> list[Path]:
        return sorted((self.folder / "vault").rglob("*.key"))
