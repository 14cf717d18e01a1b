"""UsageService on the wire."""

from typing import Any

import grpc

from perron.api.quotas.v1 import usage_service_pb2 as pb
from perron.api.quotas.v1 import usage_service_pb2_grpc
from perron.chassis.database import Database, Transaction
from perron.chassis.interceptors.access import Caller, CallerKind, current_call
from perron.chassis.paging import Pages
from perron.quotas import convert, errors
from perron.quotas.model import Suspension, Target
from perron.quotas.store import Store
from perron.quotas.targets import READERS, Targets, authorize
from perron.quotas.usage import Usage

_Context = grpc.aio.ServicerContext[Any, Any]


class UsageServicer(usage_service_pb2_grpc.UsageServiceServicer):
    """Serves UsageService."""

    def __init__(self, database: Database, usage: Usage, targets: Targets, pages: Pages) -> None:
        self._database = database
        self._usage = usage
        self._targets = targets
        self._pages = pages

    async def GetUsage(self, request: pb.GetUsageRequest, context: _Context) -> pb.GetUsageResponse:
        """Returns what was used."""
        caller = current_call().caller
        target = await self._visible(caller, convert.target(request))
        tier = caller.passport.tier if caller.passport is not None else ""
        statuses = await self._database.read(lambda tx: self._usage.statuses(Store(tx), target, tier))
        return pb.GetUsageResponse(usages=map(convert.limit_usage, statuses))

    async def ListSuspensions(
        self, request: pb.ListSuspensionsRequest, context: _Context
    ) -> pb.ListSuspensionsResponse:
        """Lists suspensions, newest first."""
        caller = current_call().caller
        target = await self._visible(caller, Target(request.organization_id, request.workspace_id))
        size = self._pages.size(request.page_size)
        binding = {
            "caller_scope": caller.key_id,
            "filter_text": f"suspensions {target.organization_id} {target.workspace_id}",
        }
        cursor = self._pages.cursor(request.page_token, **binding)
        before = str(cursor[0]) if cursor else ""

        def read(tx: Transaction) -> tuple[list[Suspension], int]:
            store = Store(tx)
            return store.suspensions(
                target.organization_id, target.workspace_id, before, size + 1
            ), store.now_us()

        found, now_us = await self._database.read(read)
        page = found[:size]
        token = self._pages.token((page[-1].id,), **binding) if len(found) > size else ""
        return pb.ListSuspensionsResponse(
            suspensions=[convert.suspension(each, now_us) for each in page], next_page_token=token
        )

    async def GetSuspension(
        self, request: pb.GetSuspensionRequest, context: _Context
    ) -> pb.GetSuspensionResponse:
        """Returns one suspension."""
        caller = current_call().caller
        if caller.kind is CallerKind.CUSTOMER and request.organization_id != caller.organization_id:
            raise errors.not_found()

        def read(tx: Transaction) -> tuple[Suspension, int]:
            store = Store(tx)
            return self._usage.suspension(
                store, request.organization_id, request.suspension_id
            ), store.now_us()

        suspension, now_us = await self._database.read(read)
        authorize(caller, suspension.target, beyond=READERS, organization=READERS)
        return pb.GetSuspensionResponse(suspension=convert.suspension(suspension, now_us))

    async def _visible(self, caller: Caller, target: Target) -> Target:
        found = await self._targets.find(caller, target)
        authorize(caller, found, beyond=READERS, organization=READERS)
        return found
