"""Which object a caller may reach. That it may call the method at all has been checked against the contract.

What is another tenant's answers in the same words as what does not exist.
"""

from perron.chassis.errors import InvalidArgument
from perron.chassis.interceptors.access import Caller, CallerKind
from perron.governance.errors import missing


def organization_of(caller: Caller, named: str, *, thing: str) -> str:
    """Returns the organization that a call is about: a customer's own, or the one that an operator names.

    `thing` is what is asked for, for the text of the refusal. Raises NotFound for another tenant's
    organization, InvalidArgument where an operator names none.
    """
    if caller.kind is CallerKind.CUSTOMER:
        if named not in {"", caller.organization_id}:
            raise missing(thing)
        return caller.organization_id
    if not named:
        raise InvalidArgument("FIELD_INVALID", "name the organization", field="organization_id")
    return named


def workspace_of(caller: Caller, named: str, *, thing: str) -> str:
    """Returns the workspace whose content a call is about.

    Members reach their key's own workspace, the organization's admins every one; operators name it.
    """
    if caller.kind is CallerKind.CUSTOMER:
        if named in {"", caller.workspace_id} or caller.organization_role == "ADMIN":
            return named or caller.workspace_id
        raise missing(thing)
    if not named:
        raise InvalidArgument("FIELD_INVALID", "name the workspace", field="workspace_id")
    return named
