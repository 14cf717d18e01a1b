"""The nouns of identity as values: what the store reads, the domain judges and the servicers convert.

A newcomer's trap: a Key's own grant is what it was given; what it may do is the meet with its ancestors'
grants, which only `verification` computes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, NamedTuple

from perron.identity.grants import NOTHING, Grant

__all__ = [
    "ALL_SCOPES",
    "Acceptance",
    "Key",
    "KeyFacts",
    "KeyKind",
    "KeyState",
    "Member",
    "OperatorRole",
    "Organization",
    "OrganizationRole",
    "OrganizationState",
    "PermittedUse",
    "Principal",
    "Scope",
    "Standing",
    "Subscription",
    "TermsClass",
    "Verdict",
    "VerifyItem",
    "Workspace",
    "WorkspaceRole",
]


class KeyKind(StrEnum):
    """Whose key it is."""

    CUSTOMER = "CUSTOMER"
    OPERATOR = "OPERATOR"
    SERVICE = "SERVICE"


class OrganizationRole(StrEnum):
    """What a member may do in the whole organization."""

    ADMIN = "ADMIN"
    AUDITOR = "AUDITOR"
    MEMBER = "MEMBER"


class WorkspaceRole(StrEnum):
    """What a member may do in one workspace."""

    ADMIN = "ADMIN"
    MEMBER = "MEMBER"


class OperatorRole(StrEnum):
    """What an operator of the installation may do."""

    ADMIN = "ADMIN"
    BILLING = "BILLING"
    REVIEWER = "REVIEWER"
    ABUSE_REVIEWER = "ABUSE_REVIEWER"
    LEGAL = "LEGAL"
    TRAINING = "TRAINING"


class Scope(StrEnum):
    """What a key may be used for."""

    INFERENCE = "INFERENCE"
    ORGANIZATION_READ = "ORGANIZATION_READ"
    ORGANIZATION_WRITE = "ORGANIZATION_WRITE"
    KEYS_READ = "KEYS_READ"
    KEYS_WRITE = "KEYS_WRITE"
    LIMITS_READ = "LIMITS_READ"
    LIMITS_WRITE = "LIMITS_WRITE"
    DATA_READ = "DATA_READ"
    DATA_WRITE = "DATA_WRITE"
    AGENTS_READ = "AGENTS_READ"
    AGENTS_WRITE = "AGENTS_WRITE"
    FINE_TUNING_READ = "FINE_TUNING_READ"
    FINE_TUNING_WRITE = "FINE_TUNING_WRITE"


ALL_SCOPES: Final = frozenset(str(scope) for scope in Scope)
"""What the first key of an organization may be used for."""


class OrganizationState(StrEnum):
    """Where an organization stands."""

    ACTIVE = "ACTIVE"
    TERMINATED = "TERMINATED"


class PermittedUse(StrEnum):
    """What an organization uses the platform for (clause 1.1-use)."""

    PERSONAL = "PERSONAL"
    INTERNAL_BUSINESS = "INTERNAL_BUSINESS"
    OFFERING = "OFFERING"


class TermsClass(StrEnum):
    """The class of terms of a plan; UNSPECIFIED for one that the plans file no longer has."""

    UNSPECIFIED = "UNSPECIFIED"
    FREE = "FREE"
    PAID = "PAID"


class KeyState(StrEnum):
    """What Verify found."""

    VALID = "VALID"
    UNKNOWN = "UNKNOWN"
    MALFORMED = "MALFORMED"
    EXPIRED = "EXPIRED"
    REVOKED = "REVOKED"
    OWNER_REMOVED = "OWNER_REMOVED"
    TERMINATED = "TERMINATED"
    TERMS_NOT_ACCEPTED = "TERMS_NOT_ACCEPTED"
    NETWORK_NOT_ALLOWED = "NETWORK_NOT_ALLOWED"
    SCOPE_MISSING = "SCOPE_MISSING"


@dataclass(frozen=True, slots=True)
class Subscription:
    """A paid relation, from its start to its end; `end_us` is None while it runs."""

    subscription_id: str
    organization_id: str
    terms_class: TermsClass
    start_us: int
    end_us: int | None = None


@dataclass(frozen=True, slots=True)
class Acceptance:
    """That one version of a document was accepted, by its text's SHA-256 in hexadecimal."""

    document: str
    version: str
    text_digest: str
    member_id: str = ""
    accept_us: int = 0


@dataclass(frozen=True, slots=True)
class Organization:
    """The customer. `accepted` maps each document to the newest version accepted."""

    organization_id: str
    display_name: str
    state: OrganizationState
    plan: str
    subscription: Subscription | None
    permitted_uses: frozenset[str]
    expected_monthly_requests: int
    accepted: Mapping[str, str]
    acceptances: tuple[Acceptance, ...]
    create_us: int
    version: int


@dataclass(frozen=True, slots=True)
class Workspace:
    """The part of an organization that keys and records belong to."""

    workspace_id: str
    organization_id: str
    display_name: str
    create_us: int
    version: int


@dataclass(frozen=True, slots=True)
class Member:
    """An authorized user, seen in one workspace, or (both empty) in the organization alone."""

    member_id: str
    organization_id: str
    display_name: str
    email: str
    organization_role: OrganizationRole
    create_us: int
    version: int
    workspace_id: str = ""
    workspace_role: WorkspaceRole | None = None


@dataclass(frozen=True, slots=True)
class Key:
    """An API key without its secret; `ancestors` are the keys it was minted with, the eldest first."""

    key_id: str
    kind: KeyKind
    display_name: str
    organization_id: str
    workspace_id: str
    owner_member_id: str
    ancestors: tuple[str, ...]
    grant: Grant
    service_name: str
    operator_roles: frozenset[str]
    create_us: int
    revoke_us: int | None
    version: int
    workspace_deleted: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class KeyFacts:
    """Everything that the store says of one key at one instant, its owner and organization included.

    Equal only to itself: one row's text makes one object for as long as it is remembered, so whatever is
    computed from facts can be remembered by them without hashing twenty fields. `organization_role` is None
    for an owner who is no longer a member; `workspace_role` None for one who was not added to the
    workspace.
    """

    key_id: str
    kind: KeyKind
    service_name: str
    operator_roles: frozenset[str]
    organization_id: str
    workspace_id: str
    owner_member_id: str
    grant: Grant
    revoked: bool
    ancestors: tuple[str, ...]
    organization_role: OrganizationRole | None
    workspace_role: WorkspaceRole | None
    workspace_exists: bool
    organization_state: OrganizationState | None
    plan: str
    subscription_id: str
    accepted: Mapping[str, str]

    @property
    def owner_belongs(self) -> bool:
        """Whether the owner may act in the key's workspace: an organization ADMIN in every one."""
        if self.organization_role is None:
            return False
        return self.workspace_role is not None or self.organization_role is OrganizationRole.ADMIN


@dataclass(frozen=True, slots=True, eq=False)
class Principal:
    """Who calls; roles and grant are the effective ones. Equal only to itself, as KeyFacts."""

    kind: KeyKind
    key_id: str
    name: str = ""
    organization_id: str = ""
    workspace_id: str = ""
    member_id: str = ""
    organization_role: OrganizationRole | None = None
    workspace_role: WorkspaceRole | None = None
    operator_roles: frozenset[str] = frozenset()
    grant: Grant = NOTHING
    plan: str = ""
    terms_class: TermsClass = TermsClass.UNSPECIFIED
    tier: str = ""
    subscription_id: str = ""
    accepted: Mapping[str, str] = field(default_factory=dict)


class VerifyItem(NamedTuple):
    """One question of Verify; a tuple, made in a third of the time. `peer` is empty where not known."""

    credential: str
    required_scopes: frozenset[str] = frozenset()
    peer: str = ""
    want_passport: bool = False
    trace_parent: str = ""

    def __repr__(self) -> str:
        return "VerifyItem(…)"


@dataclass(frozen=True, slots=True, eq=False)
class Verdict:
    """One answer of Verify; `as_of_us` is the instant that it is true of, where a passport is wanted.

    Equal only to itself, as Principal: the same answer about the same rows is the same object.
    """

    state: KeyState
    principal: Principal | None = None
    as_of_us: int = 0


@dataclass(frozen=True, slots=True)
class Standing:
    """How the organization of a workspace stood at `as_of_us`."""

    organization_id: str
    workspace_id: str
    state: OrganizationState
    plan: str
    terms_class: TermsClass
    subscription_id: str
    accepted: Mapping[str, str]
    as_of_us: int
