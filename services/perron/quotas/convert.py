"""Messages to values and back.

The messages of hot calls are built from parts that are made once: a limit's message is the same in every
answer.
"""

import functools
import uuid
from collections.abc import Callable, Iterable
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from perron.api.quotas.v1 import limit_pb2, limit_service_pb2, quota_service_pb2, usage_service_pb2
from perron.chassis import status
from perron.chassis.errors import PerronError
from perron.chassis.ids import from_bytes, to_bytes
from perron.chassis.passports import Passport
from perron.quotas.limits import Rule, Tier
from perron.quotas.model import (
    Admitted,
    CounterKey,
    Limit,
    LimitStatus,
    ReserveCommand,
    SettleCommand,
    Settlement,
    Suspension,
    Target,
)

RawIdSource = Callable[[], bytes]
"""Makes the 16 bytes of a new id."""

_TTL_DEFAULT_US: Final = 600_000_000
_SECOND_US: Final = 1_000_000
_NAMESPACE: Final = uuid.UUID("0b0a7b9e-64c5-5d0e-8f0f-3d5b1a0c7e22")
_CHECK_ONLY: Final = quota_service_pb2.RESERVE_MODE_CHECK_ONLY

_TargetRequest = (
    limit_service_pb2.ListLimitsRequest
    | limit_service_pb2.SetCapRequest
    | limit_service_pb2.DeleteCapRequest
    | limit_service_pb2.SetOverrideRequest
    | limit_service_pb2.DeleteOverrideRequest
    | usage_service_pb2.GetUsageRequest
)
_KeyRequest = (
    limit_service_pb2.SetCapRequest
    | limit_service_pb2.DeleteCapRequest
    | limit_service_pb2.SetOverrideRequest
    | limit_service_pb2.DeleteOverrideRequest
)


def reserve_command(
    request: quota_service_pb2.ReserveRequest | quota_service_pb2.ReserveItem,
    passport: Passport,
    caller_key_id: str,
    new_raw_id: RawIdSource,
) -> ReserveCommand:
    """Reads one call; a request_id makes its reservation's id, so that a repetition meets the same row."""
    organization_id = passport.organization_id
    request_id = request.request_id
    if request_id:
        name = f"{caller_key_id}/{organization_id}/{request_id.lower()}"
        reservation_id = uuid.uuid5(_NAMESPACE, name).bytes
    else:
        reservation_id = new_raw_id()
    if request.HasField("ttl"):
        ttl = request.ttl
        ttl_us = ttl.seconds * _SECOND_US + ttl.nanos // 1000
    else:
        ttl_us = _TTL_DEFAULT_US
    return ReserveCommand(
        reservation_id,
        bool(request_id),
        organization_id,
        passport.workspace_id,
        passport.key_id,
        passport.tier,
        request.model,
        request.requests,
        request.tokens,
        ttl_us,
        request.mode == _CHECK_ONLY,
        request.trace_parent,
    )


def settle_command(request: quota_service_pb2.SettleRequest) -> SettleCommand:
    """Reads one settlement; raises InvalidArgument for an id that was never given out."""
    return SettleCommand(
        request.organization_id, to_bytes(request.reservation_id), request.tokens, request.trace_parent
    )


def write_admitted(admitted: Admitted, response: quota_service_pb2.ReserveResponse) -> None:
    """Writes the answer to an admitted call into an empty message."""
    if admitted.reservation_id:
        response.reservation_id = from_bytes("res", admitted.reservation_id)
        seconds, rest = divmod(admitted.expire_us, _SECOND_US)
        response.expire_time.seconds = seconds
        response.expire_time.nanos = rest * 1000
    add = response.statuses.add
    for limit, used, reset_us in admitted.statuses:
        # Adding and copying costs a quarter of what building each from its parts does.
        message = add()
        message.CopyFrom(_unused(limit, reset_us))
        if used < limit.amount:
            message.remaining = limit.amount - used


def reserve_results(outcomes: Iterable[Admitted | PerronError]) -> quota_service_pb2.BatchReserveResponse:
    """Writes the answers to the calls of a batch."""
    response = quota_service_pb2.BatchReserveResponse()
    for outcome in outcomes:
        result = response.results.add()
        if isinstance(outcome, PerronError):
            result.error.CopyFrom(status.to_status(outcome))
        else:
            write_admitted(outcome, result.response)
    return response


def settle_response(settlement: Settlement) -> quota_service_pb2.SettleResponse:
    """Writes a settlement."""
    return quota_service_pb2.SettleResponse(
        tokens=settlement.tokens, refunded_tokens=settlement.refunded, debt_tokens=settlement.debt
    )


def settle_result(outcome: Settlement | PerronError) -> quota_service_pb2.SettleResult:
    """Writes the answer to one settlement of a batch."""
    if isinstance(outcome, PerronError):
        return quota_service_pb2.SettleResult(error=status.to_status(outcome))
    return quota_service_pb2.SettleResult(response=settle_response(outcome))


def limit_status(status: LimitStatus) -> limit_pb2.LimitStatus:
    """Writes where a limit stands."""
    limit, used, reset_us = status
    message = limit_pb2.LimitStatus()
    message.CopyFrom(_unused(limit, reset_us))
    message.remaining = max(limit.amount - used, 0)
    return message


@functools.lru_cache(maxsize=20_000)
def _unused(limit: Limit, reset_us: int) -> limit_pb2.LimitStatus:
    """Writes a status but for what remains; sub-buckets end at few instants, so most calls share theirs."""
    reset_time = timestamp(reset_us) if reset_us else None
    return limit_pb2.LimitStatus(limit=limit_message(limit), reset_time=reset_time)


@functools.lru_cache(maxsize=20_000)
def limit_message(limit: Limit) -> limit_pb2.Limit:
    """Writes a limit, once; whoever puts the message into another copies it."""
    return limit_pb2.Limit(
        scope=limit_pb2.LimitScope.ValueType(limit.scope),
        model=limit.key.model,
        metric=limit_pb2.Metric.ValueType(limit.key.metric),
        window=limit_pb2.Window.ValueType(limit.key.window),
        amount=limit.amount,
        origin=limit_pb2.LimitOrigin.ValueType(limit.origin),
    )


def timestamp(instant_us: int) -> Timestamp:
    """Writes an instant."""
    seconds, rest = divmod(instant_us, _SECOND_US)
    return Timestamp(seconds=seconds, nanos=rest * 1000)


def tier(tier: Tier) -> limit_service_pb2.Tier:
    """Writes a tier as published."""
    return limit_service_pb2.Tier(name=tier.name, limits=[limit_message(limit) for limit in tier.limits])


def target(request: _TargetRequest) -> Target:
    """Reads whose limits a request is about."""
    return Target(request.organization_id, request.workspace_id, request.key_id)


def counter_key(request: _KeyRequest) -> CounterKey:
    """Reads what a cap or override bounds."""
    return CounterKey(request.model, request.metric, request.window)


def rule(request: limit_service_pb2.SetCapRequest | limit_service_pb2.SetOverrideRequest) -> Rule:
    """Reads a cap or override."""
    return Rule(*counter_key(request), request.amount)


def limit_usage(status: LimitStatus) -> usage_service_pb2.LimitUsage:
    """Writes what was used of a limit."""
    return usage_service_pb2.LimitUsage(status=limit_status(status), used=status.used)


def suspension(suspension: Suspension, now_us: int) -> usage_service_pb2.Suspension:
    """Writes a suspension as it stands at an instant."""
    closed_us = suspension.closed_us(now_us)
    states = usage_service_pb2.Suspension
    message = usage_service_pb2.Suspension(
        suspension_id=suspension.id,
        organization_id=suspension.target.organization_id,
        workspace_id=suspension.target.workspace_id,
        key_id=suspension.target.key_id,
        limit=limit_message(suspension.limit),
        state=states.STATE_CLOSED if closed_us else states.STATE_OPEN,
        create_time=timestamp(suspension.create_us),
        reset_time=timestamp(suspension.reset_us),
    )
    if closed_us:
        message.close_time.CopyFrom(timestamp(closed_us))
    return message
