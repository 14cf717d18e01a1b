"""The errors that a gateway can meet.

    PerronError
    ├── InvalidRequest   the request breaks the contract; `fields` names what and how
    ├── Unauthenticated  the gateway's own key, or its caller's, is not valid
    ├── Denied           the caller is known and may not: terms, network, scope, model
    ├── NotFound         no such model, no such admission
    ├── LimitReached     a limit binds; `retry_after` says when to come back, None: never with this amount
    ├── Refused          not in this state, for instance Complete after Abort
    └── Unavailable      nobody could answer; nothing is known, try again

Branch on the class or on `reason`, a name of the contract's ErrorReason, never on the text.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import grpc
from google.rpc import error_details_pb2, status_pb2

_DETAILS_KEY = "grpc-status-details-bin"
_TRACE_KEY = "perron-trace-id"


class PerronError(Exception):
    """A call that was refused or could not be answered.

    `code` is gRPC's, `reason` the contract's, `metadata` belongs to the reason, `trace_id` finds the call in
    the traces.
    """

    def __init__(
        self,
        code: str,
        reason: str,
        message: str,
        *,
        metadata: Mapping[str, str] | None = None,
        retry_after: timedelta | None = None,
        fields: Mapping[str, str] | None = None,
        trace_id: str = "",
    ) -> None:
        super().__init__(f"{reason}: {message}")
        self.code = code
        self.reason = reason
        self.message = message
        self.metadata = dict(metadata or {})
        self.retry_after = retry_after
        self.fields = dict(fields or {})
        self.trace_id = trace_id


class InvalidRequest(PerronError):
    """The request breaks the contract; repeating it changes nothing."""


class Unauthenticated(PerronError):
    """A key is not valid: the caller's where the metadata has a `state`, else the gateway's own."""


class Denied(PerronError):
    """Somebody known may not do this."""


class NotFound(PerronError):
    """No such thing, or another tenant's."""


class LimitReached(PerronError):
    """A limit binds, or too much work waits."""


class Refused(PerronError):
    """Not in this state."""


class Unavailable(PerronError):
    """Nobody could answer; nothing is known."""


_CLASSES: dict[str, type[PerronError]] = {
    "INVALID_ARGUMENT": InvalidRequest,
    "UNAUTHENTICATED": Unauthenticated,
    "PERMISSION_DENIED": Denied,
    "NOT_FOUND": NotFound,
    "RESOURCE_EXHAUSTED": LimitReached,
    "FAILED_PRECONDITION": Refused,
    "ABORTED": Refused,
    "UNAVAILABLE": Unavailable,
    "DEADLINE_EXCEEDED": Unavailable,
}


def from_call(error: grpc.RpcError) -> PerronError:
    """Translates the error of a call, sync or async."""
    code = error.code().name
    metadata: Any = error.trailing_metadata() or ()
    trailers = {str(key): value for key, value in metadata}
    status = status_pb2.Status()
    details = trailers.get(_DETAILS_KEY)
    if isinstance(details, bytes):
        status.MergeFromString(details)
    message = status.message or str(error.details() or "")
    return _translated(code, message, status, str(trailers.get(_TRACE_KEY, "")))


def from_status(status: status_pb2.Status) -> PerronError:
    """Translates the error of one item of a batch."""
    code = next((name.name for name in grpc.StatusCode if name.value[0] == status.code), "UNKNOWN")
    return _translated(code, status.message, status, "")


def _translated(code: str, message: str, status: status_pb2.Status, trace_id: str) -> PerronError:
    # Without details the answer is not Perron's own: a proxy's, or that of a server that cannot be reached.
    info, retry, request = error_details_pb2.ErrorInfo(reason=code), None, error_details_pb2.BadRequest()
    for detail in status.details:
        if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
            detail.Unpack(info)
        elif detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
            retry = error_details_pb2.RetryInfo()
            detail.Unpack(retry)
        elif detail.Is(error_details_pb2.BadRequest.DESCRIPTOR):
            detail.Unpack(request)
    return _CLASSES.get(code, PerronError)(
        code,
        info.reason,
        message,
        metadata=info.metadata,
        retry_after=retry.retry_delay.ToTimedelta() if retry else None,
        fields={violation.field: violation.description for violation in request.field_violations},
        trace_id=trace_id,
    )
