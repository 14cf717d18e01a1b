"""ModelService on the wire, but for its streams; single resolutions and batches meet in one batcher."""

from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

import grpc

from perron.api.common.v1 import error_reason_pb2
from perron.api.finetuning.v1 import model_service_pb2 as pb
from perron.api.finetuning.v1 import model_service_pb2_grpc
from perron.chassis import batch_items
from perron.chassis.batcher import Batcher
from perron.chassis.database import Database, Transaction
from perron.chassis.errors import InvalidArgument, PerronError
from perron.chassis.interceptors.access import Caller, current_call
from perron.chassis.paging import Pages
from perron.chassis.passports import Passport
from perron.finetuning import convert, errors
from perron.finetuning.base_models import BaseModels
from perron.finetuning.disclosures import DownloadCommand, Holdings, TransferCommand, Transfers
from perron.finetuning.downloads import Downloads, Place
from perron.finetuning.model import Artifact, Gate, Holding, Model, Resolved, Transfer
from perron.finetuning.models import Models, ResolveCommand, UpdateCommand
from perron.finetuning.peers import Governance
from perron.finetuning.store import Store

_Context = grpc.aio.ServicerContext[Any, Any]
_HELD_US: Final = 86_400_000_000
"""How long a copy is taken to be held where nobody says otherwise."""


class ModelServicer(model_service_pb2_grpc.ModelServiceServicer):
    """Serves ModelService."""

    def __init__(
        self,
        database: Database,
        base_models: BaseModels,
        models: Models,
        holdings: Holdings,
        transfers: Transfers,
        downloads: Downloads,
        governance: Governance,
        pages: Pages,
    ) -> None:
        self._database = database
        self._base_models = base_models
        self._models = models
        self._holdings = holdings
        self._transfers = transfers
        self._downloads = downloads
        self._governance = governance
        self._pages = pages
        self._resolutions: Batcher[ResolveCommand, Resolved] = Batcher(
            self._resolve,
            name="resolve",
            tenant=lambda command: command.organization_id,
            trace_parent=lambda command: command.trace_parent,
        )

    async def aclose(self) -> None:
        """Answers what waits."""
        await self._resolutions.aclose()

    async def ListBaseModels(
        self, request: pb.ListBaseModelsRequest, context: _Context
    ) -> pb.ListBaseModelsResponse:
        """Lists the base models."""
        return pb.ListBaseModelsResponse(base_models=map(convert.base_model, self._base_models.all()))

    async def GetModel(self, request: pb.GetModelRequest, context: _Context) -> pb.GetModelResponse:
        """Returns one model."""
        workspace_id = current_call().caller.workspace_id
        found = await self._database.read(lambda tx: Store(tx).model(workspace_id, request.model_id))
        return pb.GetModelResponse(model=convert.model(found))

    async def ListModels(self, request: pb.ListModelsRequest, context: _Context) -> pb.ListModelsResponse:
        """Lists models, newest first."""
        workspace_id = current_call().caller.workspace_id
        size = self._pages.size(request.page_size)
        binding = {"caller_scope": workspace_id, "filter_text": f"models of {request.job_id}"}
        cursor = self._pages.cursor(request.page_token, **binding)
        before = str(cursor[0]) if cursor else ""
        found = await self._database.read(
            lambda tx: Store(tx).models(workspace_id, request.job_id, before, size + 1)
        )
        page = found[:size]
        token = self._pages.token((page[-1].model_id,), **binding) if len(found) > size else ""
        return pb.ListModelsResponse(models=map(convert.model, page), next_page_token=token)

    async def UpdateModel(self, request: pb.UpdateModelRequest, context: _Context) -> pb.UpdateModelResponse:
        """Changes a model."""
        if set(request.update_mask.paths) != {"display_name"}:
            raise errors.field_invalid("update_mask", "The mask names display_name, and nothing else.")
        call = current_call()
        command = UpdateCommand(request.model_id, request.etag, request.display_name)
        changed = await self._database.write(lambda tx: self._models.update(Store(tx), call, command))
        return pb.UpdateModelResponse(model=convert.model(changed))

    async def ArchiveModel(
        self, request: pb.ArchiveModelRequest, context: _Context
    ) -> pb.ArchiveModelResponse:
        """Takes a model out of use."""
        changed = await self._archive(request.model_id, archived=True)
        return pb.ArchiveModelResponse(model=convert.model(changed))

    async def UnarchiveModel(
        self, request: pb.UnarchiveModelRequest, context: _Context
    ) -> pb.UnarchiveModelResponse:
        """Takes a model into use again."""
        changed = await self._archive(request.model_id, archived=False)
        return pb.UnarchiveModelResponse(model=convert.model(changed))

    async def DeleteModel(self, request: pb.DeleteModelRequest, context: _Context) -> pb.DeleteModelResponse:
        """Ends the use of a model; while governance cannot be asked about holds, its bytes are kept."""
        call = current_call()
        held = await self._is_held(call.caller, request.model_id)
        deleted = await self._database.write(
            lambda tx: self._models.delete(Store(tx), call, request.model_id, held=held)
        )
        return pb.DeleteModelResponse(erasure=convert.erasure(deleted))

    async def Resolve(self, request: pb.ResolveRequest, context: _Context) -> pb.ResolveResponse:
        """Says what one name means."""
        passport = current_call().caller.passport
        assert passport is not None  # the contract demands it
        return convert.resolved(await self._resolutions.submit(_resolve_command(request, passport)))

    async def BatchResolve(
        self, request: pb.BatchResolveRequest, context: _Context
    ) -> pb.BatchResolveResponse:
        """Says what many names mean."""
        caller = current_call().caller
        outcomes = await batch_items.submit(
            request.items, lambda item: _resolve_item(item, caller), self._resolutions
        )
        return pb.BatchResolveResponse(results=map(convert.resolve_result, outcomes))

    async def DownloadModel(
        self, request: pb.DownloadModelRequest, context: _Context
    ) -> AsyncIterator[pb.DownloadModelResponse]:
        """Streams a model to its own workspace."""
        ttl_us = convert.microseconds(request.ttl, _HELD_US)
        command = DownloadCommand(request.model_id, request.holding_id, ttl_us)
        place = Place(request.artifact, request.offset)
        async for part in self._downloads.of_owner(current_call(), command, place):
            if isinstance(part, Holding):
                yield pb.DownloadModelResponse(holding=convert.holding(part))
            elif isinstance(part, Artifact):
                yield pb.DownloadModelResponse(artifact=convert.artifact(part))
            else:
                yield pb.DownloadModelResponse(chunk=part)

    async def DownloadTransfer(
        self, request: pb.DownloadTransferRequest, context: _Context
    ) -> AsyncIterator[pb.DownloadTransferResponse]:
        """Streams a model to the party of a transfer."""
        place = Place(request.artifact, request.offset)
        async for part in self._downloads.of_transfer(request.secret, place):
            if isinstance(part, Artifact):
                yield pb.DownloadTransferResponse(artifact=convert.artifact(part))
            elif isinstance(part, bytes):
                yield pb.DownloadTransferResponse(chunk=part)

    async def RenewHolding(
        self, request: pb.RenewHoldingRequest, context: _Context
    ) -> pb.RenewHoldingResponse:
        """Prolongs a holding."""
        call, ttl_us = current_call(), convert.microseconds(request.ttl, _HELD_US)
        found, deleted = await self._database.write(
            lambda tx: self._holdings.renew(Store(tx), call, request.holding_id, ttl_us)
        )
        return pb.RenewHoldingResponse(holding=convert.holding(found), model_deleted=deleted)

    async def ReleaseHolding(
        self, request: pb.ReleaseHoldingRequest, context: _Context
    ) -> pb.ReleaseHoldingResponse:
        """Notes that a copy is gone."""
        call = current_call()
        deleted = await self._database.write(
            lambda tx: self._holdings.release(Store(tx), call, request.holding_id)
        )
        return pb.ReleaseHoldingResponse(model_deleted=deleted)

    async def AuthorizeTransfer(
        self, request: pb.AuthorizeTransferRequest, context: _Context
    ) -> pb.AuthorizeTransferResponse:
        """Opens the gate to a distributor."""
        found, secret, now_us = await self._permit(
            TransferCommand(
                model_id=request.model_id,
                gate=Gate.DISTRIBUTOR,
                party=request.distributor,
                purpose="",
                expire_us=request.expire_time.ToMicroseconds(),
            )
        )
        return pb.AuthorizeTransferResponse(
            transfer=convert.transfer(found, now_us), secret=secret, secret_reason=_secret_reason(secret)
        )

    async def RecordConsent(
        self, request: pb.RecordConsentRequest, context: _Context
    ) -> pb.RecordConsentResponse:
        """Opens the gate to any other party."""
        found, secret, now_us = await self._permit(
            TransferCommand(
                model_id=request.model_id,
                gate=Gate.CONSENT,
                party=request.party,
                purpose=request.purpose,
                expire_us=request.expire_time.ToMicroseconds(),
            )
        )
        return pb.RecordConsentResponse(
            transfer=convert.transfer(found, now_us), secret=secret, secret_reason=_secret_reason(secret)
        )

    async def RevokeTransfer(
        self, request: pb.RevokeTransferRequest, context: _Context
    ) -> pb.RevokeTransferResponse:
        """Ends a transfer."""
        call = current_call()

        def revoke(tx: Transaction) -> tuple[Transfer, int]:
            store = Store(tx)
            return self._transfers.revoke(store, call, request.transfer_id), store.now_us()

        found, now_us = await self._database.write(revoke)
        return pb.RevokeTransferResponse(transfer=convert.transfer(found, now_us))

    async def ListTransfers(
        self, request: pb.ListTransfersRequest, context: _Context
    ) -> pb.ListTransfersResponse:
        """Lists transfers, newest first."""
        organization_id = current_call().caller.organization_id
        size = self._pages.size(request.page_size)
        binding = {"caller_scope": organization_id, "filter_text": f"transfers of {request.model_id}"}
        cursor = self._pages.cursor(request.page_token, **binding)
        before = str(cursor[0]) if cursor else ""

        def read(tx: Transaction) -> tuple[list[Transfer], int]:
            store = Store(tx)
            if request.model_id:
                store.model_of_organization(organization_id, request.model_id)
            return store.transfers(organization_id, request.model_id, before, size + 1), store.now_us()

        found, now_us = await self._database.read(read)
        page = found[:size]
        token = self._pages.token((page[-1].transfer_id,), **binding) if len(found) > size else ""
        return pb.ListTransfersResponse(
            transfers=[convert.transfer(one, now_us) for one in page], next_page_token=token
        )

    async def _archive(self, model_id: str, *, archived: bool) -> Model:
        call = current_call()
        return await self._database.write(
            lambda tx: self._models.archive(Store(tx), call, model_id, archived=archived)
        )

    async def _is_held(self, caller: Caller, model_id: str) -> bool:
        scope = (caller.organization_id, caller.workspace_id, model_id)
        try:
            (directives,) = await self._governance.directives([scope])
        except PerronError:
            return True  # use ends all the same; the erasure asks again
        return directives.held

    async def _permit(self, command: TransferCommand) -> tuple[Transfer, str, int]:
        call = current_call()

        def permit(tx: Transaction) -> tuple[Transfer, str, int]:
            store = Store(tx)
            return *self._transfers.permit(store, call, command), store.now_us()

        return await self._database.write(permit)

    async def _resolve(self, commands: Sequence[ResolveCommand]) -> Sequence[Resolved | PerronError]:
        return await self._database.read(lambda tx: self._models.resolve(Store(tx), commands))


def _resolve_item(item: pb.ResolveItem, caller: Caller) -> ResolveCommand:
    """Reads one item of a batch; raises InvalidArgument, or what its passport was refused with."""
    if item.passport_index >= len(caller.passports):
        raise InvalidArgument(
            "FIELD_INVALID", "passport_index: there is no such passport", field="passport_index"
        )
    passport = caller.passports[item.passport_index]
    if isinstance(passport, PerronError):
        raise passport
    return _resolve_command(item, passport)


def _resolve_command(request: pb.ResolveRequest | pb.ResolveItem, passport: Passport) -> ResolveCommand:
    return ResolveCommand(
        passport.workspace_id, request.model, request.trace_parent, passport.organization_id
    )


def _secret_reason(secret: str) -> error_reason_pb2.ErrorReason.ValueType:
    if secret:
        return error_reason_pb2.ERROR_REASON_UNSPECIFIED
    return error_reason_pb2.ERROR_REASON_SECRET_ALREADY_SHOWN
