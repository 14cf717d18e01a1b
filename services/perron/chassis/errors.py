"""The errors that a caller can meet, as Python sees them.

    PerronError
    ├── InvalidArgument     the request can never succeed as it is
    ├── Unauthenticated     nobody we know is calling
    ├── PermissionDenied    somebody we know may not do this
    ├── NotFound            no such thing, or another tenant's: the two look the same
    ├── AlreadyExists       the name is taken
    ├── FailedPrecondition  not in this state of the resource
    ├── Aborted             somebody else was faster; read again
    ├── ResourceExhausted   a limit, or too much work waiting
    ├── DeadlineExceeded    the caller's time ran out before the work began
    ├── Unavailable         something we must ask does not answer
    └── Internal            a defect of ours

Domain code raises them, or returns them as values where one item of a batch is refused. `status` maps them
to the wire and back, in one place. What a newcomer gets wrong: the message is for people outside, so it
never holds content, secrets or the text of another exception.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import timedelta

__all__ = [
    "Aborted",
    "AlreadyExists",
    "DeadlineExceeded",
    "FailedPrecondition",
    "FieldViolation",
    "Internal",
    "InvalidArgument",
    "NotFound",
    "PermissionDenied",
    "PerronError",
    "Precondition",
    "QuotaViolation",
    "ResourceExhausted",
    "SetupError",
    "Unauthenticated",
    "Unavailable",
]


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One field that breaks its rule: its path in the request and the rule in words, never its value."""

    field: str
    description: str


@dataclass(frozen=True, slots=True)
class QuotaViolation:
    """One limit that binds: what it limits and how, for people."""

    subject: str
    description: str


@dataclass(frozen=True, slots=True)
class Precondition:
    """One state that must change first: its kind, the resource, and what to do."""

    kind: str
    subject: str
    description: str


class PerronError(Exception):
    """A refusal with a reason from the closed list `ErrorReason` in `common/v1`.

    `reason` is the name without its prefix, for machines; `message` is one sentence for people.
    `retry_after` is set only where a retry at that time can succeed.
    """

    code: ClassVar[str] = "UNKNOWN"

    def __init__(  # each argument is one optional detail of the error model of AIP-193
        self,
        reason: str,
        message: str,
        *,
        field: str = "",
        metadata: Mapping[str, str] | None = None,
        retry_after: timedelta | None = None,
        violations: Sequence[FieldViolation] = (),
        quota: Sequence[QuotaViolation] = (),
        preconditions: Sequence[Precondition] = (),
        resource: tuple[str, str] | None = None,
        help_url: str = "",
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.metadata = dict(metadata or {})
        self.retry_after = retry_after
        self.violations = (*violations, FieldViolation(field, message)) if field else tuple(violations)
        self.quota = tuple(quota)
        self.preconditions = tuple(preconditions)
        self.resource = resource
        self.help_url = help_url

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.reason!r}, {self.message!r})"


class SetupError(Exception):
    """The process cannot start as configured; the message is the line to print before exit code 2."""


class InvalidArgument(PerronError):
    """The request can never succeed as it is."""

    code = "INVALID_ARGUMENT"


class Unauthenticated(PerronError):
    """Nobody we know is calling."""

    code = "UNAUTHENTICATED"


class PermissionDenied(PerronError):
    """Somebody we know may not do this."""

    code = "PERMISSION_DENIED"


class NotFound(PerronError):
    """No such thing, or another tenant's."""

    code = "NOT_FOUND"


class AlreadyExists(PerronError):
    """The name is taken."""

    code = "ALREADY_EXISTS"


class FailedPrecondition(PerronError):
    """Not in this state of the resource."""

    code = "FAILED_PRECONDITION"


class Aborted(PerronError):
    """Somebody else was faster."""

    code = "ABORTED"


class ResourceExhausted(PerronError):
    """A limit, or too much work waiting."""

    code = "RESOURCE_EXHAUSTED"


class DeadlineExceeded(PerronError):
    """The caller's time ran out before the work began."""

    code = "DEADLINE_EXCEEDED"


class Unavailable(PerronError):
    """Something we must ask does not answer."""

    code = "UNAVAILABLE"


class Internal(PerronError):
    """A defect of ours; the message is a reference and nothing else."""

    code = "INTERNAL"
