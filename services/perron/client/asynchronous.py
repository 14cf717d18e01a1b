"""The client for asyncio; method by method as the one for plain code."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import Any, Self

import grpc

from perron.api.admission.v1 import admission_service_pb2 as pb
from perron.api.admission.v1 import admission_service_pb2_grpc
from perron.client import requests
from perron.client.admission import Admission, from_response
from perron.client.errors import PerronError


class AsyncPerron:
    """A connection to admission, to be shared by all tasks of an event loop; arguments as of `Perron`."""

    def __init__(
        self,
        target: str,
        key: str,
        *,
        ca_certificates: bytes | None = None,
        timeout: float = requests.DEADLINE_SECONDS,
    ) -> None:
        self._channel = (
            grpc.aio.insecure_channel(target, requests.CHANNEL_OPTIONS)
            if ca_certificates is None
            else grpc.aio.secure_channel(
                target, grpc.ssl_channel_credentials(ca_certificates), requests.CHANNEL_OPTIONS
            )
        )
        self._stub: Any = admission_service_pb2_grpc.AdmissionServiceStub(self._channel)
        self._metadata = (("authorization", f"Bearer {key}"),)
        self._timeout = timeout

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Ends the connection; calls that are running fail."""
        await self._channel.close()

    async def admit(
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
        """Asks whether an inference may take place; arguments and errors as of `Perron.admit`."""
        request = requests.admit(credential, model, tokens, ttl, peer, subject, request_id, chat=chat)
        return from_response(await self._call(self._stub.Admit, request))

    async def complete(
        self,
        admission: Admission | str,
        *,
        tokens: int,
        prompt: bytes | None = None,
        output: bytes | None = None,
    ) -> pb.CompleteResponse:
        """Settles the tokens used, and has the exchange recorded where the decision allows it."""
        response: pb.CompleteResponse = await self._call(
            self._stub.Complete, requests.complete(admission, tokens, prompt, output)
        )
        return response

    async def abort(self, admission: Admission | str) -> None:
        """Gives back what was reserved, because the inference did not take place."""
        await self._call(self._stub.Abort, requests.abort(admission))

    @asynccontextmanager
    async def admitted(
        self, credential: str, model: str, *, tokens: int, **options: Any
    ) -> AsyncIterator[Admission]:
        """Admits for the length of a `with` block and aborts if it raises; arguments as of `admit`."""
        admission = await self.admit(credential, model, tokens=tokens, **options)
        try:
            yield admission
        except BaseException:
            with suppress(PerronError):  # completed already; else the admission's time to live closes it
                await asyncio.shield(self.abort(admission))
            raise

    async def _call(self, method: Callable[..., Any], request: Any) -> Any:
        attempts = requests.Attempts.begin()
        while True:
            try:
                return await method(request, metadata=self._metadata, timeout=self._timeout)
            except grpc.RpcError as error:
                await asyncio.sleep(attempts.pause_after(error))
