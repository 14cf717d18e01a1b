"""AdmissionService over gRPC."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

from perron.admission import convert
from perron.admission.admissions import Admissions
from perron.api.admission.v1.admission_service_pb2 import (
    AbortRequest,
    AbortResponse,
    AdmitRequest,
    AdmitResponse,
    BatchAdmitRequest,
    BatchAdmitResponse,
    BatchCompleteRequest,
    BatchCompleteResponse,
    CompleteRequest,
    CompleteResponse,
)
from perron.api.admission.v1.admission_service_pb2_grpc import AdmissionServiceServicer
from perron.chassis import telemetry
from perron.chassis.errors import PerronError
from perron.chassis.interceptors import access, validation

Item = TypeVar("Item", AdmitRequest, CompleteRequest)
Answer = TypeVar("Answer")


class AdmissionServicer(AdmissionServiceServicer):
    """Answers gateways; each is known by the key it presents."""

    def __init__(self, admissions: Admissions) -> None:
        self._admissions = admissions

    async def Admit(self, request: AdmitRequest, context: object) -> AdmitResponse:
        """Admits one inference."""
        return await self._admissions.admit(_gateway_key_id(), request)

    async def BatchAdmit(self, request: BatchAdmitRequest, context: object) -> BatchAdmitResponse:
        """Admits many inferences, each by itself."""
        outcomes = await _each(request.items, self._admissions.admit)
        return BatchAdmitResponse(results=map(convert.admit_result, outcomes))

    async def Complete(self, request: CompleteRequest, context: object) -> CompleteResponse:
        """Completes one admission."""
        return await self._admissions.complete(_gateway_key_id(), request)

    async def BatchComplete(self, request: BatchCompleteRequest, context: object) -> BatchCompleteResponse:
        """Completes many admissions, each by itself."""
        outcomes = await _each(request.items, self._admissions.complete)
        return BatchCompleteResponse(results=map(convert.complete_result, outcomes))

    async def Abort(self, request: AbortRequest, context: object) -> AbortResponse:
        """Gives one admission back."""
        await self._admissions.abort(_gateway_key_id(), request.admission_id)
        return AbortResponse()


async def _each(
    items: Iterable[Item], act: Callable[[str, Item], Awaitable[Answer]]
) -> list[Answer | PerronError]:
    """Acts on the items at once, each in its own trace; they meet again in the batches towards the others."""
    call = access.current_call()

    async def one(item: Item) -> Answer | PerronError:
        error = validation.check(item)
        if error is not None:
            return error
        try:
            if not telemetry.is_sampled(item.trace_parent):
                return await act(call.caller.key_id, item)
            with telemetry.server_scope(call.method, item.trace_parent):
                return await act(call.caller.key_id, item)
        except PerronError as refused:
            return refused
        except Exception as defect:  # noqa: BLE001 (a defect met by one item must not answer for the others)
            return telemetry.defect(defect, call.method)

    return await asyncio.gather(*map(one, items))


def _gateway_key_id() -> str:
    return access.current_call().caller.key_id
