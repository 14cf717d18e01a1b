"""The refusals of agents, each worded once.

What a caller may not see and what never existed read the same.
"""

from perron.chassis.errors import (
    Aborted,
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Unavailable,
)


def missing(thing: str) -> NotFound:
    """Says that there is no such thing, or that it is not the caller's to see."""
    return NotFound("RESOURCE_NOT_FOUND", f"the {thing} does not exist")


def role_missing() -> PermissionDenied:
    """Says that the caller sees the agent and may not change it."""
    return PermissionDenied("ROLE_MISSING", "only the agent's owner and the workspace's admins may do this")


def admins_only() -> PermissionDenied:
    """Says that the owner of an agent cannot do this either."""
    return PermissionDenied("ROLE_MISSING", "only the workspace's admins may do this")


def scope_missing(scope: str) -> PermissionDenied:
    """Says what the key lacks of the person on whose behalf a service asks."""
    return PermissionDenied("SCOPE_MISSING", f"the key lacks the scope {scope}", metadata={"scope": scope})


def etag_stale() -> Aborted:
    """Says that the resource has changed since it was read."""
    return Aborted("ETAG_STALE", "the etag is not the present one; read the resource again")


def field_invalid(field: str, rule: str) -> InvalidArgument:
    """Says which field breaks which rule, never its value."""
    return InvalidArgument("FIELD_INVALID", rule, field=field)


def name_taken(field: str) -> AlreadyExists:
    """Says that a name, or one that looks like it, is in use in the workspace."""
    return AlreadyExists(
        "NAME_TAKEN", "the workspace has this name, or one that looks like it, already", field=field
    )


def name_reserved(field: str) -> InvalidArgument:
    """Says that a name is, or looks like, one that the operator reserved."""
    return InvalidArgument("NAME_RESERVED", "the name is reserved, or looks like one that is", field=field)


def name_not_attested() -> FailedPrecondition:
    """Says that nobody vouches for the name; clause 2-name."""
    return FailedPrecondition(
        "NAME_NOT_ATTESTED", "say with name_attested that you may use the name", field="name_attested"
    )


def entitlement_missing(entitlement: str) -> FailedPrecondition:
    """Says what the plan lacks."""
    return FailedPrecondition(
        "ENTITLEMENT_MISSING", "the plan does not give this", metadata={"entitlement": entitlement}
    )


def handoff_unknown(agent_id: str) -> FailedPrecondition:
    """Says which handoff names no agent that its author may see."""
    return FailedPrecondition(
        "HANDOFF_UNKNOWN", "a handoff names an agent that does not exist", metadata={"agent": agent_id}
    )


def member_unknown() -> FailedPrecondition:
    """Says that a member named is not in the workspace."""
    return FailedPrecondition("MEMBER_UNKNOWN", "a member that is named is not in the workspace")


def case_reference_missing() -> InvalidArgument:
    """Says that an operator reads content for a case only."""
    return InvalidArgument(
        "CASE_REFERENCE_MISSING", "an operator reads this for a case: name it", field="case_reference"
    )


def peer_unavailable(peer: str) -> Unavailable:
    """Says which service would have to be asked and is not there."""
    return Unavailable("PEER_UNAVAILABLE", f"{peer} does not answer", metadata={"peer": peer})


def key_missing() -> Unavailable:
    """Says that what was sealed cannot be opened for now: the vault lacks its key, as after a restore."""
    return Unavailable("STORE_UNAVAILABLE", "the key of this content is not at hand")


def agent_disabled() -> FailedPrecondition:
    """Says that an operator has disabled the agent."""
    return FailedPrecondition("AGENT_DISABLED", "an operator has disabled the agent")


def agent_not_published(channel: str, because: str) -> FailedPrecondition:
    """Says that the agent may not be used in a channel; `because`: the plan or the agent itself lacks it."""
    return FailedPrecondition(
        "AGENT_NOT_PUBLISHED",
        "the agent may not be used in this channel",
        metadata={"channel": channel, "because": because},
    )


def third_party_not_acknowledged(third_party: str) -> FailedPrecondition:
    """Says which third party an agent reaches that a workspace under zero retention has not acknowledged."""
    return FailedPrecondition(
        "THIRD_PARTY_NOT_ACKNOWLEDGED",
        "under zero retention, an admin acknowledges each third party that an agent reaches",
        metadata={"third_party": third_party},
    )


def answer_too_large() -> ResourceExhausted:
    """Says that a batch has no room for the configuration of this item."""
    return ResourceExhausted(
        "ANSWER_TOO_LARGE", "the answer has no room for this configuration: ask for it in another batch"
    )
