"""Why admission refuses, each reason in one place."""

from perron.chassis.errors import (
    FailedPrecondition,
    NotFound,
    PermissionDenied,
    PerronError,
    ResourceExhausted,
    Unauthenticated,
)

_STATES: dict[str, str] = {
    "UNKNOWN": "The API key is not known.",
    "MALFORMED": "The text presented is not an API key: a character is wrong or missing.",
    "EXPIRED": "The API key has expired.",
    "REVOKED": "The API key has been revoked.",
    "OWNER_REMOVED": "The member who owned the API key has been removed.",
    "TERMINATED": "The account of the API key has been terminated.",
}


def key_refused(state: str) -> PerronError:
    """The error for a customer's key in a state other than VALID: identity's KeyState without its prefix."""
    if state == "TERMS_NOT_ACCEPTED":
        return PermissionDenied(
            "TERMS_NOT_ACCEPTED",
            "Terms in force have not been accepted; the organization's admin does so with AcceptTerms.",
        )
    if state == "NETWORK_NOT_ALLOWED":
        return PermissionDenied("NETWORK_NOT_ALLOWED", "The API key may not be used from this network.")
    if state == "SCOPE_MISSING":
        return PermissionDenied(
            "SCOPE_MISSING", "The API key lacks the scope INFERENCE.", metadata={"scope": "INFERENCE"}
        )
    message = _STATES.get(state, "The API key is not valid.")
    return Unauthenticated("CREDENTIAL_INVALID", message, metadata={"state": state})


def not_a_customer() -> PerronError:
    """The error for a valid key of a service or operator: they run no inference in their own name."""
    return PermissionDenied("CALLER_NOT_ALLOWED", "The key presented is not a customer's API key.")


def model_unknown() -> PerronError:
    """The error for a model that the operator does not list."""
    return NotFound(
        "MODEL_UNKNOWN", "No such model; the operator's models.yaml lists those that can be called."
    )


def model_not_allowed() -> PerronError:
    """The error for a model outside of those that the key is bound to."""
    return PermissionDenied("MODEL_NOT_ALLOWED", "The API key may not be used for this model.")


def answer_too_large() -> PerronError:
    """The error for an item of a batch whose agent's configuration has no room in the answer."""
    return ResourceExhausted(
        "ANSWER_TOO_LARGE", "The answer has no room for this agent's configuration: ask in another batch."
    )


def admission_not_found() -> PerronError:
    """The error for an id that is no admission of the calling gateway's."""
    return NotFound("RESOURCE_NOT_FOUND", "No such admission.")


def admission_expired() -> PerronError:
    """The error for an admission that ended too long ago to be settled."""
    return FailedPrecondition("ADMISSION_EXPIRED", "The admission ended more than 24 hours ago.")
