"""A model gateway without a model: it admits, answers from the recording and completes, 32 at a time."""

import asyncio
import secrets
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import grpc

from perron.api.admission.v1 import admission_service_pb2, admission_service_pb2_grpc
from perron.api.common.v1 import roles_pb2
from perron.chassis.errors import PerronError
from perron.chassis.status import from_rpc_error
from perron.cli.samples import Exchange

MODEL = "small-1"
IN_FLIGHT = 32

_TRACED_EVERY = 8
_TIMEOUT_SECONDS = 20.0
# Nobody knows beforehand how long an answer will be, so gateways reserve round numbers.
_RESERVED_STEP = 256


@dataclass(frozen=True, slots=True)
class Played:
    """One exchange that went through, or the error that stopped it; times in seconds."""

    exchange: Exchange
    trace_id: str
    admitted: admission_service_pb2.AdmitResponse | None = None
    completed: admission_service_pb2.CompleteResponse | None = None
    error: PerronError | None = None
    admit_seconds: float = 0.0
    complete_seconds: float = 0.0


def admit_request(
    exchange: Exchange, credential: str, model: str = MODEL
) -> admission_service_pb2.AdmitRequest:
    """What the gateway asks before the inference; `model` may name an agent."""
    return admission_service_pb2.AdmitRequest(
        credential=credential,
        model=model,
        estimated_tokens=-(-tokens(exchange) // _RESERVED_STEP) * _RESERVED_STEP,
        channel=roles_pb2.CHANNEL_API,
    )


def complete_request(
    exchange: Exchange, admitted: admission_service_pb2.AdmitResponse
) -> admission_service_pb2.CompleteRequest:
    """What it reports afterwards: the tokens used, and the content where it is to be kept."""
    request = admission_service_pb2.CompleteRequest(
        admission_id=admitted.admission_id, tokens=tokens(exchange)
    )
    if admitted.keep_content:
        request.content.input = exchange.question.encode()
        request.content.output = exchange.answer.encode()
    return request


def tokens(exchange: Exchange) -> int:
    """The tokens that an exchange uses, question and answer together."""
    return exchange.question_tokens + exchange.answer_tokens


def play(
    target: str, key: str, credential: str, exchanges: Sequence[Exchange], advance: Callable[[], None]
) -> list[Played]:
    """Plays the exchanges with 32 in flight and returns what became of each, in their order.

    `key` is the gateway's own, `credential` the customer's. Every eighth Admit is traced.
    """
    return asyncio.run(_play(target, key, credential, exchanges, advance))


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which that share of the values lies; 0 for none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0


def errors(played: Sequence[Played]) -> Counter[str]:
    """How many exchanges failed, by reason."""
    return Counter(one.error.reason or one.error.code for one in played if one.error)


async def _play(
    target: str, key: str, credential: str, exchanges: Sequence[Exchange], advance: Callable[[], None]
) -> list[Played]:
    authorization = (("authorization", f"Bearer {key}"),)
    free = asyncio.Semaphore(IN_FLIGHT)
    async with grpc.aio.insecure_channel(target) as channel:
        stub = admission_service_pb2_grpc.AdmissionServiceStub(channel)

        async def one(number: int, exchange: Exchange) -> Played:
            async with free:
                trace_id = secrets.token_hex(16)
                flag = "01" if number % _TRACED_EVERY == 0 else "00"
                parent = (*authorization, ("traceparent", f"00-{trace_id}-{secrets.token_hex(8)}-{flag}"))
                start = time.perf_counter()
                try:
                    request = admit_request(exchange, credential)
                    admitted = await stub.Admit(request, metadata=parent, timeout=_TIMEOUT_SECONDS)
                    middle = time.perf_counter()
                    complete = complete_request(exchange, admitted)
                    completed = await stub.Complete(
                        complete, metadata=authorization, timeout=_TIMEOUT_SECONDS
                    )
                except grpc.aio.AioRpcError as failed:
                    return Played(exchange, trace_id, error=from_rpc_error(failed))
                finally:
                    advance()
                end = time.perf_counter()
                traced = trace_id if flag == "01" else ""
                return Played(exchange, traced, admitted, completed, None, middle - start, end - middle)

        return list(
            await asyncio.gather(*(one(number, exchange) for number, exchange in enumerate(exchanges)))
        )
