"""The client for plain code."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any, Self

import grpc

from perron.api.admission.v1 import admission_service_pb2 as pb
from perron.api.admission.v1 import admission_service_pb2_grpc
from perron.client import requests
from perron.client.admission import Admission, from_response
from perron.client.errors import PerronError


class Perron:
    """A connection to admission, to be shared by all threads of a gateway.

        with Perron("127.0.0.1:7400", key=GATEWAY_KEY) as perron:
            admission = perron.admit(customer_key, "small-1", tokens=500)
            answer, used = run(admission.model, question)
            perron.complete(admission, tokens=used, prompt=question, output=answer)

    `key` is the gateway's own service key. `ca_certificates` (PEM) turns TLS on. `timeout` is the deadline of
    one attempt in seconds.
    """

    def __init__(
        self,
        target: str,
        key: str,
        *,
        ca_certificates: bytes | None = None,
        timeout: float = requests.DEADLINE_SECONDS,
    ) -> None:
        self._channel = (
            grpc.insecure_channel(target, requests.CHANNEL_OPTIONS)
            if ca_certificates is None
            else grpc.secure_channel(
                target, grpc.ssl_channel_credentials(ca_certificates), requests.CHANNEL_OPTIONS
            )
        )
        self._stub = admission_service_pb2_grpc.AdmissionServiceStub(self._channel)
        self._metadata = (("authorization", f"Bearer {key}"),)
        self._timeout = timeout

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connection; calls that are running fail."""
        self._channel.close()

    def admit(
        self,
        credential: str,
        model: str,
        *,
        tokens: int,
        ttl: timedelta | None = None,
        peer: str = "",
        subject: str = "",
        chat: bool = False,
        request_id: str = "",
    ) -> Admission:
        """Asks whether an inference may take place, and reserves `tokens` (input and longest output) for it.

        `credential` is the key that the gateway's caller presented, `peer` the IP address it came from,
        `subject` a pseudonym of the person concerned, `ttl` how long the inference may take (1 s to 1 h;
        default 1 min). `model` is a base model, a fine-tuned one ("ft:…") or an agent ("agt_…", or "agent:"
        and its alias); the answer says which model to run, and as which agent. Give your own `request_id` (a
        UUID) to continue the same admission after a crash.

        Raises the errors of `perron.client.errors`: Unauthenticated, Denied, NotFound, Refused,
        LimitReached, Unavailable.
        """
        request = requests.admit(credential, model, tokens, ttl, peer, subject, request_id, chat=chat)
        return from_response(self._call(self._stub.Admit, request))

    def complete(
        self,
        admission: Admission | str,
        *,
        tokens: int,
        prompt: bytes | None = None,
        output: bytes | None = None,
    ) -> pb.CompleteResponse:
        """Settles the tokens used, and has the exchange recorded where the decision allows it.

        Pass `prompt` and `output` always: they are not even sent where they may not be kept.
        """
        response: pb.CompleteResponse = self._call(
            self._stub.Complete, requests.complete(admission, tokens, prompt, output)
        )
        return response

    def abort(self, admission: Admission | str) -> None:
        """Gives back what was reserved, because the inference did not take place."""
        self._call(self._stub.Abort, requests.abort(admission))

    @contextmanager
    def admitted(self, credential: str, model: str, *, tokens: int, **options: Any) -> Iterator[Admission]:
        """Admits for the length of a `with` block and aborts if it raises; arguments as of `admit`."""
        admission = self.admit(credential, model, tokens=tokens, **options)
        try:
            yield admission
        except BaseException:
            with suppress(PerronError):  # completed already; else the admission's time to live closes it
                self.abort(admission)
            raise

    def _call(self, method: Callable[..., Any], request: Any) -> Any:
        attempts = requests.Attempts.begin()
        while True:
            try:
                return method(request, metadata=self._metadata, timeout=self._timeout)
            except grpc.RpcError as error:
                time.sleep(attempts.pause_after(error))
