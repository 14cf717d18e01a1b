"""What Admit answers, as a gateway uses it."""

from dataclasses import dataclass, field
from datetime import UTC, datetime

from perron.api.admission.v1 import admission_service_pb2 as pb
from perron.api.agents.v1.configuration_pb2 import AgentConfiguration


@dataclass(frozen=True, slots=True)
class Agent:
    """The agent to run: one version, as this caller may use it.

    `configuration` is what the model is to be told: instructions, examples, tools and the like. It is the
    customer's secret, so keep it no longer than the inference. `handoff_agent_ids` may be asked for with
    `admit` in turn.
    """

    agent_id: str
    version: int
    third_parties: tuple[str, ...]
    handoff_agent_ids: tuple[str, ...]
    configuration: AgentConfiguration = field(repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Admission:
    """One admitted inference. Hand it back to `complete` or `abort`.

    `model` is the one to run, `agent` the agent to run it as, None unless one was asked for; `keep_content`
    says whether `complete` should carry the exchange; `response` holds everything the service said, limits
    and decision included.
    """

    admission_id: str = field(repr=False)
    model: str
    keep_content: bool
    expire_time: datetime
    agent: Agent | None
    response: pb.AdmitResponse = field(repr=False, compare=False)

    @property
    def decision_id(self) -> str:
        """The decision about the content of this exchange, for `perron decisions explain`."""
        return self.response.decision.decision_id


def from_response(response: pb.AdmitResponse) -> Admission:
    """Reads an answer of Admit; `expire_time` is aware, in UTC."""
    return Admission(
        admission_id=response.admission_id,
        model=response.effective_model,
        keep_content=response.keep_content,
        expire_time=response.expire_time.ToDatetime(tzinfo=UTC),
        agent=_agent(response.agent) if response.HasField("agent") else None,
        response=response,
    )


def _agent(agent: pb.AdmittedAgent) -> Agent:
    return Agent(
        agent_id=agent.agent_id,
        version=agent.version,
        third_parties=tuple(agent.third_parties),
        handoff_agent_ids=tuple(agent.handoff_agent_ids),
        configuration=agent.configuration,
    )
