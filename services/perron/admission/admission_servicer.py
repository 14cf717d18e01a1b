"""AdmissionService over gRPC."""

from collections.abc import Awaitable, Callable, Sequence
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
        (answer,) = await self._admissions.admit(_gateway_key_id(), (request,))
        return _raised(answer)

    async def BatchAdmit(self, request: BatchAdmitRequest, context: object) -> BatchAdmitResponse:
        """Admits many inferences, each by itself."""
        answers = await _each(request.items, self._admissions.admit)
        return BatchAdmitResponse(results=map(convert.admit_result, answers))

    async def Complete(self, request: CompleteRequest, context: object) -> CompleteResponse:
        """Completes one admission."""
        (answer,) = await self._admissions.complete(_gateway_key_id(), (request,))
        return _raised(answer)

    async def BatchComplete(self, request: BatchCompleteRequest, context: object) -> BatchCompleteResponse:
        """Completes many admissions, each by itself."""
        answers = await _each(request.items, self._admissions.complete)
        return BatchCompleteResponse(results=map(convert.complete_result, answers))

    async def Abort(self, request: AbortRequest, context: object) -> AbortResponse:
        """Gives one admission back."""
        await self._admissions.abort(_gateway_key_id(), request.admission_id)
        return AbortResponse()


async def _each(
    items: Sequence[Item], act: Callable[[str, Sequence[Item]], Awaitable[list[Answer | PerronError]]]
) -> list[Answer | PerronError]:
    """Acts on the items whose form is right; the others are told what is wrong with theirs."""
    faults = [validation.check(item) for item in items]
    answers = iter(
        await act(
            _gateway_key_id(), [item for item, fault in zip(items, faults, strict=True) if fault is None]
        )
    )
    return [next(answers) if fault is None else fault for fault in faults]


def _raised(answer: Answer | PerronError) -> Answer:
    if isinstance(answer, PerronError):
        raise answer
    return answer


def _gateway_key_id() -> str:
    return access.current_call().caller.key_id
