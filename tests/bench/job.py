"""What a load process is told, and what it answers."""

from dataclasses import dataclass, field


@dataclass(slots=True)
class Job:
    """One load: calls of one kind, so many at a time, for so long."""

    kind: str  # "empty", "admit", "admit_complete", "verify", "reserve", "decide", "resolve", "list_agents"
    target: str
    in_flight: int
    seconds: float
    credential: str = ""  # the caller's own key
    secrets_file: str = ""  # JSON list of the customers' keys that calls are drawn from
    identity_target: str = ""  # where passports come from, for "reserve", "decide" and "resolve"
    agents_file: str = (
        ""  # JSON lists of agents, one for each workspace in the order of its keys, for "resolve"
    )


@dataclass(slots=True)
class Outcome:
    """What came of it. `done` counts items, not calls; times are in milliseconds."""

    done: int
    seconds: float
    median_ms: float
    p99_ms: float
    refused: dict[str, int] = field(default_factory=dict)

    @property
    def per_second(self) -> float:
        return self.done / self.seconds
