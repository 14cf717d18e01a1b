from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from perron.api.common.v1 import audit_service_pb2, error_reason_pb2, roles_pb2
from perron.api.identity.v1 import api_key_pb2 as pb
from perron.api.identity.v1 import principal_pb2, workspace_pb2
from perron.chassis.testing import BOTH
from tests.contract.identity.conftest import Identity, Tenant

INFERENCE = [roles_pb2.SCOPE_INFERENCE]
NOWHERE = "key_00000000000000000000000000"


async def member(
    identity: Identity, tenant: Tenant, workspace_role: Any = roles_pb2.WORKSPACE_ROLE_MEMBER, **fields: Any
) -> tuple[str, Any]:
    """Adds a member to the tenant's workspace; returns its id and a key of its own with every scope."""
    added = await identity.call(
        identity.workspaces.AddMember,
        workspace_pb2.AddMemberRequest(
            workspace_id=tenant.workspace_id,
            member={"display_name": "Bob", **fields},
            workspace_role=workspace_role,
        ),
        tenant.secret,
    )
    key = await identity.mint(tenant.secret, owner_member_id=added.member.member_id)
    return added.member.member_id, key


def update(key_id: str, *paths: str, **fields: Any) -> Any:
    return pb.UpdateApiKeyRequest(key_id=key_id, update_mask={"paths": paths}, **fields)


@pytest.mark.parametrize("identity", BOTH, indirect=True)
async def test_a_secret_is_shown_once_and_not_again_to_a_retry(identity: Identity) -> None:
    tenant = await identity.tenant()
    request_id = str(uuid4())
    first = await identity.mint(tenant.secret, request_id=request_id)
    again = await identity.mint(tenant.secret, request_id=request_id)
    assert first.secret
    assert first.secret_reason == error_reason_pb2.ERROR_REASON_UNSPECIFIED
    assert again.key == first.key
    assert not again.secret
    assert again.secret_reason == error_reason_pb2.ERROR_REASON_SECRET_ALREADY_SHOWN
    listed = await identity.call(identity.keys.ListApiKeys, pb.ListApiKeysRequest(), tenant.secret)
    assert len(listed.keys) == 2
    refusal = await identity.refusal(
        identity.keys.CreateApiKey,
        pb.CreateApiKeyRequest(request_id=request_id, display_name="other", scopes=INFERENCE),
        tenant.secret,
    )
    assert (refusal.code, refusal.reason) == ("INVALID_ARGUMENT", "REQUEST_ID_REUSED")


async def test_a_secret_is_in_no_file_of_the_service(identity: Identity) -> None:
    tenant = await identity.tenant()
    child = await identity.mint(tenant.secret, request_id=str(uuid4()))
    searched = [path for path in identity.folder.rglob("*") if path.is_file()]
    needles = [
        (secret[9:52].encode(), secret.encode().hex().encode()) for secret in (tenant.secret, child.secret)
    ]
    assert any(
        identity.operator[9:52].encode() in path.read_bytes() for path in searched
    )  # the searcher finds
    for path in searched:
        content = path.read_bytes()
        assert not any(needle in content for pair in needles for needle in pair), path.name


async def test_a_key_is_never_wider_than_its_minter(identity: Identity) -> None:
    tenant = await identity.tenant()
    soon = identity.clock.now() + timedelta(hours=1)
    parent = await identity.mint(
        tenant.secret,
        scopes=[roles_pb2.SCOPE_INFERENCE, roles_pb2.SCOPE_KEYS_WRITE],
        allowed_models=["small"],
        allowed_networks=["127.0.0.0/8"],
        expire_time=soon,
    )
    wider: dict[str, dict[str, Any]] = {
        "scopes": {"scopes": [roles_pb2.SCOPE_KEYS_READ]},
        "allowed_models": {"allowed_models": ["large"]},
        "allowed_networks": {"allowed_networks": ["0.0.0.0/0"]},
        "expire_time": {"expire_time": soon + timedelta(seconds=1)},
    }
    for field, fields in wider.items():
        values = {"display_name": "wide", "scopes": INFERENCE} | fields
        refusal = await identity.refusal(
            identity.keys.CreateApiKey, pb.CreateApiKeyRequest(**values), parent.secret
        )
        assert (refusal.code, refusal.reason) == ("PERMISSION_DENIED", "KEY_WIDER_THAN_MINTER")
        assert refusal.violations[0].field == field
        refusal = await identity.refusal(
            identity.keys.UpdateApiKey, update(parent.key.key_id, field, **fields), parent.secret
        )
        assert refusal.reason == "KEY_WIDER_THAN_MINTER"
    child = await identity.mint(parent.secret, scopes=INFERENCE)
    assert list(child.key.allowed_models) == ["small"]
    assert child.key.expire_time == parent.key.expire_time
    assert list(child.key.ancestor_key_ids) == [tenant.key_id, parent.key.key_id]


async def test_an_update_changes_what_its_mask_names_and_nothing_else(identity: Identity) -> None:
    tenant = await identity.tenant()
    child = await identity.mint(tenant.secret)
    changed = await identity.call(
        identity.keys.UpdateApiKey,
        update(
            child.key.key_id, "display_name", display_name="renamed", etag=child.key.etag, scopes=INFERENCE
        ),
        tenant.secret,
    )
    assert changed.key.display_name == "renamed"
    assert changed.key.scopes == child.key.scopes
    refusal = await identity.refusal(
        identity.keys.UpdateApiKey,
        update(child.key.key_id, "display_name", display_name="again", etag=child.key.etag),
        tenant.secret,
    )
    assert (refusal.code, refusal.reason) == ("ABORTED", "ETAG_STALE")


async def test_a_mask_that_names_what_cannot_change_is_refused(identity: Identity) -> None:
    tenant = await identity.tenant()
    for paths in (
        (),
        ("key_id",),
        ("state",),
        ("nonsense",),
        ("display_name", "create_time"),
        ("display_name",),
    ):
        refusal = await identity.refusal(
            identity.keys.UpdateApiKey, update(tenant.key_id, *paths), tenant.secret
        )
        assert (refusal.code, refusal.reason) == ("INVALID_ARGUMENT", "FIELD_INVALID"), paths


async def test_a_revoked_key_stays_as_it_is(identity: Identity) -> None:
    tenant = await identity.tenant()
    child = await identity.mint(tenant.secret)
    request = pb.RevokeApiKeyRequest(key_id=child.key.key_id)
    revoked = await identity.call(identity.keys.RevokeApiKey, request, tenant.secret)
    assert revoked.key.state == pb.API_KEY_STATE_REVOKED
    identity.advance(seconds=1)
    again = await identity.call(identity.keys.RevokeApiKey, request, tenant.secret)
    assert again.key.revoke_time == revoked.key.revoke_time
    refusal = await identity.refusal(
        identity.keys.UpdateApiKey, update(child.key.key_id, "display_name", display_name="x"), tenant.secret
    )
    assert (refusal.code, refusal.reason) == ("FAILED_PRECONDITION", "KEY_REVOKED")


async def test_another_tenants_key_reads_as_one_that_does_not_exist(identity: Identity) -> None:
    one, other = await identity.tenant(), await identity.tenant()
    for method, request in (
        (identity.keys.GetApiKey, pb.GetApiKeyRequest),
        (identity.keys.RevokeApiKey, pb.RevokeApiKeyRequest),
        (identity.keys.UpdateApiKey, lambda key_id: update(key_id, "display_name", display_name="x")),
    ):
        theirs = await identity.refusal(method, request(key_id=other.key_id), one.secret)
        nobodys = await identity.refusal(method, request(key_id=NOWHERE), one.secret)
        assert (theirs.code, theirs.reason) == ("NOT_FOUND", "RESOURCE_NOT_FOUND")
        assert theirs.message == nobodys.message
    theirs = await identity.refusal(
        identity.keys.ListApiKeys, pb.ListApiKeysRequest(workspace_id=other.workspace_id), one.secret
    )
    assert theirs.code == "NOT_FOUND"
    theirs = await identity.refusal(
        identity.keys.CreateApiKey,
        pb.CreateApiKeyRequest(display_name="x", scopes=INFERENCE, workspace_id=other.workspace_id),
        one.secret,
    )
    assert theirs.code == "NOT_FOUND"
    assert await identity.state(other.secret) == "VALID"


async def test_members_manage_their_own_keys_and_see_no_others(identity: Identity) -> None:
    tenant = await identity.tenant()
    member_id, key = await member(identity, tenant)
    own = await identity.mint(key.secret, scopes=INFERENCE)
    assert own.key.owner_member_id == member_id
    listed = await identity.call(identity.keys.ListApiKeys, pb.ListApiKeysRequest(), key.secret)
    assert {each.key_id for each in listed.keys} == {key.key.key_id, own.key.key_id}
    refusal = await identity.refusal(
        identity.keys.GetApiKey, pb.GetApiKeyRequest(key_id=tenant.key_id), key.secret
    )
    assert refusal.code == "NOT_FOUND"
    refusal = await identity.refusal(
        identity.keys.CreateApiKey,
        pb.CreateApiKeyRequest(display_name="x", scopes=INFERENCE, owner_member_id=tenant.member_id),
        key.secret,
    )
    assert (refusal.code, refusal.reason) == ("PERMISSION_DENIED", "ROLE_MISSING")
    await identity.call(identity.keys.RevokeApiKey, pb.RevokeApiKeyRequest(key_id=own.key.key_id), key.secret)
    assert await identity.state(own.secret) == "REVOKED"


async def test_a_workspace_admin_mints_for_plain_members_but_not_for_organization_admins(
    identity: Identity,
) -> None:
    tenant = await identity.tenant()
    _, manager = await member(identity, tenant, roles_pb2.WORKSPACE_ROLE_ADMIN)
    plain_id, plain = await member(identity, tenant)
    minted = await identity.mint(manager.secret, owner_member_id=plain_id)
    assert (await identity.verify(minted.secret)).principal.member_id == plain_id
    refusal = await identity.refusal(
        identity.keys.CreateApiKey,
        pb.CreateApiKeyRequest(display_name="x", scopes=INFERENCE, owner_member_id=tenant.member_id),
        manager.secret,
    )
    assert (refusal.code, refusal.reason) == ("PERMISSION_DENIED", "ROLE_MISSING")
    await identity.call(
        identity.keys.RevokeApiKey, pb.RevokeApiKeyRequest(key_id=plain.key.key_id), manager.secret
    )
    assert await identity.state(plain.secret) == "REVOKED"


async def test_an_auditor_reads_all_keys_and_changes_none_but_its_own(identity: Identity) -> None:
    tenant = await identity.tenant()
    _, auditor = await member(identity, tenant, organization_role=roles_pb2.ORGANIZATION_ROLE_AUDITOR)
    listed = await identity.call(identity.keys.ListApiKeys, pb.ListApiKeysRequest(), auditor.secret)
    assert tenant.key_id in {each.key_id for each in listed.keys}
    refusal = await identity.refusal(
        identity.keys.RevokeApiKey, pb.RevokeApiKeyRequest(key_id=tenant.key_id), auditor.secret
    )
    assert (refusal.code, refusal.reason) == ("PERMISSION_DENIED", "ROLE_MISSING")


async def test_an_owner_must_belong_to_the_workspace(identity: Identity) -> None:
    tenant = await identity.tenant()
    refusal = await identity.refusal(
        identity.keys.CreateApiKey,
        pb.CreateApiKeyRequest(
            display_name="x", scopes=INFERENCE, owner_member_id="mem_00000000000000000000000000"
        ),
        tenant.secret,
    )
    assert (refusal.code, refusal.reason) == ("FAILED_PRECONDITION", "OWNER_NOT_MEMBER")


async def test_a_fifth_ancestor_is_refused(identity: Identity) -> None:
    secret = (await identity.tenant()).secret
    for _ in range(4):
        secret = (await identity.mint(secret)).secret
    refusal = await identity.refusal(
        identity.keys.CreateApiKey, pb.CreateApiKeyRequest(display_name="x", scopes=INFERENCE), secret
    )
    assert (refusal.code, refusal.reason) == ("FAILED_PRECONDITION", "KEY_ANCESTRY_TOO_DEEP")


async def test_an_inference_key_manages_no_keys(identity: Identity) -> None:
    tenant = await identity.tenant()
    child = await identity.mint(tenant.secret, scopes=INFERENCE)
    refusal = await identity.refusal(identity.keys.ListApiKeys, pb.ListApiKeysRequest(), child.secret)
    assert (refusal.code, refusal.reason) == ("PERMISSION_DENIED", "SCOPE_MISSING")
    assert refusal.metadata["scope"] == "KEYS_READ"


async def test_a_key_that_would_be_expired_or_misshapen_is_refused(identity: Identity) -> None:
    tenant = await identity.tenant()
    for fields in (
        {"expire_time": identity.clock.now()},
        {"expire_time": Timestamp(seconds=-1)},
        {"expire_time": Timestamp(seconds=253370764800)},
        {"display_name": ""},
        {"display_name": "a\nb"},
        {"display_name": "x" * 121},
        {"scopes": []},
        {"scopes": [99]},
        {"scopes": INFERENCE * 2},
        {"allowed_models": ["../etc"]},
        {"allowed_networks": ["10.0.0.1/8"]},
        {"allowed_networks": ["10.0.0.0"]},
        {"workspace_id": "ws_../../etc"},
        {"request_id": "00000000-0000-0000-0000-000000000000"},
        {"request_id": "nonsense"},
    ):
        values = {"display_name": "x", "scopes": INFERENCE} | fields
        refusal = await identity.refusal(
            identity.keys.CreateApiKey, pb.CreateApiKeyRequest(**values), tenant.secret
        )
        assert (refusal.code, refusal.reason) == ("INVALID_ARGUMENT", "FIELD_INVALID"), fields


async def test_pages_of_keys_are_whole_and_their_tokens_bound_to_caller_and_filter(
    identity: Identity,
) -> None:
    tenant, other = await identity.tenant(), await identity.tenant()
    made = [tenant.key_id, *[(await identity.mint(tenant.secret)).key.key_id for _ in range(4)]]
    seen, token = [], ""
    while True:
        request = pb.ListApiKeysRequest(page_size=2, page_token=token)
        page = await identity.call(identity.keys.ListApiKeys, request, tenant.secret)
        seen += [key.key_id for key in page.keys]
        token = page.next_page_token
        if not token:
            break
        last = token
    assert seen == made
    for request, key in (
        (pb.ListApiKeysRequest(page_token="x"), tenant.secret),
        (pb.ListApiKeysRequest(page_token=last), other.secret),
        (pb.ListApiKeysRequest(page_token=last, workspace_id=tenant.workspace_id), tenant.secret),
    ):
        refusal = await identity.refusal(identity.keys.ListApiKeys, request, key)
        assert (refusal.code, refusal.reason) == ("INVALID_ARGUMENT", "PAGE_TOKEN_INVALID")
    refusal = await identity.refusal(
        identity.keys.ListApiKeys, pb.ListApiKeysRequest(page_size=-1), tenant.secret
    )
    assert refusal.reason == "FIELD_INVALID"
    page = await identity.call(
        identity.keys.ListApiKeys, pb.ListApiKeysRequest(page_size=10**9), tenant.secret
    )
    assert len(page.keys) == 5


async def test_platform_keys_are_for_operators_alone_and_outlive_their_maker(identity: Identity) -> None:
    created = await identity.call(
        identity.keys.CreatePlatformKey,
        pb.CreatePlatformKeyRequest(
            display_name="biller", operator={"roles": [roles_pb2.OPERATOR_ROLE_BILLING]}
        ),
        identity.operator,
    )
    principal = (await identity.verify(created.secret)).principal
    assert principal.kind == principal_pb2.PRINCIPAL_KIND_OPERATOR
    assert list(principal.operator_roles) == [roles_pb2.OPERATOR_ROLE_BILLING]
    request = pb.CreatePlatformKeyRequest(display_name="x", service={"name": "quotas"})
    refusal = await identity.refusal(identity.keys.CreatePlatformKey, request, created.secret)
    assert (refusal.code, refusal.reason) == ("PERMISSION_DENIED", "ROLE_MISSING")
    refusal = await identity.refusal(
        identity.keys.CreatePlatformKey, request, (await identity.tenant()).secret
    )
    assert refusal.reason == "CALLER_NOT_ALLOWED"
    refusal = await identity.refusal(
        identity.keys.CreatePlatformKey, pb.CreatePlatformKeyRequest(display_name="x"), identity.operator
    )
    assert refusal.reason == "FIELD_INVALID"
    listed = await identity.call(identity.keys.ListApiKeys, pb.ListApiKeysRequest(), identity.operator)
    assert {key.display_name for key in listed.keys} == {"bootstrap", "admission", "biller"}
    bootstrap = next(key for key in listed.keys if key.display_name == "bootstrap")
    await identity.call(
        identity.keys.RevokeApiKey, pb.RevokeApiKeyRequest(key_id=bootstrap.key_id), identity.operator
    )
    assert await identity.state(identity.operator) == "REVOKED"
    assert await identity.state(created.secret) == "VALID"


async def test_a_mutation_is_audited_with_who_and_what_and_without_its_secret(identity: Identity) -> None:
    tenant = await identity.tenant()
    child = await identity.mint(tenant.secret)
    listed = await identity.call(
        identity.audit.ListAuditEntries, audit_service_pb2.ListAuditEntriesRequest(), tenant.secret
    )
    entry = listed.entries[0]
    assert entry.method == "perron.api.identity.v1.ApiKeyService/CreateApiKey"
    assert (entry.key_id, entry.resource_id) == (tenant.key_id, child.key.key_id)
    assert entry.result == "OK"
    assert child.secret not in str(listed)
