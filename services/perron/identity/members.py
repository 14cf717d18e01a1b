"""Members: the authorized users of an organization and its workspaces.

Roles are read at every Verify, so a removal or a demotion holds at the member's next call and reaches every
key that it minted. A workspace ADMIN manages plain members of its workspace; whoever has a role in the
organization is managed by an organization ADMIN alone.
"""

from collections.abc import Sequence
from typing import Final

from perron.chassis.errors import NotFound
from perron.chassis.ids import IdSource
from perron.chassis.interceptors.access import Call, Caller
from perron.identity import errors
from perron.identity.commands import AddMember, UpdateMember
from perron.identity.keys import etag
from perron.identity.model import KeyKind, Member, OrganizationRole, Workspace
from perron.identity.store import Store
from perron.identity.workspaces import sees_all, visible

MUTABLE: Final = ("display_name", "organization_role", "workspace_role")


class Members:
    """Adding, showing, changing and removing members."""

    def __init__(self, ids: IdSource) -> None:
        self._ids = ids

    def add(self, store: Store, call: Call, command: AddMember) -> Member:
        """Adds a member to a workspace. Raises as AddMember documents."""
        member_id = command.member_id or self._ids("mem")
        earlier = store.once(call, member_id)
        if earlier is not None:
            return store.member_in(command.workspace_id, earlier)
        workspace = _managed(store, call.caller, command.workspace_id)
        organization_id = workspace.organization_id
        store.refuse_buried(organization_id, workspace.workspace_id)
        if command.member_id:
            store.member(organization_id, member_id)
        else:
            if command.organization_role is not OrganizationRole.MEMBER and not _is_admin(call.caller):
                raise errors.role_missing("give a role in the organization")
            store.add_member(
                Member(
                    member_id=member_id,
                    organization_id=organization_id,
                    display_name=command.display_name,
                    email=command.email,
                    organization_role=command.organization_role,
                    create_us=store.now_us(),
                    version=1,
                )
            )
        store.add_membership(workspace.workspace_id, member_id, command.workspace_role)
        added = store.member_in(workspace.workspace_id, member_id)
        self._done(store, call, "member.added", added)
        return added

    def list(
        self, store: Store, caller: Caller, workspace_id: str, organization_id: str, after: str, limit: int
    ) -> list[Member]:
        """Returns the members of a workspace or, where none is named, of the organization."""
        if workspace_id:
            workspace = visible(store.workspace(workspace_id), caller)
            if organization_id not in {"", workspace.organization_id}:
                raise errors.not_found("organization")
            return store.members(workspace.organization_id, workspace_id, after, limit)
        if not sees_all(caller):
            raise errors.role_missing("list the members of the whole organization")
        if str(caller.kind) == KeyKind.CUSTOMER:
            if organization_id not in {"", caller.organization_id}:
                raise errors.not_found("organization")
            organization_id = caller.organization_id
        store.organization(organization_id)
        return store.members(organization_id, "", after, limit)

    def update(self, store: Store, call: Call, command: UpdateMember) -> Member:
        """Changes the fields named. Raises as UpdateMember documents."""
        earlier = store.once(call, command.member_id)
        if earlier is not None:
            return store.member_in(command.workspace_id, earlier)
        _require_fields(command)
        workspace = _managed(store, call.caller, command.workspace_id)
        store.organization(workspace.organization_id, lock=True)
        store.refuse_buried(workspace.organization_id, workspace.workspace_id)
        member = store.member_in(workspace.workspace_id, command.member_id)
        _require_manageable(call.caller, member)
        if command.etag and command.etag != etag(member.version):
            raise errors.etag_stale()
        role = command.organization_role if "organization_role" in command.fields else None
        if role is not None and role is not member.organization_role:
            if not _is_admin(call.caller):
                raise errors.role_missing("change a role in the organization")
            _require_another_admin(store, member)
        store.update_member(
            member,
            command.display_name if "display_name" in command.fields else member.display_name,
            role or member.organization_role,
            command.workspace_role if "workspace_role" in command.fields else None,
        )
        changed = store.member_in(workspace.workspace_id, member.member_id)
        self._done(store, call, "member.updated", changed)
        return changed

    def remove(self, store: Store, call: Call, member_id: str, workspace_id: str) -> None:
        """Removes a member from a workspace, or (empty) the organization, as RemoveMember documents."""
        if store.once(call, member_id) is not None:
            return
        caller = call.caller
        if not workspace_id:
            if not _is_admin(caller):
                raise errors.role_missing("remove members from the organization")
            store.organization(caller.organization_id, lock=True)
            member = store.member(caller.organization_id, member_id)
            _require_another_admin(store, member)
            store.remove_member(member_id)
        else:
            workspace = _managed(store, caller, workspace_id)
            store.organization(workspace.organization_id, lock=True)
            member = store.member_in(workspace_id, member_id)
            _require_manageable(caller, member)
            store.remove_membership(workspace_id, member_id)
            # Its keys stay dead should it be added again; an ADMIN belongs to every workspace all the same.
            if member.organization_role is not OrganizationRole.ADMIN:
                store.revoke_keys_of(workspace_id, member_id, store.now_us())
        self._done(store, call, "member.removed", member)

    def find(self, store: Store, questions: Sequence[tuple[str, str, str]]) -> Sequence[Member | NotFound]:
        """Answers (organization, workspace, member) questions, each by itself, from one snapshot."""
        found = {
            (member.organization_id, member.workspace_id, member.member_id): member
            for member in store.members_in(
                sorted({workspace_id for _, workspace_id, _ in questions}),
                sorted({member_id for _, _, member_id in questions}),
            )
        }
        return [found.get(question) or errors.not_found("member") for question in questions]

    @staticmethod
    def _done(store: Store, call: Call, kind: str, member: Member) -> None:
        store.audit(call, member.member_id, member.organization_id)
        store.publish(
            kind,
            organization_id=member.organization_id,
            workspace_id=member.workspace_id,
            resource_id=member.member_id,
            version=member.version,
        )


def _is_admin(caller: Caller) -> bool:
    return caller.organization_role == OrganizationRole.ADMIN


def _managed(store: Store, caller: Caller, workspace_id: str) -> Workspace:
    """Returns a workspace whose members the caller, an ADMIN by the contract, manages."""
    workspace = visible(store.workspace(workspace_id), caller)
    if not _is_admin(caller) and workspace_id != caller.workspace_id:
        raise errors.role_missing("manage members of another workspace")
    return workspace


def _require_manageable(caller: Caller, member: Member) -> None:
    if member.organization_role is not OrganizationRole.MEMBER and not _is_admin(caller):
        raise errors.role_missing("manage members with a role in the organization")


def _require_another_admin(store: Store, member: Member) -> None:
    if member.organization_role is OrganizationRole.ADMIN and store.admins(member.organization_id) < 2:
        raise errors.last_admin()


def _require_fields(command: UpdateMember) -> None:
    if not command.fields or not command.fields <= set(MUTABLE):
        raise errors.mask_invalid(", ".join(MUTABLE))
    for name in MUTABLE:
        if name in command.fields and not getattr(command, name):
            raise errors.field_invalid(name, "A value is required where the mask names the field.")
