"""Services that the suite asks and a test answers for: real gRPC servers, in threads of their own."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NoReturn

import grpc
import jwt

from perron.api.finetuning.v1 import model_service_pb2 as pb
from perron.api.finetuning.v1 import model_service_pb2_grpc
from perron.api.governance.v1 import directive_service_pb2
from perron.chassis import status
from perron.chassis.errors import FailedPrecondition, NotFound, PerronError

_DIRECTIVES = "/perron.api.governance.v1.DirectiveService/BatchGetDirectives"


@contextmanager
def listening(add: Callable[[grpc.Server], None]) -> Iterator[str]:
    """Serves what `add` adds, and gives the address."""
    server = grpc.server(ThreadPoolExecutor(8))
    add(server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


@dataclass(slots=True)
class Models(model_service_pb2_grpc.ModelServiceServicer):
    """Finetuning, as far as others ask it: the fine-tuned models of workspaces, deleted or not."""

    ready: dict[tuple[str, str], pb.ResolveResponse] = field(default_factory=dict)
    """By workspace and name."""
    deleted: set[str] = field(default_factory=set)
    """Names."""

    def make(self, workspace_id: str, name: str) -> None:
        """A job has made a model."""
        model_id = f"mdl_{len(self.ready):026}"
        self.ready[workspace_id, name] = pb.ResolveResponse(
            model_id=model_id, name=name, base_model="small-1"
        )

    def BatchResolve(self, request: pb.BatchResolveRequest, context: object) -> pb.BatchResolveResponse:
        response = pb.BatchResolveResponse()
        for item in request.items:
            claims: Any = jwt.decode(
                request.passports[item.passport_index], options={"verify_signature": False}
            )
            found = self._resolved(str(claims), item.model)
            result = response.results.add()
            if isinstance(found, PerronError):
                result.error.CopyFrom(status.to_status(found))
            else:
                result.response.CopyFrom(found)
        return response

    def _resolved(self, claims: str, model: str) -> pb.ResolveResponse | PerronError:
        for (workspace_id, name), found in self.ready.items():
            if model in {name, found.model_id} and workspace_id in claims:
                if name in self.deleted:
                    return FailedPrecondition("MODEL_DELETED", "the model was deleted by its owner")
                return found
        return NotFound("RESOURCE_NOT_FOUND", "the model does not exist")

    @contextmanager
    def served(self) -> Iterator[str]:
        """Answers at the address that it gives."""
        with listening(
            lambda server: model_service_pb2_grpc.add_ModelServiceServicer_to_server(self, server)
        ) as target:
            yield target


@dataclass(slots=True)
class Holding(grpc.GenericRpcHandler):
    """A governance that knows of legal holds: the real one behind it answers all else."""

    behind: Callable[[], str]
    held: set[str] = field(default_factory=set)
    """Ids of agents, files or models."""
    asked: list[str] = field(default_factory=list)
    """Ids that somebody asked about."""

    def service(self, details: grpc.HandlerCallDetails) -> "grpc.RpcMethodHandler[bytes, bytes]":
        if details.method.endswith("/Watch"):
            return grpc.unary_stream_rpc_method_handler(partial(self._stream, details.method))
        return grpc.unary_unary_rpc_method_handler(partial(self._answer, details.method))

    def _stream(self, method: str, raw: bytes, context: Any) -> Iterator[bytes]:
        with grpc.insecure_channel(self.behind()) as channel:
            call = channel.unary_stream(method)(raw, metadata=_passed_on(context))
            context.add_callback(call.cancel)
            try:
                yield from call
            except grpc.RpcError as failed:
                _pass_on(context, failed)

    def _answer(self, method: str, raw: bytes, context: Any) -> bytes:
        with grpc.insecure_channel(self.behind()) as channel:
            try:
                answer: bytes = channel.unary_unary(method)(
                    raw, timeout=context.time_remaining(), metadata=_passed_on(context)
                )
            except grpc.RpcError as failed:
                _pass_on(context, failed)
        return self._with_holds(raw, answer) if method == _DIRECTIVES else answer

    def _with_holds(self, raw: bytes, answer: bytes) -> bytes:
        request = directive_service_pb2.BatchGetDirectivesRequest.FromString(raw)
        response = directive_service_pb2.BatchGetDirectivesResponse.FromString(answer)
        for item, result in zip(request.items, response.results, strict=True):
            self.asked.append(item.resource_id)
            result.response.held |= item.resource_id in self.held
        return response.SerializeToString()

    @contextmanager
    def served(self) -> Iterator[str]:
        """Answers at the address that it gives."""
        handlers: Sequence[grpc.GenericRpcHandler] = (self,)
        with listening(lambda server: server.add_generic_rpc_handlers(handlers)) as target:
            yield target


def _passed_on(context: Any) -> list[tuple[str, str]]:
    """What a call says of its caller and its trace."""
    return [pair for pair in context.invocation_metadata() if pair[0] in {"authorization", "traceparent"}]


def _pass_on(context: Any, refused: Any) -> NoReturn:
    """Ends a call as the one behind it ended."""
    context.set_trailing_metadata(refused.trailing_metadata() or ())
    context.abort(refused.code(), refused.details())
