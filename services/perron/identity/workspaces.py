"""Workspaces: the parts of an organization that keys, records and agents belong to."""

from perron.chassis import tombstones
from perron.chassis.ids import IdSource
from perron.chassis.interceptors.access import Call, Caller
from perron.identity import errors
from perron.identity.model import KeyKind, OrganizationRole, Workspace, WorkspaceRole
from perron.identity.store import Store


class Workspaces:
    """Making, showing and deleting workspaces."""

    def __init__(self, ids: IdSource) -> None:
        self._ids = ids

    def create(self, store: Store, call: Call, display_name: str) -> Workspace:
        """Creates a workspace in the caller's organization, with the caller as its first member."""
        workspace_id = self._ids("ws")
        earlier = store.once(call, workspace_id)
        if earlier is not None:
            return store.workspace(earlier)
        caller = call.caller
        store.refuse_buried(caller.organization_id)
        workspace = Workspace(workspace_id, caller.organization_id, display_name, store.now_us(), 1)
        store.add_workspace(workspace)
        store.add_membership(workspace_id, caller.member_id, WorkspaceRole.ADMIN)
        store.audit(call, workspace_id, caller.organization_id)
        store.publish(
            "workspace.created", organization_id=caller.organization_id, workspace_id=workspace_id, version=1
        )
        return workspace

    def get(self, store: Store, caller: Caller, workspace_id: str) -> Workspace:
        """Returns a workspace that the caller may see."""
        return visible(store.workspace(workspace_id), caller)

    def list(
        self, store: Store, caller: Caller, organization_id: str, after: str, limit: int
    ) -> list[Workspace]:
        """Returns workspaces that the caller may see, in the order of their ids."""
        if str(caller.kind) != KeyKind.CUSTOMER:
            store.organization(organization_id)
            return store.workspaces(organization_id, after, limit)
        if organization_id not in {"", caller.organization_id}:
            raise errors.not_found("organization")
        if sees_all(caller):
            return store.workspaces(caller.organization_id, after, limit)
        return [] if after >= caller.workspace_id else [store.workspace(caller.workspace_id)]

    def delete(self, store: Store, call: Call, workspace_id: str) -> None:
        """Deletes a workspace for good; from the commit on nothing is written for it."""
        if store.once(call, workspace_id) is not None:
            return
        workspace = visible(store.workspace(workspace_id), call.caller)
        # Waits for writers that found it alive, and is seen by all that come later.
        tombstones.bury(store.tx, organization_id=workspace.organization_id, workspace_id=workspace_id)
        store.delete_workspace(workspace_id)
        store.audit(call, workspace_id, workspace.organization_id)
        store.publish(
            "workspace.deleted",
            organization_id=workspace.organization_id,
            workspace_id=workspace_id,
            version=workspace.version + 1,
        )


def sees_all(caller: Caller) -> bool:
    """Says whether the caller sees every workspace of its organization, or is no customer."""
    return str(caller.kind) != KeyKind.CUSTOMER or caller.organization_role in {
        OrganizationRole.ADMIN,
        OrganizationRole.AUDITOR,
    }


def visible(workspace: Workspace, caller: Caller) -> Workspace:
    """Returns the workspace if the caller may see it; raises NotFound."""
    own = str(caller.kind) != KeyKind.CUSTOMER or workspace.organization_id == caller.organization_id
    if own and (sees_all(caller) or workspace.workspace_id == caller.workspace_id):
        return workspace
    raise errors.not_found("workspace")
