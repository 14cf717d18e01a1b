"""The security boundary: what leaves the process when something goes wrong.

Without it, gRPC sends the text of any uncaught exception to the caller as `UNKNOWN: Unexpected <class …>:
<its text>`, and exception texts quote bound parameters, prompts and keys. It leaks in four places: the
handler, the request's bytes when they are no message, a handler that returns nothing (TypeError in the
serializer), and one that returns a message of another type (sent silently). So this layer reads and writes
the bytes itself, and everything in between happens inside its `try`.

AbortError and CancelledError pass: the first is an answer already, the second means that nobody waits for
one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NoReturn

from google.protobuf.message import DecodeError
from grpc.aio import AbortError

from perron.chassis import status, telemetry
from perron.chassis.errors import InvalidArgument, PerronError
from perron.chassis.interceptors.telemetry import TRACE_KEY

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Callable

    from google.protobuf.message import Message

    from perron.chassis.method import Behaviour, Context, Method

_STATUS_KEY: Final = status.DETAILS_KEY


def wrap(method: Method, behaviour: Behaviour, refused: Callable[[Method, PerronError], None]) -> Behaviour:
    """Turn bytes into messages and back, refusals into statuses and defects into a reference.

    `refused` hears of every refusal, for the audit trail.
    """

    async def guarded(raw: Any, context: Context) -> bytes:
        try:
            response = await behaviour(_read(method, raw), context)
            return _written(method, response)
        except AbortError:
            raise
        except Exception as error:  # noqa: BLE001 (the boundary)
            await abort(error, context)

    async def guarded_stream(raw: Any, context: Context) -> AsyncIterator[bytes]:
        try:
            async for response in behaviour(_read(method, raw), context):
                yield _written(method, response)
        except AbortError:
            raise
        except Exception as error:  # noqa: BLE001 (the boundary)
            await abort(error, context)

    async def abort(error: Exception, context: Context) -> NoReturn:
        known = error if isinstance(error, PerronError) else telemetry.defect(error, method.name)
        refused(method, known)
        telemetry.mark(known)
        details = status.to_status(known).SerializeToString()
        metadata = ((TRACE_KEY, telemetry.current_trace_id()), (_STATUS_KEY, details))
        await context.abort(status.grpc_code(known), known.message[: status.MESSAGE_MAX], metadata)

    return guarded_stream if method.response_streams else guarded


def _read(method: Method, raw: Any) -> Any:
    if method.request_streams:
        return _read_each(method.request, raw)
    return _parse(method.request, raw)


async def _read_each(request: type[Message], raw: AsyncIterable[bytes]) -> AsyncIterator[Message]:
    async for part in raw:
        yield _parse(request, part)


def _parse(request: type[Message], raw: bytes) -> Message:
    try:
        return request.FromString(raw)
    except DecodeError:
        raise InvalidArgument(
            "MESSAGE_MALFORMED", "the bytes are not the message that the method takes"
        ) from None


def _written(method: Method, response: object) -> bytes:
    if type(response) is not method.response:
        message = f"{method.name} returned {type(response).__qualname__}"
        raise TypeError(message)
    return response.SerializeToString()
