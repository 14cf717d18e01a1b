"""Who may see, change or mint which key, and how wide.

The contract has checked scope and role; what is decided here concerns the one key, owner and workspace
named in the call.
"""

from typing import Final

from perron.chassis.errors import NotFound
from perron.chassis.interceptors.access import Caller
from perron.identity import errors
from perron.identity.commands import UpdateKey
from perron.identity.grants import Grant
from perron.identity.model import Key, KeyKind, Member, OrganizationRole, WorkspaceRole
from perron.identity.store import Store

MUTABLE: Final = ("display_name", "scopes", "allowed_models", "allowed_networks", "expire_time")
_PARTS: Final = ("scopes", "models", "networks", "expire_us")


def reads_all(caller: Caller) -> bool:
    """Says whether the caller sees everything of its organization."""
    return caller.organization_role in {OrganizationRole.ADMIN, OrganizationRole.AUDITOR}


def visible(key: Key, caller: Caller) -> Key:
    """Returns the key if the caller may see it; raises NotFound."""
    if str(caller.kind) != KeyKind.CUSTOMER:
        return key
    if key.organization_id == caller.organization_id and (
        reads_all(caller)
        or key.owner_member_id == caller.member_id
        or (key.workspace_id == caller.workspace_id and caller.workspace_role == WorkspaceRole.ADMIN)
    ):
        return key
    raise errors.not_found("key")


def managed(key: Key, caller: Caller) -> Key:
    """Returns the key if the caller may change it; raises NotFound or PermissionDenied."""
    visible(key, caller)
    if (
        str(caller.kind) == KeyKind.CUSTOMER
        and caller.organization_role == OrganizationRole.AUDITOR
        and key.owner_member_id != caller.member_id
        and not (key.workspace_id == caller.workspace_id and caller.workspace_role == WorkspaceRole.ADMIN)
    ):
        raise errors.role_missing("change this key")
    return key


def require_workspace(store: Store, caller: Caller, workspace_id: str) -> None:
    """Raises NotFound unless the workspace is one in which the caller may see keys."""
    workspace = store.workspace(workspace_id)
    if workspace.organization_id != caller.organization_id:
        raise errors.not_found("workspace")
    if workspace_id != caller.workspace_id and not reads_all(caller):
        raise errors.not_found("workspace")


def owner(store: Store, caller: Caller, workspace_id: str, member_id: str) -> Member:
    """Returns who shall own a key, if the caller may mint for it; raises PermissionDenied otherwise."""
    is_admin = caller.organization_role == OrganizationRole.ADMIN
    manages = is_admin or (
        workspace_id == caller.workspace_id and caller.workspace_role == WorkspaceRole.ADMIN
    )
    if member_id != caller.member_id and not manages:
        raise errors.role_missing("mint keys for other members")
    if workspace_id != caller.workspace_id and not is_admin:
        raise errors.role_missing("mint keys in another workspace")
    try:
        owner = store.member(caller.organization_id, member_id)
        if owner.organization_role is not OrganizationRole.ADMIN:
            owner = store.member_in(workspace_id, member_id)
    except NotFound:
        raise errors.owner_not_member() from None
    if (
        not is_admin
        and member_id != caller.member_id
        and owner.organization_role is not OrganizationRole.MEMBER
    ):
        raise errors.role_missing("mint keys for this member")
    return owner


def inherited(wanted: Grant, bound: Grant) -> Grant:
    """Returns what a new key gets: as asked for, and of what was not asked for, what its minter has."""
    return Grant(
        scopes=wanted.scopes,
        models=bound.models if wanted.models is None else wanted.models,
        networks=bound.networks if wanted.networks is None else wanted.networks,
        expire_us=bound.expire_us if wanted.expire_us is None else wanted.expire_us,
    )


def changed(grant: Grant, command: UpdateKey) -> Grant:
    """Returns the grant after an update; raises InvalidArgument for a mask or field that cannot be."""
    if not command.fields or not command.fields <= set(MUTABLE):
        raise errors.mask_invalid(", ".join(MUTABLE))
    if "display_name" in command.fields and not command.display_name:
        raise errors.field_invalid("display_name", "A name is required where the mask names it.")
    if "scopes" in command.fields and not command.grant.scopes:
        raise errors.field_invalid("scopes", "At least one scope is required where the mask names them.")
    new = command.grant
    return Grant(
        scopes=new.scopes if "scopes" in command.fields else grant.scopes,
        models=new.models if "allowed_models" in command.fields else grant.models,
        networks=new.networks if "allowed_networks" in command.fields else grant.networks,
        expire_us=new.expire_us if "expire_time" in command.fields else grant.expire_us,
    )


def require_within(grant: Grant, bound: Grant) -> None:
    """Raises PermissionDenied, naming the field, for a grant wider than its bound."""
    field = grant.exceeds(bound)
    if field:
        raise errors.wider_than_minter(field)


def require_change_within(before: Grant, after: Grant, bound: Grant) -> None:
    """Raises PermissionDenied where a change widens a field beyond the bound."""
    # A caller who manages a key wider than its own may still narrow it, field by field.
    for field in _PARTS:
        one = _only(after, field, bound)
        if getattr(after, field) != getattr(before, field) and one.exceeds(_only(before, field, bound)):
            require_within(one, bound)


def _only(grant: Grant, field: str, bound: Grant) -> Grant:
    """The grant in one field, and the bound in all others."""
    values = {name: getattr(bound, name) for name in _PARTS}
    return Grant(**(values | {field: getattr(grant, field)}))


def require_future(expire_us: int | None, now_us: int) -> None:
    """Raises InvalidArgument for a key that would be expired when it is made."""
    if expire_us is not None and expire_us <= now_us:
        raise errors.field_invalid("expire_time", "The key would be expired already.")
