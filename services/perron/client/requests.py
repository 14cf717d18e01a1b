"""What both clients send, and when a call is worth repeating."""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import grpc

from perron.api.admission.v1 import admission_service_pb2 as pb
from perron.api.common.v1 import roles_pb2
from perron.client import errors
from perron.client.admission import Admission

DEADLINE_SECONDS: Final = 10.0
# The pauses before each repetition; together well under the deadline of one call.
PAUSES_SECONDS: Final = (0.05, 0.2, 0.8)
CHANNEL_OPTIONS: Final = (
    ("grpc.enable_retries", 0),  # the retries are ours, with a request id
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.max_send_message_length", 4 * 1024 * 1024),
    ("grpc.max_receive_message_length", 4 * 1024 * 1024),
)


def admit(
    credential: str,
    model: str,
    tokens: int,
    ttl: timedelta | None,
    peer: str,
    subject: str,
    request_id: str,
    *,
    chat: bool,
) -> pb.AdmitRequest:
    """Builds the request; one without an id gets one, which is what makes it safe to repeat."""
    request = pb.AdmitRequest(
        credential=credential,
        model=model,
        estimated_tokens=tokens,
        peer_network=peer,
        channel=roles_pb2.CHANNEL_CHAT if chat else roles_pb2.CHANNEL_API,
        data_subject=subject,
        request_id=request_id or str(uuid.uuid4()),
    )
    if ttl is not None:
        request.ttl.FromTimedelta(ttl)
    return request


def complete(
    admission: Admission | str, tokens: int, prompt: bytes | None, output: bytes | None
) -> pb.CompleteRequest:
    """Builds the request. Content that is not to be kept stays here, whoever passed it."""
    if isinstance(admission, str):
        request, keep = pb.CompleteRequest(admission_id=admission, tokens=tokens), True
    else:
        request, keep = (
            pb.CompleteRequest(admission_id=admission.admission_id, tokens=tokens),
            admission.keep_content,
        )
    if keep and (prompt is not None or output is not None):
        request.content.input = prompt or b""
        request.content.output = output or b""
    return request


def abort(admission: Admission | str) -> pb.AbortRequest:
    """Builds the request."""
    return pb.AbortRequest(admission_id=admission if isinstance(admission, str) else admission.admission_id)


@dataclass(slots=True)
class Attempts:
    """The pauses that are left for one call."""

    pauses: Iterator[float]

    @classmethod
    def begin(cls) -> "Attempts":
        """Starts counting for one call."""
        return cls(iter(PAUSES_SECONDS))

    def pause_after(self, error: grpc.RpcError) -> float:
        """Returns the seconds to wait before repeating the call, or raises what the call's error means.

        Only UNAVAILABLE is repeated: every request of these clients has one effect however often it is sent.
        """
        translated = errors.from_call(error)
        pause = next(self.pauses, None) if translated.code == "UNAVAILABLE" else None
        if pause is None:
            raise translated from None
        return pause
