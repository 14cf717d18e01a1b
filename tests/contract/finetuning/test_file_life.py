"""How long files live, as a real governance decides and an identity tells; clauses 3-zdr and 3-paid."""

import asyncio
from datetime import timedelta

import pytest

from perron.api.finetuning.v1 import file_service_pb2 as pb
from perron.api.governance.v1 import directive_service_pb2
from perron.chassis.clock import to_us
from perron.chassis.errors import Unavailable
from perron.chassis.testing import FakeClock
from tests.contract.finetuning.world import PIECE, Metadata, World, lines, messages
from tests.contract.governance.world import refused

DAY = timedelta(days=1)


async def approve_zero_retention(world: World, caller: Metadata) -> None:
    asked = await world.directives.RequestZeroRetention(
        directive_service_pb2.RequestZeroRetentionRequest(reasons="clinical data"), metadata=caller
    )
    await world.directives.ReviewZeroRetention(
        directive_service_pb2.ReviewZeroRetentionRequest(
            zero_retention_request_id=asked.zero_retention_request.zero_retention_request_id,
            verdict=directive_service_pb2.REVIEW_VERDICT_APPROVED,
        ),
        metadata=world.operator("REVIEWER"),
    )


async def end_us(world: World, caller: Metadata, file_id: str) -> int:
    file = (await world.files.GetFile(pb.GetFileRequest(file_id=file_id), metadata=caller)).file
    return int(file.expire_time.ToMicroseconds()) if file.HasField("expire_time") else 0


async def once_it_ends(world: World, caller: Metadata, file_id: str, *, ends: bool = True) -> int:
    """Returns when a file ends, as soon as the event that says so has been consumed."""
    async with asyncio.timeout(20):
        while bool(found := await end_us(world, caller, file_id)) is not ends:
            pass
    return found


async def test_zero_retention_binds_files_that_come_and_files_that_are_there(
    world: World, clock: FakeClock
) -> None:
    caller = world.customer(world.tenant())
    before = await world.upload(caller, lines(PIECE))
    assert not before.HasField("expire_time")
    upload = await world.announce(caller, content := lines(2 * PIECE))
    await approve_zero_retention(world, caller)
    on_its_way = (await world.send(caller, upload, content)).file
    after = await world.upload(caller, content)
    ends = to_us(clock.now() + DAY)
    assert await once_it_ends(world, caller, before.file_id) == ends
    assert {one.expire_time.ToMicroseconds() for one in (on_its_way, after)} == {ends}
    clock.advance(DAY - timedelta(microseconds=1))
    assert await world.download(caller, after.file_id) == content
    clock.advance(timedelta(microseconds=1))
    for file in (before, on_its_way, after):
        assert (await refused(world.download(caller, file.file_id))).code == "NOT_FOUND"
    assert not (await world.files.ListFiles(pb.ListFilesRequest(), metadata=caller)).files


async def test_files_end_thirty_days_after_their_subscription_and_free_ones_never(
    world: World, clock: FakeClock
) -> None:
    tenant = world.tenant()
    caller = world.customer(tenant)
    free = await world.upload(caller, lines(PIECE))
    subscription_id = tenant.upgrade()
    paid = await world.upload(caller, content := lines(PIECE))
    await world.tell("organization.plan_changed", tenant, resource_id=subscription_id)
    assert not paid.HasField("expire_time")
    tenant.downgrade()
    await world.tell("organization.plan_changed", tenant)
    assert await once_it_ends(world, caller, paid.file_id) == to_us(clock.now() + 30 * DAY)
    await world.tell("organization.plan_changed", tenant, resource_id=subscription_id)
    assert await once_it_ends(world, caller, paid.file_id, ends=False) == 0
    await world.tell("organization.plan_changed", tenant)
    await once_it_ends(world, caller, paid.file_id)
    clock.advance(30 * DAY - timedelta(seconds=1))
    assert await world.download(caller, paid.file_id) == content
    clock.advance(timedelta(seconds=1))
    assert (await refused(world.download(caller, paid.file_id))).code == "NOT_FOUND"
    assert await end_us(world, caller, free.file_id) == 0


async def test_a_deleted_workspace_ends_its_files_and_uploads(world: World) -> None:
    tenant = world.tenant()
    caller = world.customer(tenant)
    file = await world.upload(caller, content := lines(PIECE))
    upload = await world.announce(caller, content)
    await world.tell("workspace.deleted", tenant, workspace_id=tenant.workspace_id)
    reading = pb.GetFileRequest(file_id=file.file_id)
    async with asyncio.timeout(20):
        while (await world.files.ListFiles(pb.ListFilesRequest(), metadata=caller)).files:
            pass
    assert (await refused(world.files.GetFile(reading, metadata=caller))).code == "NOT_FOUND"
    assert (await refused(world.send(caller, upload, content))).code == "NOT_FOUND"
    assert (await refused(world.announce(caller, content))).code == "NOT_FOUND"


async def test_an_upload_that_lies_still_for_a_day_is_gone(world: World, clock: FakeClock) -> None:
    caller = world.customer(world.tenant())
    upload = await world.announce(caller, content := lines(PIECE))
    clock.advance(DAY)
    asking = world.files.GetUpload(pb.GetUploadRequest(upload_id=upload.upload_id), metadata=caller)
    assert (await refused(asking)).code == "NOT_FOUND"
    sending = world.files.UploadFile(messages(upload.upload_id, content), metadata=caller)
    assert (await refused(sending)).code == "NOT_FOUND"


@pytest.mark.parametrize("method", ["CreateUpload", "DeleteFile", "UploadFile"])
async def test_a_key_that_only_reads_changes_nothing(world: World, method: str) -> None:
    tenant = world.tenant()
    caller, reader = world.customer(tenant), world.customer(tenant, scopes=["FINE_TUNING_READ"])
    file = await world.upload(caller, content := lines(PIECE))
    upload = await world.announce(caller, content)
    calls = {
        "CreateUpload": world.announce(reader, content),
        "DeleteFile": world.files.DeleteFile(pb.DeleteFileRequest(file_id=file.file_id), metadata=reader),
        "UploadFile": world.send(reader, upload, content),
    }
    error = await refused(calls.pop(method))
    assert (error.code, error.reason) == ("PERMISSION_DENIED", "SCOPE_MISSING")
    for call in calls.values():
        getattr(call, "cancel", getattr(call, "close", None))()
    assert await world.download(reader, file.file_id) == content


async def test_while_governance_is_gone_nothing_is_kept_or_deleted_and_nothing_is_lost(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    caller = world.customer(world.tenant())
    file = await world.upload(caller, content := lines(PIECE))
    upload = await world.announce(caller, content)
    governance = world.application._registrations[0][1]._governance

    async def gone(*_: object) -> None:
        raise Unavailable("PEER_UNAVAILABLE", "governance does not answer")

    with monkeypatch.context() as patched:
        patched.setattr(governance, "directives", gone)
        patched.setattr(governance, "retention_of_file", gone)
        deleting = world.files.DeleteFile(pb.DeleteFileRequest(file_id=file.file_id), metadata=caller)
        for call in (world.announce(caller, content), world.send(caller, upload, content), deleting):
            error = await refused(call)
            assert (error.code, error.reason) == ("UNAVAILABLE", "PEER_UNAVAILABLE")
    assert await world.download(caller, file.file_id) == content
    assert (await world.send(caller, upload, content)).file.sha256 == file.sha256
