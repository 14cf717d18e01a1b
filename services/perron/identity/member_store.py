"""Workspaces, members and who belongs where, as rows."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, Select, and_, case, delete, func, insert, literal, null, or_, select, update
from sqlalchemy.exc import IntegrityError

from perron.chassis.mutations import Mutations
from perron.identity import errors
from perron.identity.model import Member, OrganizationRole, Workspace, WorkspaceRole
from perron.identity.tables import members, memberships, workspaces


class MemberStore(Mutations):
    """The rows of workspaces and members."""

    def add_workspace(self, workspace: Workspace) -> None:
        """Writes a new workspace."""
        self.tx.execute(
            insert(workspaces),
            {
                "workspace_id": workspace.workspace_id,
                "organization_id": workspace.organization_id,
                "display_name": workspace.display_name,
                "create_time": workspace.create_us,
                "version": workspace.version,
            },
        )

    def workspace(self, workspace_id: str) -> Workspace:
        """Reads a workspace."""
        row = self.tx.execute(
            select(workspaces).where(workspaces.c.workspace_id == workspace_id)
        ).one_or_none()
        if row is None:
            raise errors.not_found("workspace")
        return _workspace(row)

    def workspaces(self, organization_id: str, after: str, limit: int) -> list[Workspace]:
        """Reads an organization's workspaces in the order of their ids."""
        rows = self.tx.execute(
            select(workspaces)
            .where(workspaces.c.organization_id == organization_id, workspaces.c.workspace_id > after)
            .order_by(workspaces.c.workspace_id)
            .limit(limit)
        )
        return [_workspace(row) for row in rows]

    def delete_workspace(self, workspace_id: str) -> None:
        """Deletes a workspace and its memberships."""
        self.tx.execute(delete(workspaces).where(workspaces.c.workspace_id == workspace_id))

    def add_member(self, member: Member) -> None:
        """Writes a new member. Raises AlreadyExists where the organization has the e-mail address."""
        try:
            self.tx.execute(
                insert(members),
                {
                    "member_id": member.member_id,
                    "organization_id": member.organization_id,
                    "display_name": member.display_name,
                    "email": member.email or None,
                    "organization_role": str(member.organization_role),
                    "create_time": member.create_us,
                    "version": member.version,
                },
            )
        except IntegrityError:
            raise errors.member_exists() from None

    def add_membership(self, workspace_id: str, member_id: str, role: WorkspaceRole) -> None:
        """Adds a member to a workspace. Raises AlreadyExists where it is there already."""
        try:
            self.tx.execute(
                insert(memberships),
                {"workspace_id": workspace_id, "member_id": member_id, "workspace_role": str(role)},
            )
        except IntegrityError:
            raise errors.member_exists() from None

    def member(self, organization_id: str, member_id: str) -> Member:
        """Reads a member of an organization."""
        query = _IN_ORGANIZATION.where(
            members.c.organization_id == organization_id, members.c.member_id == member_id
        )
        return self._one(query)

    def member_in(self, workspace_id: str, member_id: str) -> Member:
        """Reads a member as seen in a workspace that it was added to."""
        return self._one(_in_workspace(workspace_id).where(members.c.member_id == member_id))

    def members(self, organization_id: str, workspace_id: str, after: str, limit: int) -> list[Member]:
        """Reads the members of a workspace, or (empty) of the organization, in the order of their ids."""
        query = (
            _in_workspace(workspace_id)
            if workspace_id
            else _IN_ORGANIZATION.where(members.c.organization_id == organization_id)
        )
        rows = self.tx.execute(
            query.where(members.c.member_id > after).order_by(members.c.member_id).limit(limit)
        )
        return [_member(row) for row in rows]

    def members_in(self, workspace_ids: Sequence[str], member_ids: Sequence[str]) -> list[Member]:
        """Reads who of these members acts in which of these workspaces, for many questions at once."""
        joined = and_(
            memberships.c.workspace_id == workspaces.c.workspace_id,
            memberships.c.member_id == members.c.member_id,
        )
        is_admin = members.c.organization_role == str(OrganizationRole.ADMIN)
        role = case((is_admin, str(WorkspaceRole.ADMIN)), else_=memberships.c.workspace_role)
        query = (
            select(members, workspaces.c.workspace_id, role.label("workspace_role"))
            .join(workspaces, workspaces.c.organization_id == members.c.organization_id)
            .outerjoin(memberships, joined)
            .where(
                workspaces.c.workspace_id.in_(workspace_ids),
                members.c.member_id.in_(member_ids),
                or_(is_admin, memberships.c.member_id.is_not(None)),
            )
        )
        return [_member(row) for row in self.tx.execute(query)]

    def update_member(
        self, member: Member, display_name: str, role: OrganizationRole, workspace_role: WorkspaceRole | None
    ) -> None:
        """Changes a member, and its role in the workspace in which it is seen."""
        self.tx.execute(
            update(members)
            .where(members.c.member_id == member.member_id)
            .values(display_name=display_name, organization_role=str(role), version=members.c.version + 1)
        )
        if member.workspace_id and workspace_role is not None:
            self.tx.execute(
                update(memberships)
                .where(
                    memberships.c.workspace_id == member.workspace_id,
                    memberships.c.member_id == member.member_id,
                )
                .values(workspace_role=str(workspace_role))
            )

    def remove_membership(self, workspace_id: str, member_id: str) -> None:
        """Takes a member out of a workspace."""
        self.tx.execute(
            delete(memberships).where(
                memberships.c.workspace_id == workspace_id, memberships.c.member_id == member_id
            )
        )

    def remove_member(self, member_id: str) -> None:
        """Takes a member out of the organization and all its workspaces."""
        self.tx.execute(delete(members).where(members.c.member_id == member_id))

    def admins(self, organization_id: str) -> int:
        """Counts the organization's ADMINs."""
        query = select(func.count()).where(
            members.c.organization_id == organization_id,
            members.c.organization_role == str(OrganizationRole.ADMIN),
        )
        return int(self.tx.execute(query).scalar_one())

    def _one(self, query: Select[Any]) -> Member:
        row = self.tx.execute(query).one_or_none()
        if row is None:
            raise errors.not_found("member")
        return _member(row)


_IN_ORGANIZATION = select(members, literal("").label("workspace_id"), null().label("workspace_role"))


def _in_workspace(workspace_id: str) -> Select[Any]:
    return (
        select(members, memberships.c.workspace_id, memberships.c.workspace_role)
        .join(memberships, memberships.c.member_id == members.c.member_id)
        .where(memberships.c.workspace_id == workspace_id)
    )


def _workspace(row: Row[Any]) -> Workspace:
    return Workspace(row.workspace_id, row.organization_id, row.display_name, row.create_time, row.version)


def _member(row: Row[Any]) -> Member:
    return Member(
        member_id=row.member_id,
        organization_id=row.organization_id,
        display_name=row.display_name,
        email=row.email or "",
        organization_role=OrganizationRole(row.organization_role),
        create_us=row.create_time,
        version=row.version,
        workspace_id=row.workspace_id,
        workspace_role=WorkspaceRole(row.workspace_role) if row.workspace_role else None,
    )
