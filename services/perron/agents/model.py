"""The values of agents: what is known of an agent without opening its configuration, and what is sealed.

Instants are microseconds since 1970, UTC.
"""

from dataclasses import dataclass, field
from enum import StrEnum

from perron.agents.visibility import Channel, SharingMode


class AgentState(StrEnum):
    """States of an agent; DELETED ones are seen by nobody, whatever is still kept of them."""

    ACTIVE = "ACTIVE"
    DISABLED = "DISABLED"
    DELETED = "DELETED"


class ErasureState(StrEnum):
    """What became of the configurations of a deleted agent."""

    NONE = ""
    PENDING = "PENDING"
    ERASED = "ERASED"


class SourceKind(StrEnum):
    """Ways to make an agent."""

    BUILDER = "BUILDER"
    FINE_TUNED_MODEL = "FINE_TUNED_MODEL"
    FINE_TUNING_JOB = "FINE_TUNING_JOB"
    IMPORT = "IMPORT"


class Occasion(StrEnum):
    """What was done with a name when somebody vouched for it."""

    CREATE = "CREATE"
    RENAME = "RENAME"
    ALIAS = "ALIAS"
    IMPORT = "IMPORT"
    RESTORE = "RESTORE"


@dataclass(frozen=True, slots=True)
class Source:
    """Where an agent comes from; `model_id` and `job_id` are empty where the kind has none."""

    kind: SourceKind
    model_id: str = ""
    job_id: str = ""


@dataclass(frozen=True, slots=True)
class Attestation:
    """A member's word that it may use a name; clause 2-name."""

    member_id: str
    time_us: int
    occasion: Occasion


@dataclass(frozen=True, slots=True)
class Agent:
    """An agent, without its configuration. `listed_as` is what it is sorted by in lists by name."""

    agent_id: str
    organization_id: str
    workspace_id: str
    display_name: str
    listed_as: str
    owner_member_id: str
    source: Source
    state: AgentState
    disable_reason: str
    latest_version: int
    sharing_mode: SharingMode
    channels: frozenset[Channel]
    attestation: Attestation
    create_us: int
    update_us: int
    revision: int

    @property
    def etag(self) -> str:
        """What changes with every change."""
        return f'"{self.revision}"'


@dataclass(frozen=True, slots=True)
class Version:
    """One version of an agent, without its configuration; `restored_version` is 0 where it restored none."""

    organization_id: str
    agent_id: str
    version: int
    author_member_id: str
    create_us: int
    restored_version: int
    decision_id: str
    third_parties: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Sealed:
    """A configuration under its own data key, and the data key under a key of the workspace."""

    key_id: str
    wrapped_key: bytes = field(repr=False)
    content: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Alias:
    """A name for one version of an agent; version 0 stands for the latest at each call."""

    workspace_id: str
    alias: str
    agent_id: str
    version: int
    attestation: Attestation
    create_us: int
    update_us: int
    revision: int

    @property
    def etag(self) -> str:
        """What changes with every move."""
        return f'"{self.revision}"'


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """A workspace's word that it knows of a third party."""

    third_party: str
    member_id: str
    create_us: int
