"""LimitService on the wire."""

from typing import Any

import grpc

from perron.api.quotas.v1 import limit_service_pb2 as pb
from perron.api.quotas.v1 import limit_service_pb2_grpc
from perron.chassis.database import Database
from perron.chassis.interceptors.access import current_call
from perron.quotas import convert, rules
from perron.quotas.limits import Limits, RuleKind
from perron.quotas.model import CounterKey, Limit, Target
from perron.quotas.store import Store
from perron.quotas.targets import ADMINISTRATORS, ANYONE, READERS, Targets, authorize
from perron.quotas.usage import Usage

_Context = grpc.aio.ServicerContext[Any, Any]


class LimitServicer(limit_service_pb2_grpc.LimitServiceServicer):
    """Serves LimitService."""

    def __init__(self, database: Database, limits: Limits, usage: Usage, targets: Targets) -> None:
        self._database = database
        self._limits = limits
        self._usage = usage
        self._targets = targets

    async def ListTiers(self, request: pb.ListTiersRequest, context: _Context) -> pb.ListTiersResponse:
        """Lists the tiers."""
        return pb.ListTiersResponse(tiers=map(convert.tier, self._limits.tiers))

    async def ListLimits(self, request: pb.ListLimitsRequest, context: _Context) -> pb.ListLimitsResponse:
        """Lists the limits that hold."""
        caller = current_call().caller
        target = await self._targets.find(caller, convert.target(request))
        authorize(caller, target, beyond=READERS, organization=ANYONE)
        tier = caller.passport.tier if caller.passport is not None else ""
        name, limits = await self._database.read(lambda tx: self._usage.limits(Store(tx), target, tier))
        return pb.ListLimitsResponse(tier=name, limits=map(convert.limit_message, limits))

    async def SetCap(self, request: pb.SetCapRequest, context: _Context) -> pb.SetCapResponse:
        """Sets a cap."""
        target = await self._changed(convert.target(request))
        return pb.SetCapResponse(cap=convert.limit_message(await self._set(RuleKind.CAP, target, request)))

    async def DeleteCap(self, request: pb.DeleteCapRequest, context: _Context) -> pb.DeleteCapResponse:
        """Deletes a cap."""
        target = await self._changed(convert.target(request))
        await self._delete(RuleKind.CAP, target, convert.counter_key(request))
        return pb.DeleteCapResponse()

    async def SetOverride(self, request: pb.SetOverrideRequest, context: _Context) -> pb.SetOverrideResponse:
        """Sets an override."""
        target = await self._changed(convert.target(request))
        limit = await self._set(RuleKind.OVERRIDE, target, request)
        return pb.SetOverrideResponse(override=convert.limit_message(limit))

    async def DeleteOverride(
        self, request: pb.DeleteOverrideRequest, context: _Context
    ) -> pb.DeleteOverrideResponse:
        """Deletes an override."""
        target = await self._changed(convert.target(request))
        await self._delete(RuleKind.OVERRIDE, target, convert.counter_key(request))
        return pb.DeleteOverrideResponse()

    async def _changed(self, target: Target) -> Target:
        caller = current_call().caller
        found = await self._targets.find(caller, target)
        authorize(caller, found, beyond=ADMINISTRATORS, organization=ADMINISTRATORS)
        return found

    async def _set(
        self, kind: RuleKind, target: Target, request: pb.SetCapRequest | pb.SetOverrideRequest
    ) -> Limit:
        call, rule = current_call(), convert.rule(request)
        return await self._database.write(lambda tx: rules.set_rule(Store(tx), call, kind, target, rule))

    async def _delete(self, kind: RuleKind, target: Target, key: CounterKey) -> None:
        call = current_call()
        await self._database.write(lambda tx: rules.delete_rule(Store(tx), call, kind, target, key))
