"""The agent of a job as values: as it is wanted, and what becomes of it; never shown is what it is told."""

from dataclasses import dataclass, field
from enum import StrEnum


class AgentState(StrEnum):
    """Where the promise of an agent stands."""

    PROMISED = "PROMISED"
    MADE = "MADE"
    NOT_MADE = "NOT_MADE"


@dataclass(frozen=True, slots=True)
class WantedAgent:
    """An agent that a job is to make; its configuration is a message without a model, as bytes."""

    display_name: str
    name_attested: bool
    configuration: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class JobAgent:
    """What a job tells of its agent. `reason` and `text` say why agents refused it."""

    display_name: str
    state: AgentState = AgentState.PROMISED
    reason: str = ""
    text: str = ""
    agent_id: str = ""
