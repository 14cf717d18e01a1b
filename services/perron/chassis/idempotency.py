"""Idempotency: a mutation sent again with the same request_id has one effect (AIP-155).

The row and the effect are one transaction, so a duplicate waits on the unique index until the first one's
fate is known, and then reads what it made. No answer is stored: a replay reads the resource again, without
its secret.
"""

import functools
import hashlib
import hmac
import uuid
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from sqlalchemy import Row, text

from perron.chassis.database import Transaction
from perron.chassis.errors import InvalidArgument

if TYPE_CHECKING:
    from perron.chassis.interceptors.access import Call

KEPT: Final = timedelta(hours=24)
"""How long a request_id is remembered."""

_KEPT_US: Final = KEPT // timedelta(microseconds=1)
_OF_THE_CALL: Final = frozenset({"request_id", "trace_parent", "credential", "passport", "passports"})
"""Who asks and in which trace: what may differ between a request and its repetition."""

# A row past its time is taken over as if it were not there; a younger one is left, and then nothing is
# returned.
_CLAIM: Final = text(
    "INSERT INTO idempotency (caller, method, request_id, digest, resource_id, create_time) "
    "VALUES (:caller, :method, :request_id, :digest, :resource_id, :now) "
    "ON CONFLICT (caller, method, request_id) DO UPDATE SET "
    "digest = excluded.digest, resource_id = excluded.resource_id, create_time = excluded.create_time "
    "WHERE idempotency.create_time <= :cutoff RETURNING resource_id"
)
_READ: Final = text(
    "SELECT digest, resource_id, create_time FROM idempotency "
    "WHERE caller = :caller AND method = :method AND request_id = :request_id"
)
_SWEEP: Final = text(
    "DELETE FROM idempotency WHERE (caller, method, request_id) IN (SELECT caller, method, request_id "
    "FROM idempotency WHERE create_time <= :cutoff ORDER BY create_time LIMIT :rows)"
)


@dataclass(frozen=True, slots=True)
class IdempotentRequest:
    """What makes a request the same one: its sender, its method, its request_id and its body's digest."""

    caller: str
    method: str
    request_id: bytes
    digest: bytes


def identify(
    caller_key_id: str, method: str, request: Message, *, secret: str = ""
) -> IdempotentRequest | None:
    """Recognises a request by its `request_id`; None where it has none or an empty one.

    `secret` is the caller's credential: the digest is keyed with it, so that the table does not help to
    guess bodies. Raises InvalidArgument for a request_id that is no UUID, or the zero one.
    """
    written: str = getattr(request, "request_id", "")
    if not written:
        return None
    return IdempotentRequest(
        caller=caller_key_id,
        method=method,
        request_id=_parse(written),
        digest=_digest(request, secret.encode()),
    )


def once(tx: Transaction, call: "Call", resource_id: str) -> str | None:
    """Claims the call's request_id for the resource about to be made; first statement of the transaction.

    Returns None the first time (and for calls without request_id); for a repetition the id of the resource
    made then, to be read again. Raises InvalidArgument with REQUEST_ID_REUSED where the body differs.
    """
    return claim(tx, call.identity, resource_id) if call.identity is not None else None


def earlier(tx: Transaction, call: "Call") -> str | None:
    """Returns the resource that an earlier call with this request_id made, and claims nothing.

    For work that comes before the transaction, such as asking a peer, so that a repetition need not do it
    again. Raises InvalidArgument as `once` does.
    """
    if call.identity is None:
        return None
    row = tx.execute(_READ, _key(call.identity)).first()
    if row is None or row.create_time <= tx.now_us() - _KEPT_US:
        return None
    return _same(row, call.identity)


def claim(tx: Transaction, request: IdempotentRequest, resource_id: str) -> str | None:
    """Does what `once` says, for a request identified elsewhere (an item of a batch)."""
    now = tx.now_us()
    key = _key(request)
    values = {"digest": request.digest, "resource_id": resource_id, "now": now, "cutoff": now - _KEPT_US}
    if tx.execute(_CLAIM, key | values).first() is not None:
        return None
    return _same(tx.execute(_READ, key).one(), request)


def sweep(tx: Transaction, rows: int = 500) -> bool:
    """Deletes up to `rows` request ids past their time; says whether there may be more."""
    return tx.execute(_SWEEP, {"cutoff": tx.now_us() - _KEPT_US, "rows": rows}).rowcount >= rows


def _key(request: IdempotentRequest) -> dict[str, str | bytes]:
    return {"caller": request.caller, "method": request.method, "request_id": request.request_id}


def _same(row: Row[Any], request: IdempotentRequest) -> str:
    if not hmac.compare_digest(bytes(row.digest), request.digest):
        raise InvalidArgument(
            "REQUEST_ID_REUSED", "the request_id was used with another request", field="request_id"
        )
    return str(row.resource_id)


def _parse(written: str) -> bytes:
    try:
        parsed = uuid.UUID(written)
    except ValueError:
        parsed = None
    # uuid.UUID() also reads braces, "urn:uuid:" and missing dashes: one request_id has one spelling.
    if parsed is None or not parsed.int or str(parsed) != written.lower():
        raise InvalidArgument(
            "FIELD_INVALID", "the request_id is not a UUID other than zero", field="request_id"
        )
    return parsed.bytes


def _digest(request: Message, secret: bytes) -> bytes:
    body = type(request)()
    body.CopyFrom(request)
    _strip(body)
    plain = body.SerializeToString(deterministic=True)
    return hmac.digest(hashlib.sha256(secret).digest(), plain, "sha256")


def _strip(message: Message) -> None:
    """Clears what is no part of what is asked for. Content stays: the digest is keyed, and never shown."""
    for field in _stripped(message.DESCRIPTOR):
        message.ClearField(field.name)
    for field, value in message.ListFields():
        for child in _children(field, value):
            _strip(child)


def _children(field: FieldDescriptor, value: Any) -> list[Message]:
    if field.message_type is None:
        return []
    if field.message_type.GetOptions().map_entry:
        return list(value.values()) if field.message_type.fields_by_name["value"].message_type else []
    return list(value) if field.is_repeated else [value]


@functools.cache
def _stripped(descriptor: Descriptor) -> tuple[FieldDescriptor, ...]:
    return tuple(field for field in descriptor.fields if field.name in _OF_THE_CALL)
