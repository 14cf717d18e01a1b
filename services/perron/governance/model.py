"""The values that governance speaks in: what a decision is made of, and what is asked and stored.

Lengths stay relative (days from `as_of`) until they are shown, so that one outcome serves every decision of
its kind.
"""

from dataclasses import dataclass
from enum import StrEnum


class DataKind(StrEnum):
    """What kind of data a decision is about."""

    INFERENCE = "INFERENCE"
    FINE_TUNING_DATA = "FINE_TUNING_DATA"
    FINE_TUNED_MODEL = "FINE_TUNED_MODEL"
    AGENT = "AGENT"


class Channel(StrEnum):
    """How an answer reaches a person; selects the terms."""

    API = "API"
    CHAT = "CHAT"


class TermsClass(StrEnum):
    """The class of terms that a plan falls under."""

    UNKNOWN = ""
    FREE = "FREE"
    PAID = "PAID"


class Purpose(StrEnum):
    """What data may be used for."""

    PROVIDE_SERVICES = "PROVIDE_SERVICES"
    MONITOR_ABUSE = "MONITOR_ABUSE"
    IMPROVE_SERVICES = "IMPROVE_SERVICES"
    LEGAL_OBLIGATION = "LEGAL_OBLIGATION"


class DeadlineKind(StrEnum):
    """What ends a permission."""

    IN_FLIGHT = "IN_FLIGHT"
    TIME = "TIME"
    END_OF_SUBSCRIPTION = "END_OF_SUBSCRIPTION"
    WHILE_JOB = "WHILE_JOB"
    UNTIL_DELETED = "UNTIL_DELETED"


class LicenceEnd(StrEnum):
    """When the customer's licence for the data ends."""

    WITH_EXCHANGE = "WITH_EXCHANGE"
    WITH_SUBSCRIPTION = "WITH_SUBSCRIPTION"
    WITH_ACCOUNT = "WITH_ACCOUNT"
    WITH_RIGHTS = "WITH_RIGHTS"


class ClauseReason(StrEnum):
    """Why a clause applied."""

    FREE_PLAN = "FREE_PLAN"
    PAID_PLAN = "PAID_PLAN"
    FINE_TUNED_MODEL = "FINE_TUNED_MODEL"
    AGENT = "AGENT"
    ZERO_RETENTION = "ZERO_RETENTION"
    OPTED_OUT = "OPTED_OUT"
    RULE_MISSING = "RULE_MISSING"
    NEWER_TERMS_NOT_ACCEPTED = "NEWER_TERMS_NOT_ACCEPTED"


class DiscardReason(StrEnum):
    """Why content was discarded unwritten."""

    ZERO_RETENTION = "ZERO_RETENTION"
    SUBSCRIPTION_ENDED = "SUBSCRIPTION_ENDED"
    NO_PURPOSE = "NO_PURPOSE"
    EXPIRED = "EXPIRED"
    TOMBSTONED = "TOMBSTONED"
    TERMINATED = "TERMINATED"


class TrainingPreference(StrEnum):
    """Whether the customer's data may be trained on where the terms permit it."""

    DEFAULT = "DEFAULT"
    OPTED_OUT = "OPTED_OUT"


class ExistingRecords(StrEnum):
    """What becomes of existing records when zero retention is approved."""

    ERASE = "ERASE"
    KEEP_UNTIL_DEADLINE = "KEEP_UNTIL_DEADLINE"


class RequestState(StrEnum):
    """Where a zero-retention request stands; the reviewer's verdicts are the states after REQUESTED."""

    REQUESTED = "REQUESTED"
    DETAIL_ASKED = "DETAIL_ASKED"
    APPROVED = "APPROVED"
    DENIED = "DENIED"


@dataclass(frozen=True, slots=True)
class Deadline:
    """One thing that ends a permission; `days` from the decision's `as_of`, for TIME only."""

    kind: DeadlineKind
    days: int = 0


@dataclass(frozen=True, slots=True)
class Permission:
    """One permitted purpose; the first of its deadlines ends it."""

    purpose: Purpose
    deadlines: tuple[Deadline, ...]


@dataclass(frozen=True, slots=True)
class AppliedClause:
    """A clause that shaped an outcome, and why; no clause where no rule answered."""

    clause: str
    reason: ClauseReason


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the terms say of one piece of data, apart from whose it is and when it arose."""

    permissions: tuple[Permission, ...]
    training_eligible: bool
    licence_end: LicenceEnd
    clauses: tuple[AppliedClause, ...]

    def permission(self, purpose: Purpose) -> Permission | None:
        """Returns the permission for a purpose, or None where it is not permitted."""
        return next((one for one in self.permissions if one.purpose is purpose), None)

    @property
    def reasons(self) -> frozenset[ClauseReason]:
        """The reasons of all clauses."""
        return frozenset(one.reason for one in self.clauses)


@dataclass(frozen=True, slots=True)
class Ruling:
    """An outcome for one workspace under one plan and subscription: the part of a decision that repeats."""

    organization_id: str
    workspace_id: str
    plan: str
    terms_class: TermsClass
    subscription_id: str
    terms_version: str
    data_kind: DataKind
    channel: Channel
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Decision:
    """A ruling for one piece of data, from one instant on. Never changes.

    `discards` is no part of it: it tells of one that is answered again that its content would not be kept
    any more.
    """

    decision: bytes
    ruling: Ruling
    ruling_number: int
    as_of_us: int
    in_flight_until_us: int
    data_subject: str
    discards: bool = False


@dataclass(frozen=True, slots=True)
class DecideCommand:
    """One decision wanted, for the person as verified at `as_of_us`.

    0 for `in_flight_until_us` takes the default.
    """

    organization_id: str
    workspace_id: str
    plan: str
    terms_class: TermsClass
    subscription_id: str
    documents: tuple[tuple[str, str], ...]
    as_of_us: int
    data_kind: DataKind
    channel: Channel
    model: str
    data_subject: str
    in_flight_until_us: int
    caller_key_id: str
    request_id: str
    trace_parent: str = ""


@dataclass(frozen=True, slots=True)
class Directives:
    """The directives in force for one workspace; what was made up to the watermark is never trained on."""

    zero_retention: bool = False
    preference: TrainingPreference = TrainingPreference.DEFAULT
    watermark_us: int = 0

    def opted_out(self, as_of_us: int) -> bool:
        """Tells whether what arose at that instant is out of training."""
        return self.preference is TrainingPreference.OPTED_OUT or as_of_us <= self.watermark_us


@dataclass(frozen=True, slots=True)
class Standing:
    """An organization's standing as identity answered it.

    `exists` is false for a workspace that identity does not know.
    """

    organization_id: str
    exists: bool
    active: bool
    plan: str
    terms_class: TermsClass
    subscription_id: str
    documents: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class PutCommand:
    """The content of one exchange, to be kept under a decision."""

    organization_id: str
    decision: bytes
    model: str
    agent_id: str
    agent_version: int
    input: bytes
    output: bytes
    trace_parent: str = ""

    def __repr__(self) -> str:
        return f"PutCommand({self.organization_id!r}, {self.decision.hex()})"


@dataclass(frozen=True, slots=True)
class PutOutcome:
    """The record kept, or why none was; `record` is empty where it was discarded."""

    record: bytes
    reason: DiscardReason | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """One kept exchange without its content; its id has the bytes of its decision's id, as each has one."""

    record: bytes
    ruling: Ruling
    as_of_us: int
    due_us: int
    create_us: int
    epoch: str
    model: str
    agent_id: str
    agent_version: int
    data_subject: str
    training_eligible: bool
    input_bytes: int
    output_bytes: int


@dataclass(frozen=True, slots=True)
class SealedContent:
    """The content of a record as stored: sealed under a data key, which is wrapped under the epoch's key."""

    wrapped_key: bytes
    sealed: bytes


@dataclass(frozen=True, slots=True)
class ZeroRetentionRequest:
    """A customer's request for zero retention; an empty workspace stands for the whole organization."""

    request_id: str
    organization_id: str
    workspace_id: str
    reasons: str
    existing_records: ExistingRecords
    state: RequestState
    create_us: int
    review_us: int
    review_note: str
    effective_us: int
    erased_records: int
