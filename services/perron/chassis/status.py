"""Errors to `google.rpc.Status` and back, for whole calls and for single items of a batch.

Every status carries exactly one `ErrorInfo`. It stays under 1 KiB: gRPC sends it in a header, and a status
too large for the peer's limit arrives as RESOURCE_EXHAUSTED in place of the truth.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

import grpc
from google.protobuf import any_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2

from perron.chassis.errors import (
    Aborted,
    AlreadyExists,
    DeadlineExceeded,
    FailedPrecondition,
    FieldViolation,
    Internal,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    PerronError,
    Precondition,
    QuotaViolation,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
)

if TYPE_CHECKING:
    from google.protobuf.message import Message

DOMAIN: Final = "perron"
DETAILS_KEY: Final = "grpc-status-details-bin"
_BYTES_MAX: Final = 1024
MESSAGE_MAX: Final = 300
_VIOLATIONS_MAX: Final = 16

_CLASSES: Final[dict[int, type[PerronError]]] = {
    code_pb2.Code.Value(error.code): error
    for error in (
        Aborted,
        AlreadyExists,
        DeadlineExceeded,
        FailedPrecondition,
        Internal,
        InvalidArgument,
        NotFound,
        PermissionDenied,
        ResourceExhausted,
        Unauthenticated,
        Unavailable,
    )
}
_GRPC_CODES: Final = {code.name: code for code in grpc.StatusCode}


def grpc_code(error: PerronError) -> grpc.StatusCode:
    """The canonical code of an error, as grpc names it."""
    return _GRPC_CODES[error.code]


def to_status(error: PerronError) -> status_pb2.Status:
    """The error as it goes over the wire, under 1 KiB: details beyond that are left out."""
    status = status_pb2.Status(code=code_pb2.Code.Value(error.code), message=error.message[:MESSAGE_MAX])
    size = status.ByteSize()
    for detail in _details(error):
        packed = any_pb2.Any()
        packed.Pack(detail)
        size += packed.ByteSize() + 4
        if size > _BYTES_MAX:
            break
        status.details.append(packed)
    return status


def from_status(status: status_pb2.Status) -> PerronError:
    """The error that a status stands for; a code that the tree lacks becomes Internal."""
    error_class = _CLASSES.get(status.code, Internal)
    info = error_details_pb2.ErrorInfo()
    retry_after: timedelta | None = None
    violations: list[FieldViolation] = []
    quota: list[QuotaViolation] = []
    preconditions: list[Precondition] = []
    resource: tuple[str, str] | None = None
    help_url = ""
    for packed in status.details:
        match packed.TypeName():
            case "google.rpc.ErrorInfo":
                packed.Unpack(info)
            case "google.rpc.RetryInfo":
                retry = error_details_pb2.RetryInfo()
                packed.Unpack(retry)
                retry_after = retry.retry_delay.ToTimedelta()
            case "google.rpc.BadRequest":
                bad = error_details_pb2.BadRequest()
                packed.Unpack(bad)
                violations = [FieldViolation(v.field, v.description) for v in bad.field_violations]
            case "google.rpc.QuotaFailure":
                failure = error_details_pb2.QuotaFailure()
                packed.Unpack(failure)
                quota = [QuotaViolation(v.subject, v.description) for v in failure.violations]
            case "google.rpc.PreconditionFailure":
                precondition = error_details_pb2.PreconditionFailure()
                packed.Unpack(precondition)
                preconditions = [
                    Precondition(v.type, v.subject, v.description) for v in precondition.violations
                ]
            case "google.rpc.ResourceInfo":
                named = error_details_pb2.ResourceInfo()
                packed.Unpack(named)
                resource = (named.resource_type, named.resource_name)
            case "google.rpc.Help":
                links = error_details_pb2.Help()
                packed.Unpack(links)
                help_url = links.links[0].url if links.links else ""
            case _:
                pass  # a detail of a newer peer
    return error_class(
        info.reason if info.domain == DOMAIN else "",
        status.message,
        metadata=dict(info.metadata),
        retry_after=retry_after,
        violations=violations,
        quota=quota,
        preconditions=preconditions,
        resource=resource,
        help_url=help_url,
    )


def from_rpc_error(error: grpc.aio.AioRpcError) -> PerronError:
    """The error that a failed call stands for; by its code alone, without reason, where no details came."""
    for key, value in error.trailing_metadata() or ():
        if key == DETAILS_KEY and isinstance(value, bytes):
            status = status_pb2.Status()
            status.ParseFromString(value)
            return from_status(status)
    code: int = error.code().value[0]
    return _CLASSES.get(code, Internal)("", error.details() or error.code().name)


def _details(error: PerronError) -> list[Message]:
    details: list[Message] = [
        error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=error.metadata)
    ]
    if error.retry_after is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromTimedelta(max(error.retry_after, timedelta(0)))
        details.append(retry)
    if error.violations:
        details.append(
            error_details_pb2.BadRequest(
                field_violations=[
                    error_details_pb2.BadRequest.FieldViolation(
                        field=v.field[:100], description=v.description[:200]
                    )
                    for v in error.violations[:_VIOLATIONS_MAX]
                ]
            )
        )
    if error.quota:
        details.append(
            error_details_pb2.QuotaFailure(
                violations=[
                    error_details_pb2.QuotaFailure.Violation(subject=q.subject, description=q.description)
                    for q in error.quota
                ]
            )
        )
    if error.preconditions:
        details.append(
            error_details_pb2.PreconditionFailure(
                violations=[
                    error_details_pb2.PreconditionFailure.Violation(
                        type=p.kind, subject=p.subject, description=p.description
                    )
                    for p in error.preconditions
                ]
            )
        )
    if error.resource is not None:
        kind, name = error.resource
        details.append(error_details_pb2.ResourceInfo(resource_type=kind, resource_name=name))
    if error.help_url:
        details.append(error_details_pb2.Help(links=[error_details_pb2.Help.Link(url=error.help_url)]))
    return details
