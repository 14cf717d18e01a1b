import asyncio
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import jwt
import pytest
import yaml

from perron.api.common.v1 import error_reason_pb2, event_service_pb2, roles_pb2
from perron.api.identity.v1 import api_key_pb2, workspace_pb2
from perron.api.identity.v1 import organization_pb2 as pb
from perron.chassis.errors import SetupError
from perron.chassis.passports import LIFETIME_SECONDS
from perron.chassis.testing import BOTH
from perron.identity.app import build
from tests.contract.identity.conftest import Identity, Tenant

NOWHERE = "org_00000000000000000000000000"


async def change_plan(identity: Identity, tenant: Tenant, plan: str, **fields: Any) -> Any:
    request = pb.ChangePlanRequest(organization_id=tenant.organization_id, plan=plan, **fields)
    changed = await identity.call(identity.organizations.ChangePlan, request, identity.operator)
    return changed.organization


async def standing(identity: Identity, workspace_id: str) -> Any:
    response = await identity.call(
        identity.organizations.BatchGetStanding,
        pb.BatchGetStandingRequest(items=[pb.GetStandingItem(workspace_id=workspace_id)]),
        identity.peer,
    )
    return response.results[0]


async def restart(identity: Identity, **settings: Any) -> None:
    """Stops the service and starts it anew with other settings, on the same store and files."""
    await identity.stop()
    identity.settings = identity.settings.model_copy(update=settings)
    await identity.start()


def later_documents(identity: Identity, accept_by: datetime) -> str:
    """A documents file in which the additional terms have a newer version, in force now."""
    from importlib import resources

    shipped = yaml.safe_load(resources.files("perron.identity").joinpath("documents.yaml").read_text())
    shipped["documents"].append(
        {
            "name": "additional-terms",
            "version": "2026-01-01",
            "text": "newer",
            "effective_time": identity.clock.now(),
            "accept_by_time": accept_by,
        }
    )
    path = identity.folder / "documents.yaml"
    path.write_text(yaml.safe_dump(shipped))
    return str(path)


@pytest.mark.parametrize("identity", BOTH, indirect=True)
async def test_an_organization_starts_on_the_free_plan_with_admin_workspace_and_key(
    identity: Identity,
) -> None:
    request = await identity.organization_request(expected_monthly_requests=1000)
    made = await identity.call(identity.organizations.CreateOrganization, request, identity.operator)
    organization = made.organization
    assert (organization.plan, organization.terms_class) == ("free", roles_pb2.TERMS_CLASS_FREE)
    assert not organization.HasField("subscription")
    assert list(organization.permitted_uses) == [pb.PERMITTED_USE_OFFERING]
    assert organization.expected_monthly_requests == 1000
    assert {each.document for each in organization.acceptances} == {"additional-terms", "terms-of-service"}
    assert {each.member_id for each in organization.acceptances} == {made.admin.member_id}
    assert made.admin.organization_role == roles_pb2.ORGANIZATION_ROLE_ADMIN
    assert made.key.workspace_id == made.workspace.workspace_id
    assert await identity.state(made.secret) == "VALID"
    again = await identity.call(identity.organizations.CreateOrganization, request, identity.operator)
    assert (again.organization, again.workspace, again.admin, again.key) == (
        made.organization,
        made.workspace,
        made.admin,
        made.key,
    )
    assert not again.secret
    assert again.secret_reason == error_reason_pb2.ERROR_REASON_SECRET_ALREADY_SHOWN


async def test_without_acceptance_of_every_document_there_is_no_organization(identity: Identity) -> None:
    acceptances = await identity.acceptances()
    wrong = pb.DocumentAcceptance(document="additional-terms", version="2025-02-06", text_digest="0" * 64)
    unknown = pb.DocumentAcceptance(document="additional-terms", version="1999", text_digest="0" * 64)
    for given, code, reason in (
        (acceptances[:1], "FAILED_PRECONDITION", "ACCEPTANCE_MISSING"),
        ([*acceptances, wrong], "FAILED_PRECONDITION", "DOCUMENT_DIGEST_MISMATCH"),
        ([*acceptances, unknown], "INVALID_ARGUMENT", "DOCUMENT_UNKNOWN"),
        ([], "INVALID_ARGUMENT", "FIELD_INVALID"),
    ):
        request = await identity.organization_request(acceptances=given)
        refusal = await identity.refusal(
            identity.organizations.CreateOrganization, request, identity.operator
        )
        assert (refusal.code, refusal.reason) == (code, reason)
    listed = await identity.call(
        identity.organizations.ListOrganizations, pb.ListOrganizationsRequest(), identity.operator
    )
    assert not listed.organizations


async def test_a_thousand_retries_at_once_make_one_organization(identity: Identity) -> None:
    request = await identity.organization_request()
    made = await asyncio.gather(
        *(
            identity.call(identity.organizations.CreateOrganization, request, identity.operator)
            for _ in range(50)
        )
    )
    assert len({each.organization.organization_id for each in made}) == 1
    assert sum(bool(each.secret) for each in made) == 1


async def test_anybody_may_sign_up_only_where_the_setting_is_on(identity: Identity) -> None:
    request = await identity.organization_request()
    refusal = await identity.refusal(identity.organizations.CreateOrganization, request)
    assert (refusal.code, refusal.reason) == ("UNAUTHENTICATED", "CREDENTIAL_MISSING")
    tenant = await identity.tenant()
    refusal = await identity.refusal(identity.organizations.CreateOrganization, request, tenant.secret)
    assert (refusal.code, refusal.reason) == ("PERMISSION_DENIED", "CALLER_NOT_ALLOWED")
    await restart(identity, open_signup=True)
    made = await identity.call(identity.organizations.CreateOrganization, request)
    assert await identity.state(made.secret) == "VALID"


async def test_customers_get_their_own_organization_and_no_other(identity: Identity) -> None:
    one, other = await identity.tenant(), await identity.tenant()
    get = identity.organizations.GetOrganization
    own = await identity.call(get, pb.GetOrganizationRequest(organization_id=one.organization_id), one.secret)
    assert own.organization.organization_id == one.organization_id
    theirs = await identity.refusal(
        get, pb.GetOrganizationRequest(organization_id=other.organization_id), one.secret
    )
    nobodys = await identity.refusal(get, pb.GetOrganizationRequest(organization_id=NOWHERE), one.secret)
    assert (theirs.code, theirs.message) == ("NOT_FOUND", nobodys.message)
    refusal = await identity.refusal(
        identity.organizations.ListOrganizations, pb.ListOrganizationsRequest(), one.secret
    )
    assert refusal.reason == "CALLER_NOT_ALLOWED"
    page = await identity.call(
        identity.organizations.ListOrganizations, pb.ListOrganizationsRequest(page_size=1), identity.operator
    )
    rest = await identity.call(
        identity.organizations.ListOrganizations,
        pb.ListOrganizationsRequest(page_size=1, page_token=page.next_page_token),
        identity.operator,
    )
    assert [each.organization_id for each in (*page.organizations, *rest.organizations)] == [
        one.organization_id,
        other.organization_id,
    ]
    assert not rest.next_page_token


async def test_plans_and_documents_are_public(identity: Identity) -> None:
    plans = await identity.call(identity.organizations.ListPlans, pb.ListPlansRequest())
    assert [plan.terms_class for plan in plans.plans].count(roles_pb2.TERMS_CLASS_PAID) >= 2
    listed = await identity.call(identity.organizations.ListDocuments, pb.ListDocumentsRequest())
    assert not any(document.text for document in listed.documents)
    shown = await identity.call(
        identity.organizations.GetDocument, pb.GetDocumentRequest(name="additional-terms")
    )
    assert (shown.document.version, bool(shown.document.text)) == ("2025-02-06", True)
    refusal = await identity.refusal(
        identity.organizations.GetDocument, pb.GetDocumentRequest(name="additional-terms", version="1")
    )
    assert (refusal.code, refusal.reason) == ("NOT_FOUND", "RESOURCE_NOT_FOUND")


@pytest.mark.parametrize("identity", BOTH, indirect=True)
async def test_a_change_between_paid_plans_keeps_the_subscription_and_a_return_begins_another(
    identity: Identity,
) -> None:
    tenant = await identity.tenant()
    first = (await change_plan(identity, tenant, "scale-1")).subscription
    assert first.subscription_id
    assert first.terms_class == roles_pb2.TERMS_CLASS_PAID
    assert (await change_plan(identity, tenant, "scale-2")).subscription == first
    assert not (await change_plan(identity, tenant, "free")).HasField("subscription")
    second = (await change_plan(identity, tenant, "scale-1")).subscription
    assert second.subscription_id != first.subscription_id


async def test_a_change_of_plan_is_seen_by_the_very_next_verify_and_standing(identity: Identity) -> None:
    tenant = await identity.tenant()
    organization = await change_plan(identity, tenant, "scale-1")
    principal = (await identity.verify(tenant.secret)).principal
    subscription_id = organization.subscription.subscription_id
    assert (principal.plan, principal.tier, principal.subscription_id) == (
        "scale-1",
        "scale-1",
        subscription_id,
    )
    found = (await standing(identity, tenant.workspace_id)).response
    assert (found.plan, found.subscription_id) == ("scale-1", subscription_id)


async def test_a_change_of_plan_is_refused_for_what_is_unknown_stale_or_not_allowed(
    identity: Identity,
) -> None:
    tenant = await identity.tenant()
    for fields, code, reason in (
        ({"plan": "gold"}, "INVALID_ARGUMENT", "PLAN_UNKNOWN"),
        ({"plan": "scale-1", "etag": '"99"'}, "ABORTED", "ETAG_STALE"),
        ({"plan": "scale-1", "organization_id": NOWHERE}, "NOT_FOUND", "RESOURCE_NOT_FOUND"),
        ({"plan": "Scale 1"}, "INVALID_ARGUMENT", "FIELD_INVALID"),
    ):
        request = pb.ChangePlanRequest(**({"organization_id": tenant.organization_id} | fields))
        refusal = await identity.refusal(identity.organizations.ChangePlan, request, identity.operator)
        assert (refusal.code, refusal.reason) == (code, reason)
    request = pb.ChangePlanRequest(organization_id=tenant.organization_id, plan="scale-1")
    refusal = await identity.refusal(identity.organizations.ChangePlan, request, tenant.secret)
    assert refusal.reason == "CALLER_NOT_ALLOWED"


async def test_new_terms_not_accepted_in_time_stop_use_but_not_deletion_or_acceptance(
    identity: Identity,
) -> None:
    tenant = await identity.tenant()
    identity.advance(days=400)
    await restart(
        identity, documents_file=later_documents(identity, identity.clock.now() + timedelta(days=30))
    )
    assert await identity.state(tenant.secret) == "VALID"
    identity.advance(days=30)
    verified = await identity.verify(tenant.secret, want_passport=True)
    assert verified.state == api_key_pb2.KEY_STATE_TERMS_NOT_ACCEPTED
    assert verified.principal.member_id == tenant.member_id
    assert verified.passport
    mint = api_key_pb2.CreateApiKeyRequest(display_name="x", scopes=[roles_pb2.SCOPE_INFERENCE])
    refusal = await identity.refusal(identity.keys.CreateApiKey, mint, tenant.secret)
    assert (refusal.code, refusal.reason) == ("PERMISSION_DENIED", "TERMS_NOT_ACCEPTED")
    await identity.call(identity.keys.ListApiKeys, api_key_pb2.ListApiKeysRequest(), tenant.secret)
    accept = pb.AcceptTermsRequest(
        organization_id=tenant.organization_id, acceptances=await identity.acceptances()
    )
    accepted = await identity.call(identity.organizations.AcceptTerms, accept, tenant.secret)
    versions = {each.document: each.version for each in accepted.organization.acceptances}
    assert versions["additional-terms"] == "2026-01-01"
    assert await identity.state(tenant.secret) == "VALID"
    found = (await standing(identity, tenant.workspace_id)).response
    assert {each.name: each.version for each in found.accepted_documents} == versions


async def test_terms_are_accepted_for_the_callers_own_organization_alone(identity: Identity) -> None:
    one, other = await identity.tenant(), await identity.tenant()
    request = pb.AcceptTermsRequest(
        organization_id=other.organization_id, acceptances=await identity.acceptances()
    )
    refusal = await identity.refusal(identity.organizations.AcceptTerms, request, one.secret)
    assert (refusal.code, refusal.reason) == ("NOT_FOUND", "RESOURCE_NOT_FOUND")
    acceptance = pb.DocumentAcceptance(document="gone", version="1", text_digest="0" * 64)
    request = pb.AcceptTermsRequest(organization_id=one.organization_id, acceptances=[acceptance])
    refusal = await identity.refusal(identity.organizations.AcceptTerms, request, one.secret)
    assert (refusal.code, refusal.reason) == ("INVALID_ARGUMENT", "DOCUMENT_UNKNOWN")


async def test_a_standing_names_an_instant_and_is_refused_for_workspaces_unknown_or_deleted(
    identity: Identity,
) -> None:
    tenant = await identity.tenant()
    found = (await standing(identity, tenant.workspace_id)).response
    assert found.organization_id == tenant.organization_id
    assert found.state == pb.ORGANIZATION_STATE_ACTIVE
    assert found.as_of.ToDatetime(tzinfo=identity.clock.now().tzinfo) == identity.clock.now()
    response = await identity.call(
        identity.organizations.BatchGetStanding,
        pb.BatchGetStandingRequest(
            items=[
                pb.GetStandingItem(workspace_id="ws_00000000000000000000000000"),
                pb.GetStandingItem(workspace_id="nonsense"),
                pb.GetStandingItem(workspace_id=tenant.workspace_id),
            ]
        ),
        identity.peer,
    )
    assert [result.error.code for result in response.results] == [5, 3, 0]
    await identity.call(
        identity.workspaces.DeleteWorkspace,
        workspace_pb2.DeleteWorkspaceRequest(workspace_id=tenant.workspace_id),
        tenant.secret,
    )
    assert (await standing(identity, tenant.workspace_id)).error.code == 5


async def test_changes_are_told_as_events_in_their_order(identity: Identity) -> None:
    tenant = await identity.tenant()
    organization = await change_plan(identity, tenant, "scale-1", request_id=str(uuid4()))
    child = await identity.mint(tenant.secret)
    narrow = api_key_pb2.UpdateApiKeyRequest(
        key_id=child.key.key_id, update_mask={"paths": ["scopes"]}, scopes=[roles_pb2.SCOPE_INFERENCE]
    )
    await identity.call(identity.keys.UpdateApiKey, narrow, tenant.secret)
    revoke = api_key_pb2.RevokeApiKeyRequest(key_id=child.key.key_id)
    await identity.call(identity.keys.RevokeApiKey, revoke, tenant.secret)
    await identity.call(identity.keys.RevokeApiKey, revoke, tenant.secret)
    watch = identity.events.Watch(
        event_service_pb2.WatchRequest(), metadata=(("authorization", f"Bearer {identity.peer}"),)
    )
    events = []
    async for response in watch:
        events += response.events
        if events and events[-1].kind == "api_key.revoked":
            break
    watch.cancel()
    assert [event.number for event in events] == list(range(1, len(events) + 1))
    own = [event for event in events if event.organization_id == tenant.organization_id]
    assert [event.kind for event in own] == [
        "organization.created",
        "workspace.created",
        "organization.plan_changed",
        "api_key.created",
        "api_key.narrowed",
        "api_key.revoked",
    ]
    assert own[2].resource_id == organization.subscription.subscription_id
    assert own[-1].resource_id == child.key.key_id


async def test_a_lost_pepper_is_noticed_before_anything_is_served_or_written(identity: Identity) -> None:
    await identity.stop()
    (identity.folder / "pepper").unlink()
    application = build(identity.settings, clock=identity.clock)
    with pytest.raises(SetupError, match="PERRON_IDENTITY_PEPPER_FILE"):
        await application.start()
    assert not (identity.folder / "pepper").exists()
    await application.stop()
    (identity.folder / "pepper").write_text(f"p1 {'ab' * 32}\n")
    await identity.start()


async def test_a_rotated_signing_key_is_published_first_and_signs_a_lifetime_later(
    identity: Identity,
) -> None:
    tenant = await identity.tenant()
    signing = identity.folder / "signing"
    signing.write_text(
        signing.read_text()
        + f"next {'cd' * 32} {(identity.clock.now() + timedelta(seconds=1)).isoformat()}\n"
    )
    identity.advance(seconds=2)
    await restart(identity)
    published = await identity.call(
        identity.keys.GetSigningKeys, api_key_pb2.GetSigningKeysRequest(), identity.peer
    )
    former, later = published.keys
    assert later.kid == "next"

    async def signer() -> str:
        token = (await identity.verify(tenant.secret, want_passport=True)).passport
        return jwt.get_unverified_header(token)["kid"]

    identity.advance(seconds=LIFETIME_SECONDS - 1)
    assert await signer() == former.kid
    identity.advance(seconds=LIFETIME_SECONDS)
    assert await signer() == "next"
