"""FileService over a real channel: each documented status, and what becomes of the bytes."""

import asyncio
import hashlib
from typing import Any
from uuid import uuid4

import grpc
import pytest

from perron.api.finetuning.v1 import file_pb2
from perron.api.finetuning.v1 import file_service_pb2 as pb
from perron.finetuning.file_model import PART_BYTES
from tests.contract.finetuning.world import PIECE, World, line, lines, messages
from tests.contract.governance.world import refused


async def test_a_file_comes_back_as_it_was_sent_with_what_was_counted(world: World) -> None:
    caller = world.customer(tenant := world.tenant())
    content = lines(3 * PIECE)
    file = await world.upload(caller, content)
    assert file.state == file_pb2.File.STATE_VALID
    assert file.workspace_id == tenant.workspace_id
    assert (file.bytes, file.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    count = content.count(b"\n")
    counted = file.statistics
    assert (counted.examples, counted.turns) == (count, 2 * count)
    assert (counted.user_turns, counted.assistant_turns) == (count, count)
    assert counted.tokens > 50 * count
    assert file.decision_id.startswith("dec_")
    assert file.attestation.member_id
    assert not file.HasField("expire_time")
    assert await world.download(caller, file.file_id) == content
    assert (await world.files.GetFile(pb.GetFileRequest(file_id=file.file_id), metadata=caller)).file == file


@pytest.mark.parametrize(("offset", "length"), [(0, 1), (100, 0), (PIECE - 1, 2), (0, 0)])
async def test_a_range_is_downloaded(world: World, offset: int, length: int) -> None:
    caller = world.customer(world.tenant())
    content = lines(2 * PIECE)
    file = await world.upload(caller, content)
    end = offset + length if length else len(content)
    assert await world.download(caller, file.file_id, offset=offset, length=length) == content[offset:end]
    for beyond in ({"offset": len(content) + 1}, {"offset": 1, "length": len(content)}):
        assert (await refused(world.download(caller, file.file_id, **beyond))).reason == "FIELD_INVALID"


async def test_an_upload_goes_on_where_its_stream_broke(world: World) -> None:
    caller = world.customer(world.tenant())
    content = lines(PART_BYTES + 5 * PIECE)
    upload = await world.announce(caller, content)
    half = content[: PART_BYTES + PIECE]
    answer = await world.send(caller, upload, half)
    assert not answer.HasField("file")
    assert answer.upload.received_bytes == PART_BYTES
    wrong = await refused(world.send(caller, upload, content))
    assert (wrong.code, wrong.reason) == ("FAILED_PRECONDITION", "UPLOAD_OFFSET_WRONG")
    assert wrong.metadata["received_bytes"] == str(PART_BYTES)
    found = await world.files.GetUpload(pb.GetUploadRequest(upload_id=upload.upload_id), metadata=caller)
    file = (await world.send(caller, upload, content, found.upload.received_bytes)).file
    assert file.state == file_pb2.File.STATE_VALID
    assert file.statistics.examples == content.count(b"\n")
    assert await world.download(caller, file.file_id) == content
    again = await world.send(caller, upload, content)
    assert again.file == file
    assert again.upload.received_bytes == len(content)


async def test_a_second_stream_ends_the_first(world: World) -> None:
    caller = world.customer(world.tenant())
    content = lines(2 * PART_BYTES + PIECE)
    upload = await world.announce(caller, content)
    may_go_on, never = asyncio.Event(), asyncio.Event()

    async def slow() -> Any:
        async for message in messages(upload.upload_id, content[: PART_BYTES + PIECE]):
            yield message
            if message.HasField("start"):
                await may_go_on.wait()
        await never.wait()

    first = asyncio.ensure_future(refused(world.files.UploadFile(slow(), metadata=caller)))
    await taken_up(world, upload.upload_id)
    file = (await world.send(caller, upload, content)).file
    may_go_on.set()
    assert (await first).reason == "UPLOAD_TAKEN_OVER"
    assert await world.download(caller, file.file_id) == content


async def taken_up(world: World, upload_id: str) -> None:
    """Returns once a stream has the upload: from then on a second one takes it over."""
    database = world.application._databases[0]
    while not await database.read(
        lambda tx: tx.driver_execute("SELECT stream FROM uploads WHERE id = ?", (upload_id,)).scalar()
    ):
        pass


async def test_other_bytes_than_announced_are_refused_and_forgotten(world: World) -> None:
    caller = world.customer(world.tenant())
    content = lines(PIECE)
    upload = await world.announce(caller, content, sha256="0" * 64)
    error = await refused(world.send(caller, upload, content))
    assert (error.code, error.reason) == ("INVALID_ARGUMENT", "DIGEST_MISMATCH")
    assert (await refused(world.send(caller, upload, content))).reason == "RESOURCE_NOT_FOUND"
    upload = await world.announce(caller, content)
    more = await refused(world.send(caller, upload, content + b"x"))
    assert (more.code, more.reason) == ("INVALID_ARGUMENT", "FIELD_INVALID")
    assert (await world.send(caller, upload, content)).file.state == file_pb2.File.STATE_VALID


async def test_faults_are_told_by_place_and_the_content_is_gone(world: World) -> None:
    caller = world.customer(world.tenant())
    content = line(1) + b'{"messages":[{"role":"secret-role","content":"secret"}]}\n' + line(2)
    file = await world.upload(caller, content)
    assert file.state == file_pb2.File.STATE_INVALID
    assert [(one.line, one.column, one.rule) for one in file.errors] == [
        (2, 22, file_pb2.LineError.RULE_ROLE_UNKNOWN)
    ]
    assert file.error_count == 1
    assert b"secret" not in file.SerializeToString()
    error = await refused(world.download(caller, file.file_id))
    assert (error.code, error.reason) == ("FAILED_PRECONDITION", "FILE_NOT_VALID")
    listed = (await world.files.ListFiles(pb.ListFilesRequest(), metadata=caller)).files
    assert [(one.file_id, len(one.errors), one.error_count) for one in listed] == [(file.file_id, 0, 1)]


async def test_no_line_of_a_file_is_ever_on_disk_in_the_clear(world: World) -> None:
    caller = world.customer(world.tenant())
    content = line(0).replace(b"question", b"canary-7261")
    await world.upload(caller, content + lines(PIECE))
    await world.upload(caller, content + b"broken")
    files = [path for path in world.folder.rglob("*") if path.is_file()]
    assert len(files) > 5
    assert not [path for path in files if b"canary-7261" in path.read_bytes()]


async def test_a_file_ends_at_its_deletion_also_for_whoever_reads_it(world: World) -> None:
    caller = world.customer(world.tenant())
    content = lines(4 * PART_BYTES)
    file = await world.upload(caller, content)
    reading = world.files.DownloadFile(pb.DownloadFileRequest(file_id=file.file_id), metadata=caller)
    await reading.read()
    request = pb.DeleteFileRequest(file_id=file.file_id, request_id=str(uuid4()))
    assert not (await world.files.DeleteFile(request, metadata=caller)).deferred

    async def rest() -> None:
        while await reading.read() is not grpc.aio.EOF:
            pass

    assert (await refused(rest())).reason == "RESOURCE_NOT_FOUND"
    assert not (await world.files.DeleteFile(request, metadata=caller)).deferred
    once_more = pb.DeleteFileRequest(file_id=file.file_id)
    assert (await refused(world.files.DeleteFile(once_more, metadata=caller))).code == "NOT_FOUND"
    assert (await refused(world.download(caller, file.file_id))).code == "NOT_FOUND"
    assert not (await world.files.ListFiles(pb.ListFilesRequest(), metadata=caller)).files


async def test_files_of_another_workspace_do_not_exist(world: World) -> None:
    owner, other = world.customer(world.tenant()), world.customer(world.tenant())
    content = lines(PIECE)
    file = await world.upload(owner, content)
    upload = await world.announce(owner, content)
    unknown = "0" * 26
    asked = {
        "GetFile": lambda one: pb.GetFileRequest(file_id=one),
        "DeleteFile": lambda one: pb.DeleteFileRequest(file_id=one),
    }
    for method, request in asked.items():
        call = getattr(world.files, method)
        foreign = await refused(call(request(file.file_id), metadata=other))
        absent = await refused(call(request(f"file_{unknown}"), metadata=other))
        assert (
            (foreign.code, foreign.message) == (absent.code, absent.message) == ("NOT_FOUND", absent.message)
        )
    assert (await refused(world.download(other, file.file_id))).code == "NOT_FOUND"
    assert (await refused(world.send(other, upload, content))).code == "NOT_FOUND"
    asking = world.files.GetUpload(pb.GetUploadRequest(upload_id=upload.upload_id), metadata=other)
    assert (await refused(asking)).code == "NOT_FOUND"
    assert not (await world.files.ListFiles(pb.ListFilesRequest(), metadata=other)).files
    assert await world.download(owner, file.file_id) == content


async def test_files_are_listed_newest_first_in_pages(world: World) -> None:
    caller = world.customer(world.tenant())
    made = [(await world.upload(caller, line(number))).file_id for number in range(5)]
    seen, token = [], ""
    while True:
        page = await world.files.ListFiles(
            pb.ListFilesRequest(page_size=2, page_token=token), metadata=caller
        )
        seen += [one.file_id for one in page.files]
        token = page.next_page_token
        if not token:
            break
    assert seen == made[::-1]
    forged = pb.ListFilesRequest(page_token="x" * 40)
    assert (await refused(world.files.ListFiles(forged, metadata=caller))).reason == "PAGE_TOKEN_INVALID"


async def test_an_upload_is_announced_once_per_request_id(world: World) -> None:
    caller = world.customer(world.tenant())
    content, request_id = lines(PIECE), str(uuid4())
    made = [await world.announce(caller, content, request_id=request_id) for _ in range(2)]
    assert made[0] == made[1]
    error = await refused(world.announce(caller, content, request_id=request_id, display_name="other"))
    assert error.reason == "REQUEST_ID_REUSED"


@pytest.mark.parametrize(
    "fields",
    [
        {"rights_attested": False},
        {"bytes": 0},
        {"bytes": (1 << 36) + 1},
        {"sha256": "A" * 64},
        {"sha256": "../" + "0" * 61},
        {"display_name": ""},
        {"display_name": "a\x00b"},
    ],
)
async def test_what_cannot_be_announced_is_refused_with_its_field(world: World, fields: Any) -> None:
    error = await refused(world.announce(world.customer(world.tenant()), line(), **fields))
    assert (error.code, error.reason) == ("INVALID_ARGUMENT", "FIELD_INVALID")
    assert error.violations[0].field == next(iter(fields))


async def test_a_stream_names_its_upload_first_and_once(world: World) -> None:
    caller = world.customer(world.tenant())
    content = lines(PIECE)
    upload = await world.announce(caller, content)
    start = pb.UploadFileRequest(start=pb.UploadStart(upload_id=upload.upload_id))
    chunk = pb.UploadFileRequest(chunk=content)
    for stream in ([], [chunk], [start, start], [pb.UploadFileRequest()]):
        call = world.files.UploadFile(iter(stream), metadata=caller)
        assert (await refused(call)).code == "INVALID_ARGUMENT"


async def test_bytes_beyond_the_plan_are_refused_and_free_plans_have_no_files(world: World) -> None:
    content = lines(PIECE)
    tenant = world.tenant()
    tenant.entitlements["fine_tuning_bytes"] = str(len(content) * 2)
    caller = world.customer(tenant)
    answers = await asyncio.gather(
        *(world.announce(caller, content) for _ in range(8)), return_exceptions=True
    )
    assert sum(not isinstance(one, BaseException) for one in answers) == 2
    error = await refused(world.announce(caller, content))
    assert (error.code, error.reason) == ("RESOURCE_EXHAUSTED", "STORED_BYTES_EXCEEDED")
    without = world.customer(world.tenant(entitlements={}))
    error = await refused(world.announce(without, content))
    assert (error.code, error.reason) == ("FAILED_PRECONDITION", "ENTITLEMENT_MISSING")


async def test_a_process_takes_only_so_many_streams_at_a_time(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    caller = world.customer(world.tenant())
    upload = await world.announce(caller, content := lines(PIECE))
    monkeypatch.setattr("perron.finetuning.file_servicer._UPLOADS_MAX", 0)
    error = await refused(world.send(caller, upload, content))
    assert (error.code, error.reason) == ("RESOURCE_EXHAUSTED", "OVERLOADED")
    assert error.retry_after
