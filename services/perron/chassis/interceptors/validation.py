"""Requests have the form that their contract declares, before any handler sees them.

The rules stand in the proto (`buf.validate`). Of a batch only the envelope is checked here: its items
declare `ignore: IGNORE_ALWAYS`, and the servicer checks each with `check`, so that one malformed item
spoils nobody else's answer. A violation is told by field and rule, never by the value that breaks it:
values are content.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import protovalidate

from perron.chassis.errors import FieldViolation, InvalidArgument

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator

    from google.protobuf.message import Message
    from protovalidate import Violation

    from perron.chassis.method import Behaviour, Context, Method

_FULL_PASS_BYTES_MAX: Final = 4096
_VIOLATIONS_MAX: Final = 16

_validator = protovalidate.Validator()


def wrap(method: Method, behaviour: Behaviour) -> Behaviour:
    """Refuse requests whose form is wrong; the rules are compiled here and not at the first call."""
    _validator.collect_violations(method.request(), fail_fast=True)

    def valid(request: Any) -> Any:
        if method.request_streams:
            return _each_valid(request)
        _require(request)
        return request

    async def validated(request: Any, context: Context) -> Any:
        return await behaviour(valid(request), context)

    async def validated_stream(request: Any, context: Context) -> AsyncIterator[Any]:
        async for response in behaviour(valid(request), context):
            yield response

    return validated_stream if method.response_streams else validated


def check(message: Message) -> InvalidArgument | None:
    """The violations of one message's rules as an error, at most 16 of them; None where the form is right."""
    found = _validator.collect_violations(message, fail_fast=True)
    if not found:
        return None
    if message.ByteSize() < _FULL_PASS_BYTES_MAX:  # a full pass over a large message costs seconds
        found = _validator.collect_violations(message)
    violations = [
        FieldViolation(_path(violation), violation.proto.message[:200])
        for violation in found[:_VIOLATIONS_MAX]
    ]
    first = violations[0]
    return InvalidArgument(
        "FIELD_INVALID", f"{first.field or 'request'}: {first.description}"[:200], violations=violations
    )


def _require(message: Message) -> None:
    error = check(message)
    if error is not None:
        raise error


async def _each_valid(messages: AsyncIterable[Message]) -> AsyncIterator[Message]:
    async for message in messages:
        _require(message)
        yield message


def _path(violation: Violation) -> str:
    """The field's path, as `items[3].model`; never the value at it."""
    return ".".join(
        element.field_name + (f"[{element.subscript.value}]" if element.subscript else "")
        for element in (violation.proto.field.elements if violation.proto.field else ())
    )
