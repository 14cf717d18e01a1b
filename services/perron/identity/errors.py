"""The refusals of identity, each worded once.

Not found reads the same for what never existed and for what is another tenant's.
"""

from perron.chassis.errors import (
    Aborted,
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
)


def not_found(noun: str) -> NotFound:
    """Says that there is no such thing, or that it is not the caller's to see."""
    return NotFound("RESOURCE_NOT_FOUND", f"There is no such {noun}.")


def role_missing(what: str) -> PermissionDenied:
    """Says that the caller's role does not reach this far."""
    return PermissionDenied("ROLE_MISSING", f"Your role does not allow you to {what}.")


def etag_stale() -> Aborted:
    """Says that the resource has changed since it was read."""
    return Aborted("ETAG_STALE", "The etag is not the present one; read the resource again.")


def mask_invalid(allowed: str) -> InvalidArgument:
    """Says that the update mask is empty or names what cannot be changed."""
    return InvalidArgument("FIELD_INVALID", f"The mask names one or more of: {allowed}.", field="update_mask")


def field_invalid(field: str, rule: str) -> InvalidArgument:
    """Says which field breaks which rule, never its value."""
    return InvalidArgument("FIELD_INVALID", rule, field=field)


def wider_than_minter(field: str) -> PermissionDenied:
    """Says in which field a key would be wider than the one that asks for it."""
    return PermissionDenied(
        "KEY_WIDER_THAN_MINTER", "The key would be wider than the one that you call with.", field=field
    )


def ancestry_too_deep() -> FailedPrecondition:
    """Says that a chain of keys has its full length."""
    return FailedPrecondition(
        "KEY_ANCESTRY_TOO_DEEP", "A key has at most four ancestors; mint with an elder one."
    )


def key_revoked() -> FailedPrecondition:
    """Says that a revoked key does not change any more."""
    return FailedPrecondition("KEY_REVOKED", "The key is revoked.")


def owner_not_member() -> FailedPrecondition:
    """Says that a key's owner must belong to its workspace."""
    return FailedPrecondition("OWNER_NOT_MEMBER", "The owner is not a member of the workspace.")


def member_exists() -> AlreadyExists:
    """Says that the member or the e-mail address is there already."""
    return AlreadyExists(
        "MEMBER_EXISTS", "The member, or a member with this e-mail address, is there already."
    )


def last_admin() -> FailedPrecondition:
    """Says that an organization keeps at least one ADMIN."""
    return FailedPrecondition("LAST_ADMIN", "The organization would be left without an ADMIN.")


def plan_unknown() -> InvalidArgument:
    """Says that this installation has no such plan."""
    return InvalidArgument(
        "PLAN_UNKNOWN", "This installation has no such plan; ListPlans names them.", field="plan"
    )


def document_unknown() -> InvalidArgument:
    """Says that this installation has no such document or version, without repeating what was sent."""
    return InvalidArgument(
        "DOCUMENT_UNKNOWN",
        "This installation has no such document or version; ListDocuments names them.",
        field="acceptances",
    )


def digest_mismatch(document: str) -> FailedPrecondition:
    """Says that the text accepted is not the document's."""
    return FailedPrecondition(
        "DOCUMENT_DIGEST_MISMATCH",
        "The digest is not that of the document's text; read the text again.",
        metadata={"document": document},
    )


def acceptance_missing(document: str) -> FailedPrecondition:
    """Says which document in force is not among the acceptances."""
    return FailedPrecondition(
        "ACCEPTANCE_MISSING",
        f"The document {document} must be accepted too.",
        metadata={"document": document},
    )
