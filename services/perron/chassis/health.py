"""Health by the standard protocol: `grpc.health.v1.Health`, for probes and load balancers.

A service is SERVING while its store can be read, its migrations are compatible and, where it reads
passports, identity's signing keys are known. Lags are metrics, never health: a slow consumer must not take
a service out of the balancer.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from grpc_health.v1 import health_pb2, health_pb2_grpc

from perron.chassis.errors import NotFound

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

_Status = health_pb2.HealthCheckResponse


class HealthServicer(health_pb2_grpc.HealthServicer):
    """Answers for the process (empty name) and for each of its `services`."""

    def __init__(self, services: Iterable[str]) -> None:
        self._services = {"", *services}
        self._serving = False
        self._changed = asyncio.Event()

    def set_serving(self, *, serving: bool) -> None:
        """Tell everybody who watches."""
        self._serving = serving
        self._changed.set()
        self._changed = asyncio.Event()

    async def Check(
        self, request: health_pb2.HealthCheckRequest, context: Any
    ) -> health_pb2.HealthCheckResponse:
        """SERVING or NOT_SERVING; NotFound for a service that this process does not have."""
        if request.service not in self._services:
            raise NotFound("RESOURCE_NOT_FOUND", "this process has no such service")
        return self._answer()

    async def Watch(
        self, request: health_pb2.HealthCheckRequest, context: Any
    ) -> AsyncIterator[health_pb2.HealthCheckResponse]:
        """The status now and whenever it changes, repeated every 20 seconds as a sign of life."""
        while True:
            changed = self._changed
            known = request.service in self._services
            yield self._answer() if known else _Status(status=_Status.SERVICE_UNKNOWN)
            try:
                await asyncio.wait_for(changed.wait(), 20)
            except TimeoutError:
                continue

    def _answer(self) -> health_pb2.HealthCheckResponse:
        return _Status(status=_Status.SERVING if self._serving else _Status.NOT_SERVING)
