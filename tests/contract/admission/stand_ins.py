"""Agents and finetuning as admission asks them: what a test says, over the same wire and contract."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import grpc
import jwt

from perron.api.agents.v1 import agent_service_pb2, agent_service_pb2_grpc, configuration_pb2
from perron.api.common.v1 import roles_pb2
from perron.api.finetuning.v1 import model_service_pb2, model_service_pb2_grpc
from perron.chassis import status
from perron.chassis.channels import CHANNEL_OPTIONS
from perron.chassis.errors import FailedPrecondition, NotFound, PerronError, ResourceExhausted
from perron.chassis.ids import new_id

ANSWER_BYTES_MAX = 1024 * 1024  # less than the real one, so that tests meet it with small batches


@dataclass
class Agent:
    """An agent as a test has made it; tests change it in place."""

    workspace_id: str
    configuration: configuration_pb2.AgentConfiguration
    agent_id: str
    version: int = 1
    refusal: PerronError | None = None
    channels: tuple[int, ...] = (roles_pb2.CHANNEL_API, roles_pb2.CHANNEL_CHAT)


class StandIn:
    """A server on loopback that can go and come back where it was."""

    def __init__(self, add: Callable[[grpc.Server], None]) -> None:
        self._add = add
        self._port = 0
        self._server: grpc.Server | None = None
        self.start()

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self._port}"

    def start(self) -> None:
        self._server = grpc.server(ThreadPoolExecutor(4), options=CHANNEL_OPTIONS)
        self._add(self._server)
        self._port = self._server.add_insecure_port(f"127.0.0.1:{self._port}")
        self._server.start()

    def stop(self) -> None:
        assert self._server is not None
        self._server.stop(None).wait()


class Agents(agent_service_pb2_grpc.AgentServiceServicer):
    """Resolves the agents of a test, each for its own workspace."""

    def __init__(self) -> None:
        self.named: dict[str, Agent] = {}
        self.batches: list[int] = []

    def make(self, workspace_id: str, *names: str, **fields: Any) -> Agent:
        configuration = configuration_pb2.AgentConfiguration(**({"model": "small-1"} | fields))
        agent = Agent(workspace_id, configuration, new_id("agt"))
        self.named |= dict.fromkeys((agent.agent_id, *names), agent)
        return agent

    def BatchResolve(self, request: Any, context: grpc.ServicerContext) -> Any:
        self.batches.append(len(request.items))
        response = agent_service_pb2.BatchResolveResponse()
        carried: set[tuple[str, int]] = set()
        room = ANSWER_BYTES_MAX
        for item in request.items:
            result = response.results.add()
            try:
                agent = self._find(item, _workspace(request.passports[item.passport_index]))
                version = (agent.agent_id, agent.version)
                size = 0 if version in carried else agent.configuration.ByteSize()
                if size > room:
                    raise ResourceExhausted("ANSWER_TOO_LARGE", "no room")
            except PerronError as error:
                result.error.CopyFrom(status.to_status(error))
                continue
            room -= size
            result.response.agent_id, result.response.version = version
            result.response.model = agent.configuration.model
            result.response.handoff_agent_ids.extend(agent.configuration.handoff_agent_ids)
            if version not in carried:
                result.response.configuration.CopyFrom(agent.configuration)
                carried.add(version)
        return response

    def _find(self, item: Any, workspace_id: str) -> Agent:
        agent = self.named.get(item.agent)
        if agent is None or agent.workspace_id != workspace_id:
            raise NotFound("RESOURCE_NOT_FOUND", "No such agent.")
        if agent.refusal is not None:
            raise agent.refusal
        if item.channel not in agent.channels:
            channel = roles_pb2.Channel.Name(item.channel).removeprefix("CHANNEL_")
            raise FailedPrecondition(
                "AGENT_NOT_PUBLISHED",
                "Not published.",
                metadata={"channel": channel, "because": "agent"},
            )
        return agent


class Models(model_service_pb2_grpc.ModelServiceServicer):
    """Resolves the fine-tuned models of a test, each for its own workspace."""

    def __init__(self) -> None:
        self.owners: dict[str, str] = {}

    def BatchResolve(self, request: Any, context: grpc.ServicerContext) -> Any:
        return model_service_pb2.BatchResolveResponse(results=self._results(request))

    def _results(self, request: Any) -> Iterable[model_service_pb2.ResolveResult]:
        for item in request.items:
            if self.owners.get(item.model) == _workspace(request.passports[item.passport_index]):
                found = model_service_pb2.ResolveResponse(
                    model_id="mdl_1", name=item.model, base_model="small-1"
                )
                yield model_service_pb2.ResolveResult(response=found)
            else:
                error = NotFound("RESOURCE_NOT_FOUND", "No such model.")
                yield model_service_pb2.ResolveResult(error=status.to_status(error))


def _workspace(passport: str) -> str:
    claims = jwt.decode(passport, options={"verify_signature": False})
    return str(claims["ws"])
