"""Exchanges on their way through admission, and how far each has come."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from perron.admission.base_models import Kind, kind_of
from perron.admission.model import Admission
from perron.api.admission.v1.admission_service_pb2 import AdmitRequest, AdmitResponse, CompleteRequest
from perron.api.agents.v1.agent_service_pb2 import ResolveResponse
from perron.api.agents.v1.configuration_pb2 import AgentConfiguration
from perron.api.quotas.v1.quota_service_pb2 import ReserveResponse
from perron.chassis.errors import PerronError

_ROOM_BYTES: Final = 3 * 1024 * 1024

Version = tuple[str, int]
"""An agent's id and the number of one of its versions."""


@dataclass(frozen=True, slots=True)
class ResolvedAgent:
    """An agent as it is run for one caller. Exchanges of one version share the configuration."""

    response: ResolveResponse
    configuration: AgentConfiguration

    @property
    def version(self) -> Version:
        """Which version it is."""
        return version_of(self.response)


def version_of(response: ResolveResponse) -> Version:
    """Returns the version that an answer of Resolve is about."""
    return response.agent_id, response.version


class Room:
    """The room that one answer has for configurations: each version's is carried once."""

    def __init__(self) -> None:
        self._taken: dict[Version, int] = {}

    def takes(self, agent: ResolvedAgent) -> bool:
        """Takes the room for an agent's configuration; False where there is not enough left."""
        if agent.version in self._taken:
            return True
        size = agent.configuration.ByteSize()
        if sum(self._taken.values()) + size > _ROOM_BYTES:
            return False
        self._taken[agent.version] = size
        return True


@dataclass(slots=True)
class Asking:
    """One exchange that wants to be admitted. `outcome` is set as soon as nothing more is to be asked."""

    gateway_key_id: str
    ask: AdmitRequest
    trace_parent: str
    room: Room  # shared by all exchanges of one call
    kind: Kind = field(init=False)
    organization_id: str = ""
    workspace_id: str = ""
    passport: str = ""
    allowed_models: Iterable[str] = ()
    model: str = ""  # the effective one
    agent: ResolvedAgent | None = None
    reserved: ReserveResponse | None = None
    outcome: AdmitResponse | PerronError | None = None
    is_abandoned: bool = False  # nobody waits for the outcome
    is_released: bool = False  # what was reserved is being given back

    def __post_init__(self) -> None:
        self.kind = kind_of(self.ask.model)

    @property
    def is_open(self) -> bool:
        """Says whether there is more to ask."""
        return self.outcome is None

    @property
    def reservation(self) -> ReserveResponse:
        """What was reserved; only for exchanges that got so far."""
        assert self.reserved is not None
        return self.reserved

    def begin(self) -> None:
        """Forgets an earlier attempt, which a defect in another exchange of its batch may have ended."""
        self.agent = self.reserved = self.outcome = None
        self.is_released = False

    def answer(self) -> AdmitResponse | PerronError:
        """The outcome; only once there is one."""
        assert self.outcome is not None
        return self.outcome


@dataclass(frozen=True, slots=True)
class Completion:
    """One admission that is to be completed."""

    admission: Admission
    request: CompleteRequest
    trace_parent: str
