from datetime import timedelta
from uuid import uuid4

import pytest

from perron.api.common.v1 import roles_pb2
from perron.api.identity.v1 import api_key_pb2 as pb
from perron.api.identity.v1 import workspace_pb2
from perron.chassis.errors import Unauthenticated
from perron.chassis.passports import LIFETIME_SECONDS, UnknownKeyError, Verifier
from perron.chassis.testing import BOTH
from tests.contract.identity.conftest import Identity

UNKNOWN = "prn_live_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"


def mistyped(secret: str) -> str:
    return secret[:-1] + ("A" if secret[-1] != "A" else "B")


@pytest.mark.parametrize("identity", BOTH, indirect=True)
async def test_a_revoked_key_is_refused_at_the_next_call(identity: Identity) -> None:
    tenant = await identity.tenant()
    child = await identity.mint(tenant.secret)
    assert await identity.state(child.secret) == "VALID"
    await identity.call(
        identity.keys.RevokeApiKey, pb.RevokeApiKeyRequest(key_id=child.key.key_id), tenant.secret
    )
    assert await identity.state(child.secret) == "REVOKED"
    refusal = await identity.refusal(identity.keys.ListApiKeys, pb.ListApiKeysRequest(), child.secret)
    assert (refusal.code, refusal.reason) == ("UNAUTHENTICATED", "CREDENTIAL_INVALID")
    assert refusal.metadata["state"] == "REVOKED"


async def test_what_is_no_key_is_malformed_and_what_was_never_given_out_unknown(identity: Identity) -> None:
    from perron.chassis.credentials import with_checksum

    tenant = await identity.tenant()
    for wrong in ("", "x", mistyped(tenant.secret), tenant.secret + " ", "ö" * 200):
        assert await identity.state(wrong) == "MALFORMED"
    assert await identity.state(with_checksum("live", "a" * 43)) == "UNKNOWN"


async def test_a_key_is_refused_from_its_expiry_on(identity: Identity) -> None:
    tenant = await identity.tenant()
    child = await identity.mint(tenant.secret, expire_time=identity.clock.now() + timedelta(seconds=5))
    identity.advance(seconds=4.999)
    assert await identity.state(child.secret) == "VALID"
    identity.advance(seconds=0.001)
    assert await identity.state(child.secret) == "EXPIRED"


async def test_a_required_scope_that_is_missing_is_said_with_the_principal(identity: Identity) -> None:
    tenant = await identity.tenant()
    child = await identity.mint(tenant.secret, scopes=[roles_pb2.SCOPE_INFERENCE])
    response = await identity.verify(
        child.secret, required_scopes=[roles_pb2.SCOPE_KEYS_WRITE], want_passport=True
    )
    assert response.state == pb.KEY_STATE_SCOPE_MISSING
    assert response.principal.key_id == child.key.key_id
    assert not response.passport


async def test_a_key_bound_to_networks_is_refused_elsewhere_and_nowhere(identity: Identity) -> None:
    tenant = await identity.tenant()
    child = await identity.mint(tenant.secret, allowed_networks=["10.0.0.0/8", "2001:db8::/32"])
    assert await identity.state(child.secret, peer_network="10.2.3.4") == "VALID"
    assert await identity.state(child.secret, peer_network="2001:db8::1") == "VALID"
    assert await identity.state(child.secret, peer_network="192.0.2.1") == "NETWORK_NOT_ALLOWED"
    assert await identity.state(child.secret) == "NETWORK_NOT_ALLOWED"
    refusal = await identity.refusal(identity.keys.ListApiKeys, pb.ListApiKeysRequest(), child.secret)
    assert refusal.code == "PERMISSION_DENIED"


async def test_removing_a_member_refuses_its_keys_and_their_children_at_the_next_call_and_for_good(
    identity: Identity,
) -> None:
    tenant = await identity.tenant()
    added = await identity.call(
        identity.workspaces.AddMember,
        workspace_pb2.AddMemberRequest(
            workspace_id=tenant.workspace_id,
            member={"display_name": "Bob"},
            workspace_role=roles_pb2.WORKSPACE_ROLE_MEMBER,
        ),
        tenant.secret,
    )
    key = await identity.mint(tenant.secret, owner_member_id=added.member.member_id)
    child = await identity.mint(key.secret)
    await identity.call(
        identity.workspaces.RemoveMember,
        workspace_pb2.RemoveMemberRequest(workspace_id=tenant.workspace_id, member_id=added.member.member_id),
        tenant.secret,
    )
    assert [await identity.state(each.secret) for each in (key, child)] == ["OWNER_REMOVED"] * 2
    await identity.call(
        identity.workspaces.AddMember,
        workspace_pb2.AddMemberRequest(
            workspace_id=tenant.workspace_id,
            member_id=added.member.member_id,
            workspace_role=roles_pb2.WORKSPACE_ROLE_MEMBER,
        ),
        tenant.secret,
    )
    assert [await identity.state(each.secret) for each in (key, child)] == ["REVOKED"] * 2
    new = await identity.mint(tenant.secret, owner_member_id=added.member.member_id)
    assert await identity.state(new.secret) == "VALID"


async def test_a_passport_says_what_verify_said_and_lives_thirty_seconds(identity: Identity) -> None:
    tenant = await identity.tenant()
    child = await identity.mint(
        tenant.secret, scopes=[roles_pb2.SCOPE_INFERENCE], allowed_models=["small", "large"]
    )
    token = (await identity.verify(child.secret, want_passport=True)).passport
    published = await identity.call(identity.keys.GetSigningKeys, pb.GetSigningKeysRequest(), identity.peer)
    verifier = Verifier(identity.clock)
    verifier.learn({key.kid: key.public_key for key in published.keys})
    passport = verifier.verify(token)
    assert passport.organization_id == tenant.organization_id
    assert passport.key_id == child.key.key_id
    assert passport.scopes == {"INFERENCE"}
    assert passport.allowed_models == ("large", "small")
    assert (passport.plan, passport.terms_class, passport.tier) == ("free", "FREE", "free")
    assert passport.documents["additional-terms"] == "2025-02-06"
    assert passport.as_of_us == identity.clock.now_us()
    identity.advance(seconds=LIFETIME_SECONDS)
    with pytest.raises(Unauthenticated):
        verifier.verify(token)
    with pytest.raises(UnknownKeyError):
        Verifier(identity.clock).verify(token)


async def test_a_passport_is_minted_only_where_wanted_and_only_for_customers(identity: Identity) -> None:
    tenant = await identity.tenant()
    assert not (await identity.verify(tenant.secret)).passport
    assert not (await identity.verify(identity.operator, want_passport=True)).passport
    service = await identity.verify(identity.peer, want_passport=True)
    assert not service.passport
    assert service.principal.name == "admission"


async def test_a_key_whose_models_meet_in_nothing_may_name_no_model(identity: Identity) -> None:
    tenant = await identity.tenant()
    parent = await identity.mint(tenant.secret, allowed_models=["small"])
    child = await identity.mint(parent.secret, allowed_models=["small"])
    await identity.call(
        identity.keys.UpdateApiKey,
        pb.UpdateApiKeyRequest(
            key_id=parent.key.key_id, update_mask={"paths": ["allowed_models"]}, allowed_models=["large"]
        ),
        tenant.secret,
    )
    assert list((await identity.verify(child.secret)).principal.allowed_models) == ["!"]


async def test_each_item_of_a_batch_is_answered_by_itself_in_its_place(identity: Identity) -> None:
    tenants = [await identity.tenant() for _ in range(3)]
    items = [pb.VerifyRequest(credential=tenants[index % 3].secret) for index in range(64)]
    items[7] = pb.VerifyRequest(credential=mistyped(tenants[0].secret))
    items[20] = pb.VerifyRequest(credential=tenants[0].secret, peer_network="not an address")
    response = await identity.call(
        identity.keys.BatchVerify, pb.BatchVerifyRequest(items=items), identity.peer
    )
    assert len(response.results) == 64
    for index, result in enumerate(response.results):
        if index == 20:
            assert result.error.code == 3
        elif index == 7:
            assert result.response.state == pb.KEY_STATE_MALFORMED
        else:
            assert result.response.state == pb.KEY_STATE_VALID
            assert result.response.principal.organization_id == tenants[index % 3].organization_id


async def test_a_batch_of_none_or_of_too_many_is_refused(identity: Identity) -> None:
    for count in (0, 129):
        items = [pb.VerifyRequest(credential="x") for _ in range(count)]
        refusal = await identity.refusal(
            identity.keys.BatchVerify, pb.BatchVerifyRequest(items=items), identity.peer
        )
        assert (refusal.code, refusal.reason) == ("INVALID_ARGUMENT", "FIELD_INVALID")


async def test_only_the_suites_services_may_ask_verify(identity: Identity) -> None:
    tenant = await identity.tenant()
    gateway = await identity.call(
        identity.keys.CreatePlatformKey,
        pb.CreatePlatformKeyRequest(display_name="g", service={"name": "our-gateway"}),
        identity.operator,
    )
    for key in (tenant.secret, identity.operator, gateway.secret):
        refusal = await identity.refusal(identity.keys.Verify, pb.VerifyRequest(credential="x"), key)
        assert (refusal.code, refusal.reason) == ("PERMISSION_DENIED", "CALLER_NOT_ALLOWED")
    refusal = await identity.refusal(identity.keys.Verify, pb.VerifyRequest(credential="x"))
    assert (refusal.code, refusal.reason) == ("UNAUTHENTICATED", "CREDENTIAL_MISSING")
    refusal = await identity.refusal(
        identity.keys.Verify, pb.VerifyRequest(credential="x"), mistyped(identity.peer)
    )
    assert refusal.metadata["state"] == "MALFORMED"


async def test_a_verify_whose_form_is_wrong_is_refused(identity: Identity) -> None:
    for wrong in (
        pb.VerifyRequest(credential="x" * 16385),
        pb.VerifyRequest(credential="x", required_scopes=[0]),
        pb.VerifyRequest(credential="x", required_scopes=[99]),
        pb.VerifyRequest(credential="x", peer_network="10.0.0.0/8"),
        pb.VerifyRequest(credential="x", trace_parent="0" * 65),
    ):
        refusal = await identity.refusal(identity.keys.Verify, wrong, identity.peer)
        assert (refusal.code, refusal.reason) == ("INVALID_ARGUMENT", "FIELD_INVALID")


async def test_keys_of_a_deleted_workspace_are_refused(identity: Identity) -> None:
    tenant = await identity.tenant()
    workspace = await identity.call(
        identity.workspaces.CreateWorkspace,
        workspace_pb2.CreateWorkspaceRequest(display_name="second", request_id=str(uuid4())),
        tenant.secret,
    )
    workspace_id = workspace.workspace.workspace_id
    key = await identity.mint(tenant.secret, workspace_id=workspace_id)
    assert await identity.state(key.secret) == "VALID"
    await identity.call(
        identity.workspaces.DeleteWorkspace,
        workspace_pb2.DeleteWorkspaceRequest(workspace_id=workspace_id),
        tenant.secret,
    )
    assert await identity.state(key.secret) == "REVOKED"
    assert await identity.state(tenant.secret) == "VALID"
    shown = await identity.call(
        identity.keys.GetApiKey, pb.GetApiKeyRequest(key_id=key.key.key_id), tenant.secret
    )
    assert shown.key.state == pb.API_KEY_STATE_REVOKED
