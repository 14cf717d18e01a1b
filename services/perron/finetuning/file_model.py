"""The nouns of files and sealed bytes as values. Instants are microseconds since 1970; 0 is never."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from perron.finetuning.jsonl import Counts, Fault

PART_BYTES: Final = 2 * 1024 * 1024
"""How many bytes of content one object in storage holds; the last one of a blob holds what is left."""


class BlobKind(StrEnum):
    """What sealed bytes are."""

    FILE = "FILE"
    ARTIFACT = "ARTIFACT"
    AGENT = "AGENT"  # what a job's agent is told; it lies in the store, not in storage


class BlobState(StrEnum):
    """What sealed bytes are worth."""

    WRITING = "WRITING"
    READY = "READY"
    HELD = "HELD"  # deleted, and kept by a legal hold
    DROPPING = "DROPPING"  # its data key is gone from the row; its objects are still in storage
    GONE = "GONE"  # its objects are gone too; copies of the store may hold its data key, wrapped
    ERASED = "ERASED"  # and the key that wrapped it is gone for good


@dataclass(frozen=True, slots=True)
class Runs:
    """Which stream wrote which parts of a blob: pairs of a first part and the stream that wrote on from it.

    Two streams of one upload may write the same part at the same time. Each writes objects of its own, so
    that what counts is decided by the store and not by which of them came last.
    """

    pairs: tuple[tuple[int, int], ...] = ()

    @classmethod
    def read(cls, written: str) -> "Runs":
        """Reads what `str` wrote."""
        pairs = (pair.split(":") for pair in written.split(",") if pair)
        return cls(tuple((int(first), int(stream)) for first, stream in pairs))

    def __str__(self) -> str:
        return ",".join(f"{first}:{stream}" for first, stream in self.pairs)

    def begun(self, part: int, stream: int) -> "Runs":
        """Returns the runs with a new one from `part` on."""
        return Runs((*(pair for pair in self.pairs if pair[0] < part), (part, stream)))

    def stream_of(self, part: int) -> int:
        """Returns the stream that wrote a part."""
        return next(stream for first, stream in reversed(self.pairs) if first <= part)


@dataclass(frozen=True, slots=True)
class Blob:
    """Sealed bytes in storage, and the wrapped key to them."""

    blob_id: str
    organization_id: str
    workspace_id: str
    kind: BlobKind
    owner_id: str
    state: BlobState
    runs: Runs
    key_id: str
    wrapped_key: bytes = field(repr=False)
    create_us: int
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class OpenBlob:
    """A blob with its data key, for as long as somebody reads or writes it."""

    blob: Blob
    data_key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Retention:
    """What ends the life of a file beside its deletion.

    A subscription that has ended leaves 30 days; a file that is bound to jobs (zero retention) lives at most
    24 hours from `job_bound_us` on, which moves on while a job needs it.
    """

    decision_id: str
    subscription_id: str = ""
    subscription_end_us: int = 0
    job_bound_us: int = 0


class FileState(StrEnum):
    """What became of a file's content."""

    VALID = "VALID"
    INVALID = "INVALID"


@dataclass(frozen=True, slots=True)
class Upload:
    """A file on its way in; `stream` is the number of the stream that may go on with it."""

    upload_id: str
    organization_id: str
    workspace_id: str
    member_id: str
    blob_id: str
    display_name: str
    bytes: int
    sha256: str
    received_bytes: int
    file_id: str
    stream: int
    retention: Retention
    create_us: int
    expire_us: int


@dataclass(frozen=True, slots=True)
class File:
    """A training or validation file."""

    file_id: str
    organization_id: str
    workspace_id: str
    blob_id: str
    display_name: str
    state: FileState
    bytes: int
    sha256: str
    statistics: "Statistics"
    faults: Sequence[Fault]
    faults_total: int
    member_id: str
    attest_us: int
    retention: Retention
    expire_us: int
    create_us: int


@dataclass(frozen=True, slots=True)
class Statistics:
    """What was counted in a file."""

    examples: int
    tokens: int
    turns: int
    roles: Mapping[str, int]

    @classmethod
    def of(cls, counts: Counts, tokens: int) -> "Statistics":
        """Returns what is kept of a validator's counts."""
        return cls(counts.examples, tokens, counts.turns, counts.roles)


@dataclass(frozen=True, slots=True)
class UploadCommand:
    """A file that is announced, with the rights in it attested by the caller."""

    display_name: str
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Directives:
    """What governance says of a workspace or resource now."""

    zero_retention: bool
    held: bool
