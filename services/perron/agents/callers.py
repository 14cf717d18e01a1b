"""On whose behalf a call is made; that it may be made at all has been checked against the contract."""

from typing import Final

from perron.agents import errors
from perron.agents.visibility import Person, person_of
from perron.chassis.interceptors.access import Caller, CallerKind

_AUTHORS: Final = "AGENTS_WRITE"


def person(caller: Caller) -> Person:
    """Returns the person of a customer's call, with what the plan gives in this very call."""
    assert caller.passport is not None  # identity hands one out with every customer's key
    return person_of(caller.passport)


def require_author(caller: Caller) -> None:
    """Raises PermissionDenied (SCOPE_MISSING) where the key behind a passport may not make agents."""
    assert caller.passport is not None  # the contract asks for one
    if _AUTHORS not in caller.passport.scopes:
        raise errors.scope_missing(_AUTHORS)


def person_or_operator(
    caller: Caller, organization_id: str, *, thing: str, workspace_id: str | None = None
) -> Person | None:
    """Returns the person of a customer's call; None for an operator, who names what the call is about.

    A `workspace_id` of None is not asked for. Raises NotFound where a customer names what is not its own,
    InvalidArgument where an operator leaves something out.
    """
    if caller.kind is CallerKind.CUSTOMER:
        if organization_id not in {"", caller.organization_id}:
            raise errors.missing(thing)
        if workspace_id not in {None, "", caller.workspace_id}:
            raise errors.missing(thing)
        return person(caller)
    if not organization_id:
        raise errors.field_invalid("organization_id", "name the organization")
    if workspace_id == "":
        raise errors.field_invalid("workspace_id", "name the workspace")
    return None
