import asyncio
from typing import Any

import pytest

from perron.api.common.v1 import roles_pb2
from perron.api.identity.v1 import api_key_pb2
from perron.api.identity.v1 import workspace_pb2 as pb
from perron.chassis.testing import BOTH
from tests.contract.identity.conftest import Identity, Tenant

NO_WORKSPACE = "ws_00000000000000000000000000"
NO_MEMBER = "mem_00000000000000000000000000"
MEMBER, ADMIN = roles_pb2.WORKSPACE_ROLE_MEMBER, roles_pb2.WORKSPACE_ROLE_ADMIN


async def workspace(identity: Identity, tenant: Tenant, name: str = "second") -> Any:
    made = await identity.call(
        identity.workspaces.CreateWorkspace, pb.CreateWorkspaceRequest(display_name=name), tenant.secret
    )
    return made.workspace


def adding(workspace_id: str, role: Any = MEMBER, **member: Any) -> Any:
    values = {"display_name": "Bob"} | member
    return pb.AddMemberRequest(workspace_id=workspace_id, member=values, workspace_role=role)


async def add(identity: Identity, tenant: Tenant, role: Any = MEMBER, **member: Any) -> Any:
    added = await identity.call(
        identity.workspaces.AddMember, adding(tenant.workspace_id, role, **member), tenant.secret
    )
    return added.member


def updating(member: Any, *paths: str, **fields: Any) -> Any:
    return pb.UpdateMemberRequest(
        workspace_id=member.workspace_id, member_id=member.member_id, update_mask={"paths": paths}, **fields
    )


@pytest.mark.parametrize("identity", BOTH, indirect=True)
async def test_a_workspace_is_made_listed_and_deleted_for_good(identity: Identity) -> None:
    tenant = await identity.tenant()
    made = await workspace(identity, tenant)
    request = pb.GetWorkspaceRequest(workspace_id=made.workspace_id)
    assert (await identity.call(identity.workspaces.GetWorkspace, request, tenant.secret)).workspace == made
    listed = await identity.call(
        identity.workspaces.ListWorkspaces, pb.ListWorkspacesRequest(), tenant.secret
    )
    assert [each.workspace_id for each in listed.workspaces] == [tenant.workspace_id, made.workspace_id]
    delete = pb.DeleteWorkspaceRequest(workspace_id=made.workspace_id)
    await identity.call(identity.workspaces.DeleteWorkspace, delete, tenant.secret)
    for method, again in (
        (identity.workspaces.GetWorkspace, request),
        (identity.workspaces.DeleteWorkspace, delete),
        (identity.workspaces.AddMember, adding(made.workspace_id)),
    ):
        refusal = await identity.refusal(method, again, tenant.secret)
        assert (refusal.code, refusal.reason) == ("NOT_FOUND", "RESOURCE_NOT_FOUND")


async def test_another_tenants_workspace_reads_as_one_that_does_not_exist(identity: Identity) -> None:
    one, other = await identity.tenant(), await identity.tenant()
    for method, request in (
        (identity.workspaces.GetWorkspace, lambda ws: pb.GetWorkspaceRequest(workspace_id=ws)),
        (identity.workspaces.DeleteWorkspace, lambda ws: pb.DeleteWorkspaceRequest(workspace_id=ws)),
        (identity.workspaces.AddMember, adding),
        (identity.workspaces.ListMembers, lambda ws: pb.ListMembersRequest(workspace_id=ws)),
        (
            identity.workspaces.UpdateMember,
            lambda ws: pb.UpdateMemberRequest(
                workspace_id=ws,
                member_id=other.member_id,
                update_mask={"paths": ["display_name"]},
                display_name="x",
            ),
        ),
        (
            identity.workspaces.RemoveMember,
            lambda ws: pb.RemoveMemberRequest(workspace_id=ws, member_id=other.member_id),
        ),
    ):
        theirs = await identity.refusal(method, request(other.workspace_id), one.secret)
        nobodys = await identity.refusal(method, request(NO_WORKSPACE), one.secret)
        assert (theirs.code, theirs.message) == ("NOT_FOUND", nobodys.message)
    theirs = await identity.refusal(
        identity.workspaces.RemoveMember, pb.RemoveMemberRequest(member_id=other.member_id), one.secret
    )
    assert theirs.code == "NOT_FOUND"
    theirs = await identity.refusal(
        identity.workspaces.ListWorkspaces,
        pb.ListWorkspacesRequest(organization_id=other.organization_id),
        one.secret,
    )
    assert theirs.code == "NOT_FOUND"


async def test_plain_members_see_their_workspace_and_manage_nothing(identity: Identity) -> None:
    tenant = await identity.tenant()
    second = await workspace(identity, tenant)
    bob = await add(identity, tenant)
    key = (await identity.mint(tenant.secret, owner_member_id=bob.member_id)).secret
    listed = await identity.call(identity.workspaces.ListWorkspaces, pb.ListWorkspacesRequest(), key)
    assert [each.workspace_id for each in listed.workspaces] == [tenant.workspace_id]
    refusal = await identity.refusal(
        identity.workspaces.GetWorkspace, pb.GetWorkspaceRequest(workspace_id=second.workspace_id), key
    )
    assert refusal.code == "NOT_FOUND"
    for method, request in (
        (identity.workspaces.CreateWorkspace, pb.CreateWorkspaceRequest(display_name="x")),
        (identity.workspaces.DeleteWorkspace, pb.DeleteWorkspaceRequest(workspace_id=tenant.workspace_id)),
        (identity.workspaces.AddMember, adding(tenant.workspace_id)),
        (identity.workspaces.UpdateMember, updating(bob, "display_name", display_name="x")),
        (identity.workspaces.RemoveMember, pb.RemoveMemberRequest(member_id=tenant.member_id)),
        (identity.workspaces.ListMembers, pb.ListMembersRequest()),
    ):
        refusal = await identity.refusal(method, request, key)
        assert (refusal.code, refusal.reason) == ("PERMISSION_DENIED", "ROLE_MISSING")


async def test_a_workspace_admin_manages_plain_members_of_its_workspace_alone(identity: Identity) -> None:
    tenant = await identity.tenant()
    second = await workspace(identity, tenant)
    manager = await add(identity, tenant, ADMIN)
    auditor = await add(identity, tenant, organization_role=roles_pb2.ORGANIZATION_ROLE_AUDITOR)
    key = (await identity.mint(tenant.secret, owner_member_id=manager.member_id)).secret
    added = await identity.call(identity.workspaces.AddMember, adding(tenant.workspace_id), key)
    changed = await identity.call(
        identity.workspaces.UpdateMember,
        updating(added.member, "workspace_role", workspace_role=ADMIN),
        key,
    )
    assert changed.member.workspace_role == ADMIN
    role = roles_pb2.ORGANIZATION_ROLE_ADMIN
    for method, request in (
        (identity.workspaces.AddMember, adding(tenant.workspace_id, organization_role=role)),
        (
            identity.workspaces.UpdateMember,
            updating(added.member, "organization_role", organization_role=role),
        ),
        (identity.workspaces.UpdateMember, updating(auditor, "display_name", display_name="x")),
        (identity.workspaces.RemoveMember, pb.RemoveMemberRequest(member_id=added.member.member_id)),
        (
            identity.workspaces.RemoveMember,
            pb.RemoveMemberRequest(member_id=auditor.member_id, workspace_id=tenant.workspace_id),
        ),
    ):
        refusal = await identity.refusal(method, request, key)
        assert (refusal.code, refusal.reason) == ("PERMISSION_DENIED", "ROLE_MISSING")
    refusal = await identity.refusal(identity.workspaces.AddMember, adding(second.workspace_id), key)
    assert refusal.code == "NOT_FOUND"


@pytest.mark.parametrize("identity", BOTH, indirect=True)
async def test_a_member_is_added_once_and_an_address_stands_for_one_member(identity: Identity) -> None:
    tenant = await identity.tenant()
    bob = await add(identity, tenant, email="bob@acme.example")
    again = pb.AddMemberRequest(
        workspace_id=tenant.workspace_id, member_id=bob.member_id, workspace_role=MEMBER
    )
    for request in (again, adding(tenant.workspace_id, email="bob@acme.example")):
        refusal = await identity.refusal(identity.workspaces.AddMember, request, tenant.secret)
        assert (refusal.code, refusal.reason) == ("ALREADY_EXISTS", "MEMBER_EXISTS")
    second = await workspace(identity, tenant)
    there = pb.AddMemberRequest(
        workspace_id=second.workspace_id, member_id=bob.member_id, workspace_role=ADMIN
    )
    added = await identity.call(identity.workspaces.AddMember, there, tenant.secret)
    assert (added.member.member_id, added.member.workspace_role) == (bob.member_id, ADMIN)
    other = await identity.tenant()
    await add(identity, other, email="bob@acme.example")
    unknown = pb.AddMemberRequest(
        workspace_id=tenant.workspace_id, member_id=NO_MEMBER, workspace_role=MEMBER
    )
    refusal = await identity.refusal(identity.workspaces.AddMember, unknown, tenant.secret)
    assert refusal.code == "NOT_FOUND"


async def test_an_organization_keeps_an_admin_even_when_two_leave_at_once(identity: Identity) -> None:
    tenant = await identity.tenant()
    leave = pb.RemoveMemberRequest(member_id=tenant.member_id)
    refusal = await identity.refusal(identity.workspaces.RemoveMember, leave, tenant.secret)
    assert (refusal.code, refusal.reason) == ("FAILED_PRECONDITION", "LAST_ADMIN")
    second = await add(identity, tenant, organization_role=roles_pb2.ORGANIZATION_ROLE_ADMIN)
    second_key = (await identity.mint(tenant.secret, owner_member_id=second.member_id)).secret
    outcomes = await asyncio.gather(
        identity.call(identity.workspaces.RemoveMember, leave, tenant.secret),
        identity.call(
            identity.workspaces.RemoveMember, pb.RemoveMemberRequest(member_id=second.member_id), second_key
        ),
        return_exceptions=True,
    )
    assert sum(isinstance(outcome, BaseException) for outcome in outcomes) == 1


async def test_a_change_of_role_holds_at_the_next_call(identity: Identity) -> None:
    tenant = await identity.tenant()
    bob = await add(identity, tenant)
    key = (await identity.mint(tenant.secret, owner_member_id=bob.member_id)).secret
    request = updating(
        bob, "organization_role", etag=bob.etag, organization_role=roles_pb2.ORGANIZATION_ROLE_AUDITOR
    )
    await identity.call(identity.workspaces.UpdateMember, request, tenant.secret)
    principal = (await identity.verify(key)).principal
    assert principal.organization_role == roles_pb2.ORGANIZATION_ROLE_AUDITOR
    refusal = await identity.refusal(identity.workspaces.UpdateMember, request, tenant.secret)
    assert (refusal.code, refusal.reason) == ("ABORTED", "ETAG_STALE")
    for paths in ((), ("email",), ("organization_role",), ("display_name",)):
        refusal = await identity.refusal(
            identity.workspaces.UpdateMember, updating(bob, *paths), tenant.secret
        )
        assert (refusal.code, refusal.reason) == ("INVALID_ARGUMENT", "FIELD_INVALID")


async def test_members_are_listed_by_workspace_and_by_organization(identity: Identity) -> None:
    tenant = await identity.tenant()
    bob = await add(identity, tenant)
    here = await identity.call(
        identity.workspaces.ListMembers,
        pb.ListMembersRequest(workspace_id=tenant.workspace_id),
        tenant.secret,
    )
    assert [each.member_id for each in here.members] == [tenant.member_id, bob.member_id]
    page = await identity.call(
        identity.workspaces.ListMembers, pb.ListMembersRequest(page_size=1), tenant.secret
    )
    rest = await identity.call(
        identity.workspaces.ListMembers,
        pb.ListMembersRequest(page_size=1, page_token=page.next_page_token),
        tenant.secret,
    )
    assert [each.member_id for each in (*page.members, *rest.members)] == [tenant.member_id, bob.member_id]
    everyone = await identity.call(
        identity.workspaces.ListMembers,
        pb.ListMembersRequest(organization_id=tenant.organization_id),
        identity.operator,
    )
    assert len(everyone.members) == 2
    refusal = await identity.refusal(
        identity.workspaces.ListMembers, pb.ListMembersRequest(page_token="x"), tenant.secret
    )
    assert refusal.reason == "PAGE_TOKEN_INVALID"


async def test_members_are_answered_each_by_itself_and_an_admin_is_in_every_workspace(
    identity: Identity,
) -> None:
    tenant, other = await identity.tenant(), await identity.tenant()
    second = await workspace(identity, tenant)
    bob = await add(identity, tenant)

    def item(workspace_id: str, member_id: str, organization_id: str = tenant.organization_id) -> Any:
        return pb.GetMemberItem(
            organization_id=organization_id, workspace_id=workspace_id, member_id=member_id
        )

    response = await identity.call(
        identity.workspaces.BatchGetMembers,
        pb.BatchGetMembersRequest(
            items=[
                item(tenant.workspace_id, bob.member_id),
                item(second.workspace_id, bob.member_id),
                item(second.workspace_id, tenant.member_id),
                item(other.workspace_id, tenant.member_id),
                item(tenant.workspace_id, bob.member_id, other.organization_id),
                item(tenant.workspace_id, "nonsense"),
            ]
        ),
        identity.peer,
    )
    assert [result.error.code for result in response.results] == [0, 5, 0, 5, 5, 3]
    assert response.results[0].response.workspace_role == MEMBER
    assert response.results[2].response.workspace_role == ADMIN
    await identity.call(
        identity.workspaces.RemoveMember, pb.RemoveMemberRequest(member_id=bob.member_id), tenant.secret
    )
    gone = await identity.call(
        identity.workspaces.BatchGetMembers,
        pb.BatchGetMembersRequest(items=[item(tenant.workspace_id, bob.member_id)]),
        identity.peer,
    )
    assert gone.results[0].error.code == 5


async def test_nothing_is_minted_for_a_deleted_workspace(identity: Identity) -> None:
    tenant = await identity.tenant()
    second = await workspace(identity, tenant)
    await identity.call(
        identity.workspaces.DeleteWorkspace,
        pb.DeleteWorkspaceRequest(workspace_id=second.workspace_id),
        tenant.secret,
    )
    refusal = await identity.refusal(
        identity.keys.CreateApiKey,
        api_key_pb2.CreateApiKeyRequest(
            display_name="x", scopes=[roles_pb2.SCOPE_INFERENCE], workspace_id=second.workspace_id
        ),
        tenant.secret,
    )
    assert (refusal.code, refusal.reason) == ("NOT_FOUND", "RESOURCE_NOT_FOUND")
