"""Uploads when server or client is killed, the disk is full, the bucket is gone, or the file is large."""

import asyncio
import hashlib
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest

from perron.api.finetuning.v1 import file_pb2
from perron.api.finetuning.v1 import file_service_pb2 as pb
from perron.chassis.clock import SystemClock
from perron.chassis.database import Database
from perron.chassis.ids import new_id
from perron.chassis.leases import Leases
from perron.chassis.testing import FakeClock
from perron.chassis.vault import Vault
from perron.finetuning.blobs import Blobs
from perron.finetuning.file_model import PART_BYTES
from perron.finetuning.files import Files
from perron.finetuning.storage import Storage
from perron.finetuning.upkeep import Upkeep
from tests.contract.finetuning.process import Process, served
from tests.contract.finetuning.world import PIECE, Metadata, World, lines, messages, running
from tests.contract.governance.world import refused
from tests.scale import record, times
from tests.unit.finetuning.workshop import Rules

_CHANCE = random.Random(7)
_KILLS = times(2, 60)
_KILLED_CLIENTS = times(1, 20)


async def swept(world: World) -> list[Path]:
    """Gives up what is not complete and sweeps, beside a store whose server is gone; returns what is left."""
    database = Database(f"sqlite:///{world.folder / 'finetuning.db'}")
    blobs = Blobs(Vault(world.folder / "vault", b"r" * 32), new_id)
    files = Files(blobs, new_id, lambda *_: None)
    storage = Storage(str(world.folder / "objects"))
    everything: Any = timedelta(seconds=-60)
    upkeep = Upkeep(database, storage, files, blobs, Rules(), SystemClock(), orphan_age=everything)
    lease = await Leases(database).acquire("upkeep")
    assert lease is not None
    await database.write(lambda tx: tx.driver_execute("UPDATE uploads SET expire_time = 1"))
    for work in (upkeep.end_due, upkeep.erase, upkeep.sweep):
        while await work(lease):
            pass
    await database.aclose()
    return world.objects()


async def received(world: World, caller: Metadata, upload_id: str) -> int:
    request = pb.GetUploadRequest(upload_id=upload_id)
    answer = await world.files.GetUpload(request, metadata=caller, wait_for_ready=True)
    return int(answer.upload.received_bytes)


async def test_a_killed_server_tears_no_file_and_leaves_no_orphan(tmp_path: Path) -> None:
    async with served(tmp_path) as (world, process):
        caller = world.customer(world.tenant())
        content = lines(5 * PART_BYTES, 2000)
        process.start()
        await process.ready()
        upload = await world.announce(caller, content)
        for _ in range(_KILLS):
            offset = await received(world, caller, upload.upload_id)
            if offset >= 3 * PART_BYTES:  # as good as done: begin another
                upload, offset = await world.announce(caller, content), 0
            deadly = _CHANCE.randrange(1, (len(content) - offset) // PIECE)
            sending = killing(process, messages(upload.upload_id, content, offset), deadly)
            with pytest.raises(grpc.aio.AioRpcError):
                await world.files.UploadFile(sending, metadata=caller)
            process.start()
            assert await received(world, caller, upload.upload_id) >= offset
        offset = await received(world, caller, upload.upload_id)
        file = (await world.send(caller, upload, content, offset)).file
        assert file.state == file_pb2.File.STATE_VALID
        assert file.statistics.examples == content.count(b"\n")
        assert await world.download(caller, file.file_id) == content
        process.kill()
        assert len(await swept(world)) == -(-len(content) // PART_BYTES)
        process.start()
        await process.ready()
        assert await world.download(caller, file.file_id) == content
        record("an upload survives SIGKILL of the server", kills=_KILLS)


async def killing(process: Process, sent: AsyncIterator[Any], deadly: int) -> AsyncIterator[Any]:
    """Passes messages on, and kills the server when so many have gone."""
    left = deadly
    async for message in sent:
        yield message
        left -= 1
        if not left:
            process.kill()


async def test_a_killed_client_is_continued_by_another(tmp_path: Path) -> None:
    async with served(tmp_path) as (world, process):
        caller = world.customer(world.tenant())
        content = lines(6 * PART_BYTES, 2000)
        (tmp_path / "content").write_bytes(content)
        process.start()
        await process.ready()
        upload = await world.announce(caller, content)
        key = caller[0][1].removeprefix("Bearer ")
        for _ in range(_KILLED_CLIENTS):
            offset = await received(world, caller, upload.upload_id)
            if offset >= 3 * PART_BYTES:
                upload, offset = await world.announce(caller, content), 0
            named = [process.target, key, upload.upload_id, str(offset), str(tmp_path / "content")]
            await asyncio.to_thread(_killed_client, named)
        offset = await received(world, caller, upload.upload_id)
        file = (await world.send(caller, upload, content, offset)).file
        assert await world.download(caller, file.file_id) == content
        # A client may have sent the last of an upload before it was killed: that is a file then.
        files = (await world.files.ListFiles(pb.ListFilesRequest(), metadata=caller)).files
        process.kill()
        assert len(await swept(world)) == len(files) * -(-len(content) // PART_BYTES)
        record("an upload survives SIGKILL of its client", kills=_KILLED_CLIENTS)


def _killed_client(arguments: list[str]) -> None:
    client = subprocess.Popen(
        [sys.executable, "-m", "tests.contract.finetuning.uploader", *arguments], stdout=subprocess.PIPE
    )
    assert client.stdout is not None
    for _ in range(_CHANCE.randrange(1, 40)):
        client.stdout.readline()
    client.send_signal(signal.SIGKILL)
    client.wait()
    client.stdout.close()


async def test_a_full_disk_is_unavailable_and_the_upload_goes_on_when_there_is_room(tmp_path: Path) -> None:
    async with served(tmp_path) as (world, process):
        caller = world.customer(world.tenant())
        content = lines(2 * PART_BYTES, 2000)
        process.start(file_bytes_max=PART_BYTES - PIECE)
        await process.ready()
        upload = await world.announce(caller, content)
        error = await refused(world.send(caller, upload, content))
        assert (error.code, error.reason) == ("UNAVAILABLE", "STORAGE_UNAVAILABLE")
        assert "objects" not in error.message
        small = await world.upload(caller, lines(PIECE))
        assert small.state == file_pb2.File.STATE_VALID
        assert await received(world, caller, upload.upload_id) == 0
        process.kill()
        process.start()
        await process.ready()
        file = (await world.send(caller, upload, content)).file
        assert await world.download(caller, file.file_id) == content


async def test_a_bucket_that_is_gone_is_unavailable_and_nothing_is_lost(
    tmp_path: Path, clock: FakeClock
) -> None:
    bucket = "s3://bucket/prefix?region=eu-west-3&endpoint=http://127.0.0.1:1"
    async with running(tmp_path, clock, storage_url=bucket) as world:
        caller = world.customer(world.tenant())
        content = lines(PIECE)
        upload = await world.announce(caller, content)
        error = await refused(world.send(caller, upload, content))
        assert (error.code, error.reason) == ("UNAVAILABLE", "STORAGE_UNAVAILABLE")
        assert "127.0.0.1" not in error.message
        assert await received(world, caller, upload.upload_id) == 0


def large(size: int) -> Iterator[bytes]:
    """A valid file of about `size` bytes, in pieces; the same each time."""
    block = lines(PIECE, 200)
    for _ in range(size // len(block) + 1):
        yield block


async def test_a_large_upload_does_not_grow_the_service(tmp_path: Path) -> None:
    size = times(48, 1024) * 1024 * 1024
    digest, length = hashlib.sha256(), 0
    for piece in large(size):
        digest.update(piece)
        length += len(piece)
    async with served(tmp_path) as (world, process):
        caller = world.customer(world.tenant())
        process.start()
        await process.ready()
        before = process.resident_mb()
        upload = await world.announce(caller, b"", bytes=length, sha256=digest.hexdigest())

        async def all_of_it() -> AsyncIterator[pb.UploadFileRequest]:
            yield pb.UploadFileRequest(start=pb.UploadStart(upload_id=upload.upload_id))
            for piece in large(size):
                yield pb.UploadFileRequest(chunk=piece)

        file = (await world.files.UploadFile(all_of_it(), metadata=caller)).file
        grown = process.resident_mb("VmHWM") - before
        assert file.state == file_pb2.File.STATE_VALID
        assert grown < 64
        record("a large upload does not grow the service", bytes=length, grown_mib=round(grown, 1))
