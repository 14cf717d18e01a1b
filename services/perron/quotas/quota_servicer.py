"""QuotaService on the wire: single calls and batches meet in one batcher, and so in one transaction."""

from collections.abc import Sequence
from typing import Any

import grpc

from perron.api.quotas.v1 import quota_service_pb2 as pb
from perron.api.quotas.v1 import quota_service_pb2_grpc
from perron.chassis import batch_items
from perron.chassis.batcher import Batcher
from perron.chassis.database import Database
from perron.chassis.errors import PerronError
from perron.chassis.ids import to_bytes
from perron.chassis.interceptors.access import Caller, current_call
from perron.quotas import convert
from perron.quotas.convert import RawIdSource
from perron.quotas.model import Admitted, ReserveCommand, SettleCommand, Settlement
from perron.quotas.reservations import Reservations
from perron.quotas.store import Store

_Context = grpc.aio.ServicerContext[Any, Any]


class QuotaServicer(quota_service_pb2_grpc.QuotaServiceServicer):
    """Serves QuotaService."""

    def __init__(self, database: Database, reservations: Reservations, new_raw_id: RawIdSource) -> None:
        self._database = database
        self._reservations = reservations
        self._new_raw_id = new_raw_id
        self._reserves: Batcher[ReserveCommand, Admitted] = Batcher(
            self._reserve,
            name="reserve",
            tenant=lambda command: command.organization_id,
            trace_parent=lambda command: command.trace_parent,
        )
        self._settles: Batcher[SettleCommand, Settlement] = Batcher(
            self._settle,
            name="settle",
            tenant=lambda command: command.organization_id,
            trace_parent=lambda command: command.trace_parent,
        )

    async def aclose(self) -> None:
        """Answers what waits."""
        await self._reserves.aclose()
        await self._settles.aclose()

    async def Reserve(self, request: pb.ReserveRequest, context: _Context) -> pb.ReserveResponse:
        """Admits one call."""
        caller = current_call().caller
        assert caller.passport is not None  # the contract demands it
        command = convert.reserve_command(request, caller.passport, caller.key_id, self._new_raw_id)
        response = pb.ReserveResponse()
        convert.write_admitted(await self._reserves.submit(command), response)
        return response

    async def BatchReserve(
        self, request: pb.BatchReserveRequest, context: _Context
    ) -> pb.BatchReserveResponse:
        """Admits many calls."""
        caller = current_call().caller
        outcomes = await batch_items.submit(
            request.items, lambda item: self._command(item, caller), self._reserves
        )
        return convert.reserve_results(outcomes)

    async def Settle(self, request: pb.SettleRequest, context: _Context) -> pb.SettleResponse:
        """Settles one reservation."""
        return convert.settle_response(await self._settles.submit(convert.settle_command(request)))

    async def BatchSettle(self, request: pb.BatchSettleRequest, context: _Context) -> pb.BatchSettleResponse:
        """Settles many reservations."""
        outcomes = await batch_items.submit(request.items, convert.settle_command, self._settles)
        return pb.BatchSettleResponse(results=map(convert.settle_result, outcomes))

    async def Release(self, request: pb.ReleaseRequest, context: _Context) -> pb.ReleaseResponse:
        """Releases one reservation."""
        organization_id, reservation_id = request.organization_id, to_bytes(request.reservation_id)
        await self._database.write(
            lambda tx: self._reservations.release(Store(tx), organization_id, reservation_id)
        )
        return pb.ReleaseResponse()

    def _command(self, item: pb.ReserveItem, caller: Caller) -> ReserveCommand:
        """Reads one item of a batch; raises InvalidArgument, or what its passport was refused with."""
        passport = batch_items.passport_of(caller, item.passport_index)
        return convert.reserve_command(item, passport, caller.key_id, self._new_raw_id)

    async def _reserve(self, commands: Sequence[ReserveCommand]) -> Sequence[Admitted | PerronError]:
        return await self._database.write(lambda tx: self._reservations.reserve(Store(tx), commands))

    async def _settle(self, commands: Sequence[SettleCommand]) -> Sequence[Settlement | PerronError]:
        return await self._database.write(lambda tx: self._reservations.settle(Store(tx), commands))
