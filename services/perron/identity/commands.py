"""What callers ask identity to do, as values: one command for each request that says more than an id.

`fields` of an update are those that its mask names.
"""

from dataclasses import dataclass

from perron.identity.grants import Grant
from perron.identity.model import Acceptance, OrganizationRole, WorkspaceRole


@dataclass(frozen=True, slots=True)
class CreateKey:
    """Mint a key; empty ids stand for the caller's own, an empty part of the grant for the caller's."""

    workspace_id: str
    owner_member_id: str
    display_name: str
    grant: Grant


@dataclass(frozen=True, slots=True)
class UpdateKey:
    """Change a key; of the grant only the fields named count."""

    key_id: str
    fields: frozenset[str]
    etag: str
    display_name: str
    grant: Grant


@dataclass(frozen=True, slots=True)
class CreatePlatformKey:
    """Mint a key of the installation: with a service's name, or with an operator's roles."""

    display_name: str
    service_name: str
    operator_roles: frozenset[str]
    expire_us: int | None


@dataclass(frozen=True, slots=True)
class CreateOrganization:
    """Create an organization with its first admin, workspace and key."""

    display_name: str
    admin_email: str
    acceptances: tuple[Acceptance, ...]
    permitted_uses: frozenset[str]
    expected_monthly_requests: int


@dataclass(frozen=True, slots=True)
class AddMember:
    """Add a member to a workspace: one the organization has (`member_id`), or a new one."""

    workspace_id: str
    member_id: str
    display_name: str
    email: str
    organization_role: OrganizationRole
    workspace_role: WorkspaceRole


@dataclass(frozen=True, slots=True)
class UpdateMember:
    """Change a member as seen in a workspace; roles are None where the request states none."""

    workspace_id: str
    member_id: str
    fields: frozenset[str]
    etag: str
    display_name: str
    organization_role: OrganizationRole | None
    workspace_role: WorkspaceRole | None
