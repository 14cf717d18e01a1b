"""Refusals of governance that more than one place needs, each with its reason in the contract's list."""

from perron.chassis.errors import InvalidArgument, NotFound


def missing(thing: str) -> NotFound:
    """Returns the refusal for what does not exist, or is another tenant's: the words are the same."""
    return NotFound("RESOURCE_NOT_FOUND", f"the {thing} does not exist")


def request_id_reused() -> InvalidArgument:
    """Returns the refusal for a request_id that comes back with another body."""
    return InvalidArgument(
        "REQUEST_ID_REUSED", "the request_id was used with another request", field="request_id"
    )
