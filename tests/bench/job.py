"""What a load process is told, and what it answers."""

from dataclasses import dataclass, field


@dataclass(slots=True)
class Job:
    """One load: calls of one kind, so many at a time, for so long."""

    kind: str  # "empty", "admit", "admit_complete", "verify", "reserve", "decide"
    target: str
    in_flight: int
    seconds: float
    credential: str = ""  # the caller's own key
    secrets_file: str = ""  # JSON list of the customers' keys that calls are drawn from
    identity_target: str = ""  # where passports come from, for "reserve" and "decide"


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
