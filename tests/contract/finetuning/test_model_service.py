import uuid
from datetime import timedelta
from typing import Any

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp

from perron.api.common.v1 import error_reason_pb2
from perron.api.finetuning.v1 import model_pb2
from perron.api.finetuning.v1 import model_service_pb2 as pb
from perron.chassis import status
from perron.chassis.clock import to_us
from perron.chassis.errors import PerronError
from perron.chassis.testing import BOTH, START, FakeClock
from perron.finetuning.file_model import Directives
from tests.contract.finetuning.stand_in import Person, Running, bearer, safetensors

pytestmark = pytest.mark.parametrize("database_url", BOTH, indirect=True)
LARGE = safetensors(8 << 20)
"""Weights of 32 MiB: more than flow control lets be under way."""


async def refused(call: Any) -> PerronError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return status.from_rpc_error(caught.value)


async def trained(finetuning: Running, weights: bytes | None = None) -> Any:
    """A model that a job of Ada's made."""
    file = await finetuning.upload("ada")
    await finetuning.create_job("ada", [file.file_id], suffix="support")
    worker = await finetuning.lease()
    assert worker is not None
    model_id = await worker.complete(await worker.write_model(weights=weights))
    return await get(finetuning, model_id)


async def get(finetuning: Running, model_id: str) -> Any:
    request = pb.GetModelRequest(model_id=model_id)
    return (await finetuning.models.GetModel(request, metadata=bearer("ada"))).model


async def delete(finetuning: Running, model_id: str) -> Any:
    request = pb.DeleteModelRequest(model_id=model_id)
    return (await finetuning.models.DeleteModel(request, metadata=bearer("ada"))).erasure


async def resolve(finetuning: Running, person: Person, name: str) -> Any:
    request = pb.ResolveRequest(passport=person.passport, model=name)
    return await finetuning.models.Resolve(request, metadata=bearer("admission"))


def download(finetuning: Running, model_id: str, **fields: Any) -> Any:
    request = pb.DownloadModelRequest(model_id=model_id, **fields)
    return finetuning.models.DownloadModel(request, metadata=bearer("ada"))


async def permit(finetuning: Running, model_id: str, **fields: Any) -> Any:
    """Authorizes a transfer to a distributor that is on the list."""
    request = pb.AuthorizeTransferRequest(
        **{"model_id": model_id, "distributor": "cloud-1", "expire_time": at(timedelta(days=1))} | fields
    )
    return await finetuning.models.AuthorizeTransfer(request, metadata=bearer("ada"))


def at(later: timedelta) -> Timestamp:
    message = Timestamp()
    message.FromMicroseconds(to_us(START + later))
    return message


def gathered(parts: list[Any]) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    for part in parts:
        match part.WhichOneof("part"):
            case "artifact":
                name = part.artifact.name
                files[name] = b""
            case "chunk":
                files[name] += part.chunk
    return files


async def test_a_model_says_where_it_comes_from_and_resolves_for_its_owner_alone(finetuning: Running) -> None:
    ada, bob = finetuning.person("ada"), finetuning.person("bob", workspace=2, key=2)
    model = await trained(finetuning)
    assert model.name == f"ft:tiny:{ada.workspace_id}:support:{model.model_id[-10:]}"
    assert [one.file_id for one in model.provenance.files] != []
    assert model.provenance.base_model == "tiny"

    for name in (model.name, model.model_id):
        assert (await resolve(finetuning, ada, name)).model_id == model.model_id
    seen = await refused(resolve(finetuning, bob, model.name))
    absent = await refused(resolve(finetuning, bob, "ft:tiny:nobody:x:0000000000"))

    assert (seen.code, seen.reason, seen.message) == (absent.code, absent.reason, absent.message)
    assert seen.code == "NOT_FOUND"


async def test_the_items_of_a_batch_are_resolved_each_by_itself(finetuning: Running) -> None:
    ada, bob = finetuning.person("ada"), finetuning.person("bob", workspace=2, key=2)
    model = await trained(finetuning)
    request = pb.BatchResolveRequest(
        passports=[ada.passport, bob.passport, "forged"],
        items=[pb.ResolveItem(passport_index=index, model=model.name) for index in (0, 1, 2, 3)]
        + [pb.ResolveItem(passport_index=0, model="")],
    )

    response = await finetuning.models.BatchResolve(request, metadata=bearer("agents"))

    found = [
        one.response.model_id if one.HasField("response") else status.from_status(one.error).reason
        for one in response.results
    ]
    assert found == [
        model.model_id, "RESOURCE_NOT_FOUND", "PASSPORT_INVALID", "FIELD_INVALID", "FIELD_INVALID"
    ]  # fmt: skip


async def test_an_archived_model_is_out_of_use_until_it_is_unarchived(finetuning: Running) -> None:
    ada = finetuning.person("ada")
    model = await trained(finetuning)
    request = {"model_id": model.model_id}
    await finetuning.models.ArchiveModel(pb.ArchiveModelRequest(**request), metadata=bearer("ada"))
    assert (await refused(resolve(finetuning, ada, model.name))).reason == "MODEL_ARCHIVED"

    await finetuning.models.UnarchiveModel(pb.UnarchiveModelRequest(**request), metadata=bearer("ada"))

    assert (await resolve(finetuning, ada, model.name)).name == model.name


async def test_a_stale_etag_changes_nothing(finetuning: Running) -> None:
    model = await trained(finetuning)
    change = pb.UpdateModelRequest(
        model_id=model.model_id, update_mask=FieldMask(paths=["display_name"]), display_name="Support"
    )
    changed = await finetuning.models.UpdateModel(change, metadata=bearer("ada"))
    change.etag, change.display_name = model.etag, "Other"

    error = await refused(finetuning.models.UpdateModel(change, metadata=bearer("ada")))

    assert (error.code, error.reason) == ("ABORTED", "ETAG_STALE")
    assert (await get(finetuning, model.model_id)).display_name == changed.model.display_name == "Support"
    change.update_mask.paths[:] = ["name"]
    assert (
        await refused(finetuning.models.UpdateModel(change, metadata=bearer("ada")))
    ).reason == "FIELD_INVALID"


async def test_deletion_ends_use_at_once_on_any_plan(finetuning: Running) -> None:
    ada = finetuning.person("ada")
    model = await trained(finetuning)
    made = await permit(finetuning, model.model_id)
    finetuning.person("ada", entitlements={})

    erasure = await delete(finetuning, model.model_id)

    assert erasure.state == model_pb2.Erasure.STATE_PENDING  # storage follows
    assert (await refused(resolve(finetuning, ada, model.name))).reason == "MODEL_DELETED"
    assert (await refused(download(finetuning, model.model_id).read())).reason == "MODEL_DELETED"
    transfer = finetuning.models.DownloadTransfer(pb.DownloadTransferRequest(secret=made.secret))
    assert (await refused(transfer.read())).reason == "TRANSFER_ENDED"
    assert (await refused(permit(finetuning, model.model_id))).reason == "MODEL_DELETED"
    listed = await finetuning.models.ListModels(pb.ListModelsRequest(), metadata=bearer("ada"))
    assert list(listed.models) == []
    found = await get(finetuning, model.model_id)
    assert (found.state, list(found.artifacts)) == (model_pb2.Model.STATE_DELETED, [])
    assert (await delete(finetuning, model.model_id)).state == model_pb2.Erasure.STATE_PENDING


async def test_a_hold_defers_the_erasure_and_not_the_end_of_use(finetuning: Running) -> None:
    ada = finetuning.person("ada")
    model = await trained(finetuning)
    finetuning.rules.present = Directives(zero_retention=False, held=True)

    assert (await delete(finetuning, model.model_id)).state == model_pb2.Erasure.STATE_DEFERRED

    assert (await refused(resolve(finetuning, ada, model.name))).reason == "MODEL_DELETED"


async def test_a_download_brings_every_file_and_goes_on_where_it_broke(finetuning: Running) -> None:
    model = await trained(finetuning)
    parts = [part async for part in download(finetuning, model.model_id)]
    holding = parts[0].holding
    files = gathered(parts[1:])
    assert files == {"adapter_config.json": b'{"r": 8}', "adapter_model.safetensors": safetensors(64)}

    rest = [
        part
        async for part in download(
            finetuning,
            model.model_id,
            holding_id=holding.holding_id,
            artifact="adapter_model.safetensors",
            offset=100,
        )
    ]

    assert rest[0].holding.holding_id == holding.holding_id
    assert gathered(rest[1:]) == {"adapter_model.safetensors": safetensors(64)[100:]}
    for fields, reason in (
        ({"artifact": "none.json"}, "RESOURCE_NOT_FOUND"),
        ({"offset": 1 << 20}, "FIELD_INVALID"),
        ({"holding_id": "hld_00000000000000000000000009"}, "RESOURCE_NOT_FOUND"),
    ):
        assert (await refused(download(finetuning, model.model_id, **fields).read())).reason == reason


async def test_whoever_holds_a_copy_learns_that_it_is_to_go(finetuning: Running, clock: FakeClock) -> None:
    model = await trained(finetuning)
    holding = (await download(finetuning, model.model_id).read()).holding
    renew = pb.RenewHoldingRequest(holding_id=holding.holding_id)
    assert not (await finetuning.models.RenewHolding(renew, metadata=bearer("ada"))).model_deleted
    assert (await delete(finetuning, model.model_id)).holdings == 1

    told = await finetuning.models.RenewHolding(renew, metadata=bearer("ada"))
    assert told.model_deleted
    release = pb.ReleaseHoldingRequest(holding_id=holding.holding_id)
    released = await finetuning.models.ReleaseHolding(release, metadata=bearer("ada"))

    assert released.model_deleted
    assert (await get(finetuning, model.model_id)).erasure.holdings == 0
    assert (await refused(finetuning.models.RenewHolding(renew, metadata=bearer("ada")))).code == "NOT_FOUND"


async def test_a_renewal_sent_again_prolongs_nothing(finetuning: Running, clock: FakeClock) -> None:
    model = await trained(finetuning)
    holding = (await download(finetuning, model.model_id).read()).holding
    renew = pb.RenewHoldingRequest(holding_id=holding.holding_id, request_id=str(uuid.uuid4()))
    clock.advance(timedelta(minutes=1))
    once = await finetuning.models.RenewHolding(renew, metadata=bearer("ada"))
    clock.advance(timedelta(minutes=1))

    again = await finetuning.models.RenewHolding(renew, metadata=bearer("ada"))

    assert again == once
    assert once.holding.expire_time.seconds == holding.expire_time.seconds + 60


async def test_a_deletion_ends_a_download_in_the_middle(finetuning: Running) -> None:
    model = await trained(finetuning, LARGE)
    call = download(finetuning, model.model_id)
    await call.read()

    await delete(finetuning, model.model_id)

    assert (await refused(drained(call))).reason == "MODEL_DELETED"


async def test_a_revocation_ends_a_transfer_in_the_middle(finetuning: Running) -> None:
    model = await trained(finetuning, LARGE)
    made = await permit(finetuning, model.model_id)
    call = finetuning.models.DownloadTransfer(pb.DownloadTransferRequest(secret=made.secret))
    assert (await call.read()).HasField("artifact")

    revoke = pb.RevokeTransferRequest(transfer_id=made.transfer.transfer_id)
    await finetuning.models.RevokeTransfer(revoke, metadata=bearer("ada"))

    assert (await refused(drained(call))).reason == "TRANSFER_ENDED"
    again = finetuning.models.DownloadTransfer(pb.DownloadTransferRequest(secret=made.secret))
    error = await refused(again.read())
    assert (error.code, error.reason) == ("PERMISSION_DENIED", "TRANSFER_ENDED")


async def test_a_distributor_that_the_operator_does_not_list_gets_nothing(finetuning: Running) -> None:
    model = await trained(finetuning)

    error = await refused(permit(finetuning, model.model_id, distributor="cloud-2"))

    assert (error.code, error.reason) == ("PERMISSION_DENIED", "DISTRIBUTOR_UNKNOWN")
    assert await transfers(finetuning) == []


async def test_another_party_gets_a_model_by_recorded_consent_until_it_is_over(
    finetuning: Running, clock: FakeClock
) -> None:
    model = await trained(finetuning)
    request = pb.RecordConsentRequest(
        model_id=model.model_id,
        party="An auditor",
        purpose="a review",
        expire_time=at(timedelta(hours=1)),
        request_id=str(uuid.uuid4()),
    )
    made = await finetuning.models.RecordConsent(request, metadata=bearer("ada"))
    again = await finetuning.models.RecordConsent(request, metadata=bearer("ada"))
    assert again.transfer.transfer_id == made.transfer.transfer_id
    assert again.secret == ""
    assert again.secret_reason == error_reason_pb2.ERROR_REASON_SECRET_ALREADY_SHOWN

    ask = pb.DownloadTransferRequest(secret=made.secret)
    parts = [part async for part in finetuning.models.DownloadTransfer(ask)]
    assert gathered(parts)["adapter_model.safetensors"] == safetensors(64)
    clock.advance(timedelta(hours=1))

    assert (await refused(finetuning.models.DownloadTransfer(ask).read())).reason == "TRANSFER_ENDED"
    (listed,) = await transfers(finetuning)
    assert (listed.party, listed.purpose, listed.state) == ("An auditor", "a review", 2)
    assert listed.HasField("last_download_time")
    wrong = pb.DownloadTransferRequest(secret="ptk_unheard-of")
    assert (await refused(finetuning.models.DownloadTransfer(wrong).read())).reason == "CREDENTIAL_INVALID"


async def test_only_an_admin_of_the_organization_discloses(finetuning: Running) -> None:
    model = await trained(finetuning)
    finetuning.person("ada", organization_role="MEMBER")
    assert (await refused(permit(finetuning, model.model_id))).reason == "ROLE_MISSING"
    finetuning.person("ada", organization=2, workspace=3)

    assert (await refused(permit(finetuning, model.model_id))).code == "NOT_FOUND"


async def test_base_models_are_the_operators_list(finetuning: Running) -> None:
    response = await finetuning.models.ListBaseModels(pb.ListBaseModelsRequest(), metadata=bearer("ada"))

    found = {one.name: (one.trainable, one.price_micros) for one in response.base_models}
    assert found == {"served-only": (False, 0), "tiny": (True, 2_500_000)}


async def transfers(finetuning: Running) -> list[Any]:
    response = await finetuning.models.ListTransfers(pb.ListTransfersRequest(), metadata=bearer("ada"))
    return list(response.transfers)


async def drained(call: Any) -> None:
    while await call.read() is not grpc.aio.EOF:
        pass
    raise AssertionError("the stream came to its end")
