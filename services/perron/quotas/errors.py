"""The refusals of quotas, each built in one place so that its details are the same everywhere."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Final, NamedTuple

from perron.chassis.clock import from_us
from perron.chassis.errors import (
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    QuotaViolation,
    ResourceExhausted,
    Unavailable,
)
from perron.quotas.model import Limit, LimitScope, Origin

_NAMED_MAX: Final = 2
_MODEL_SHOWN_MAX: Final = 32
_SUBJECTS: Final = {
    LimitScope.ORGANIZATION: "organization",
    LimitScope.WORKSPACE: "workspace",
    LimitScope.KEY: "API key",
}
_LIFTED_BY: Final = {
    Origin.PLAN: "the reset, or an upgrade of the plan",
    Origin.OVERRIDE: "the reset, or the operator",
    Origin.CAP: "the reset, or your own administrators; no upgrade lifts a cap",
}


class Refusal(NamedTuple):
    """One limit that refused a call: where it stood, and when it would admit the cost; 0 for never."""

    limit: Limit
    used: int
    cost: int
    admits_us: int


def limits_refuse(refusals: Sequence[Refusal], now_us: int) -> ResourceExhausted:
    """Builds the refusal of a call: it tells of the limit that binds longest, and names two at most."""
    never = [refusal for refusal in refusals if not refusal.admits_us]
    first = never[0] if never else max(refusals, key=lambda refusal: refusal.admits_us)
    quota = [
        QuotaViolation(_SUBJECTS[r.limit.scope], describe(r.limit)) for r in (never or refusals)[:_NAMED_MAX]
    ]
    metadata = _metadata(first)
    if never:
        text = f"The call costs {first.cost}, more than the whole {describe(first.limit)}."
        return ResourceExhausted("EXCEEDS_LIMIT", text, metadata=metadata, quota=quota)
    metadata["reset_time"] = _time(first.admits_us)
    until, lifted_by = metadata["reset_time"], metadata["lifted_by"]
    text = f"The {describe(first.limit)} is reached until {until}. What lifts it: {lifted_by}."
    retry_after = timedelta(microseconds=max(first.admits_us - now_us, 1))
    return ResourceExhausted("LIMIT_REACHED", text, metadata=metadata, quota=quota, retry_after=retry_after)


def describe(limit: Limit) -> str:
    """Says a limit in words: "cap of 100 requests per minute of this API key for small-1"."""
    noun = "cap" if limit.origin is Origin.CAP else "limit"
    model = limit.key.model
    if len(model) > _MODEL_SHOWN_MAX:  # the metadata has the whole name; a status must stay under 1 KiB
        model = model[:_MODEL_SHOWN_MAX] + "…"
    whose = f" for {model}" if model else ""
    per = f"{limit.amount} {limit.metric.name.lower()} per {limit.window.name.lower()}"
    return f"{noun} of {per} of this {_SUBJECTS[limit.scope]}{whose}"


def not_found() -> NotFound:
    """Builds the answer for what does not exist and for what is another tenant's."""
    return NotFound("RESOURCE_NOT_FOUND", "The organization, workspace, key or resource does not exist.")


def request_id_reused() -> InvalidArgument:
    """Builds the refusal of a repetition that differs from the first request."""
    return InvalidArgument(
        "REQUEST_ID_REUSED", "The request_id was used with another request.", field="request_id"
    )


def role_missing() -> PermissionDenied:
    """Builds the refusal of somebody who reaches beyond the workspace that they administer."""
    return PermissionDenied(
        "ROLE_MISSING", "This needs a role in the organization, not only in one workspace."
    )


def reservation_closed(how: str) -> FailedPrecondition:
    """Builds the refusal to end a reservation a second time, in another way; `how` it ended first."""
    return FailedPrecondition("RESERVATION_CLOSED", f"The reservation is {how}.")


def reservation_expired(text: str) -> FailedPrecondition:
    """Builds the refusal to end a reservation too late."""
    return FailedPrecondition("RESERVATION_EXPIRED", text)


def tier_unknown(tier: str) -> FailedPrecondition:
    """Builds the refusal of a plan whose tier is not among the tiers."""
    return FailedPrecondition("TIER_UNKNOWN", "The plan's tier has no limits here.", metadata={"tier": tier})


def limits_too_many(noun: str, most: int) -> FailedPrecondition:
    """Builds the refusal of one more cap or override than there may be."""
    return FailedPrecondition("LIMITS_TOO_MANY", f"There are {most} {noun}s already, and that is the most.")


def clock_stepped() -> Unavailable:
    """Builds the refusal of a clock that cannot be trusted."""
    return Unavailable(
        "CLOCK_STEPPED", "The store's clock went forward by more than an hour; an operator must look."
    )


def _metadata(refusal: Refusal) -> dict[str, str]:
    limit = refusal.limit
    return {
        "scope": limit.scope.name,
        "model": limit.key.model,
        "metric": limit.metric.name,
        "window": limit.window.name,
        "amount": str(limit.amount),
        "remaining": str(max(limit.amount - refusal.used, 0)),
        "origin": limit.origin.name,
        "lifted_by": _LIFTED_BY[limit.origin],
    }


def _time(instant_us: int) -> str:
    return from_us(instant_us).isoformat(timespec="microseconds").replace("+00:00", "Z")
