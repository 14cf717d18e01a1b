"""What a Python gateway imports: `Perron` for plain code, `AsyncPerron` for asyncio.

It needs grpcio and protobuf and nothing else of Perron's. Its nouns are those of admission: it admits,
completes and aborts inferences, and raises a typed error with the contract's reason where one is refused. It
never caches an answer.
"""

from perron.client.admission import Admission, Agent
from perron.client.asynchronous import AsyncPerron
from perron.client.errors import (
    Denied,
    InvalidRequest,
    LimitReached,
    NotFound,
    PerronError,
    Refused,
    Unauthenticated,
    Unavailable,
)
from perron.client.synchronous import Perron

__all__ = [
    "Admission",
    "Agent",
    "AsyncPerron",
    "Denied",
    "InvalidRequest",
    "LimitReached",
    "NotFound",
    "Perron",
    "PerronError",
    "Refused",
    "Unauthenticated",
    "Unavailable",
]
