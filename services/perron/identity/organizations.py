"""Organizations: how they come to be, what they accept, and what plan they are on.

A subscription is the paid relation: a change between paid plans keeps its id, its end is final. What is
kept under it elsewhere ends with it, so its id is never taken up again.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from perron.chassis.errors import NotFound
from perron.chassis.ids import IdSource
from perron.chassis.interceptors.access import Call, Caller
from perron.identity import errors
from perron.identity.commands import CreateOrganization
from perron.identity.documents import Documents
from perron.identity.grants import Grant
from perron.identity.hot_store import HotStore, read_accepted
from perron.identity.keys import Keys, MintedKey, etag
from perron.identity.model import (
    ALL_SCOPES,
    Acceptance,
    KeyKind,
    Member,
    Organization,
    OrganizationRole,
    OrganizationState,
    Standing,
    Subscription,
    TermsClass,
    Workspace,
    WorkspaceRole,
)
from perron.identity.plans import Plans
from perron.identity.store import Store


@dataclass(frozen=True, slots=True)
class Founded:
    """A new organization with its first workspace, admin and key."""

    organization: Organization
    workspace: Workspace
    admin: Member
    key: MintedKey


class Organizations:
    """The customers of this installation."""

    def __init__(self, plans: Plans, documents: Documents, keys: Keys, ids: IdSource) -> None:
        self._plans = plans
        self._documents = documents
        self._keys = keys
        self._ids = ids

    def create(self, store: Store, call: Call, command: CreateOrganization) -> Founded:
        """Creates an organization on the first free plan. Raises as CreateOrganization documents."""
        organization_id, workspace_id, member_id = self._ids("org"), self._ids("ws"), self._ids("mem")
        earlier = store.once(call, f"{organization_id} {workspace_id} {member_id}")
        if earlier is not None:
            return _founded_before(store, earlier)
        now_us = store.now_us()
        self._documents.check(command.acceptances)
        self._documents.require_all(command.acceptances, now_us)
        organization = Organization(
            organization_id=organization_id,
            display_name=command.display_name,
            state=OrganizationState.ACTIVE,
            plan=self._plans.first.name,
            subscription=None,
            permitted_uses=command.permitted_uses,
            expected_monthly_requests=command.expected_monthly_requests,
            accepted={},
            acceptances=(),
            create_us=now_us,
            version=1,
        )
        workspace = Workspace(workspace_id, organization_id, "default", now_us, 1)
        admin = Member(
            member_id=member_id,
            organization_id=organization_id,
            display_name=command.admin_email.partition("@")[0],
            email=command.admin_email,
            organization_role=OrganizationRole.ADMIN,
            create_us=now_us,
            version=1,
            workspace_id=workspace_id,
            workspace_role=WorkspaceRole.ADMIN,
        )
        store.add_organization(organization)
        store.add_workspace(workspace)
        store.add_member(admin)
        store.add_membership(workspace_id, member_id, WorkspaceRole.ADMIN)
        self._accept(store, organization, member_id, command.acceptances, now_us)
        key = self._keys.first(store, workspace_id, admin, Grant(scopes=ALL_SCOPES))
        store.audit(call, organization_id, organization_id)
        store.publish("organization.created", organization_id=organization_id, version=1)
        store.publish(
            "workspace.created", organization_id=organization_id, workspace_id=workspace_id, version=1
        )
        return Founded(store.organization(organization_id), workspace, admin, key)

    def get(self, store: Store, caller: Caller, organization_id: str) -> Organization:
        """Returns an organization: customers get their own."""
        _require_own(caller, organization_id)
        return store.organization(organization_id)

    def list(self, store: Store, after: str, limit: int) -> list[Organization]:
        """Returns organizations in the order of their ids."""
        return store.organizations(after, limit)

    def accept_terms(
        self, store: Store, call: Call, organization_id: str, acceptances: Sequence[Acceptance]
    ) -> Organization:
        """Records acceptances of the caller's organization. Raises as AcceptTerms documents."""
        earlier = store.once(call, organization_id)
        if earlier is not None:
            return store.organization(earlier)
        _require_own(call.caller, organization_id)
        organization = store.organization(organization_id, lock=True)
        store.refuse_buried(organization_id)
        self._documents.check(acceptances)
        self._accept(store, organization, call.caller.member_id, acceptances, store.now_us())
        after = store.organization(organization_id)
        store.audit(call, organization_id, organization_id)
        if after.version != organization.version:
            store.publish(
                "organization.terms_accepted", organization_id=organization_id, version=after.version
            )
        return after

    def change_plan(
        self, store: Store, call: Call, organization_id: str, plan_name: str, expected_etag: str
    ) -> Organization:
        """Puts an organization on a plan of the plans file. Raises as ChangePlan documents."""
        earlier = store.once(call, organization_id)
        if earlier is not None:
            return store.organization(earlier)
        organization = store.organization(organization_id, lock=True)
        store.refuse_buried(organization_id)
        plan = self._plans.find(plan_name)
        if plan.terms_class is TermsClass.UNSPECIFIED:
            raise errors.plan_unknown()
        if expected_etag and expected_etag != etag(organization.version):
            raise errors.etag_stale()
        if plan.name == organization.plan:
            return organization
        subscription_id = self._subscription_on(store, organization, plan.terms_class)
        store.change_plan(organization_id, plan.name, subscription_id)
        store.audit(call, organization_id, organization_id, action=f"plan.{plan.name}")
        store.publish(
            "organization.plan_changed",
            organization_id=organization_id,
            resource_id=subscription_id,
            version=organization.version + 1,
        )
        return store.organization(organization_id)

    def standings(self, store: HotStore, workspace_ids: Sequence[str]) -> Sequence[Standing | NotFound]:
        """Answers how the organizations of these workspaces stand, each by itself, from one snapshot."""
        as_of_us = store.began_us()
        rows = store.standings(list(dict.fromkeys(workspace_ids)))
        answers: list[Standing | NotFound] = []
        for asked in workspace_ids:
            row = rows.get(asked)
            if row is None:
                answers.append(errors.not_found("workspace"))
                continue
            workspace_id, organization_id, state, plan, subscription_id, accepted = row
            answers.append(
                Standing(
                    organization_id=organization_id,
                    workspace_id=workspace_id,
                    state=OrganizationState(state),
                    plan=plan,
                    terms_class=self._plans.find(plan).terms_class,
                    subscription_id=subscription_id,
                    accepted=read_accepted(accepted),
                    as_of_us=as_of_us,
                )
            )
        return answers

    def _subscription_on(self, store: Store, organization: Organization, terms_class: TermsClass) -> str:
        """Starts, keeps or ends the subscription, as the new class demands; returns the id that runs then."""
        running = organization.subscription
        if terms_class is TermsClass.PAID:
            if running is not None:
                return running.subscription_id
            begun = Subscription(self._ids("sub"), organization.organization_id, terms_class, store.now_us())
            store.start_subscription(begun)
            return begun.subscription_id
        if running is not None:
            store.end_subscription(running.subscription_id, store.now_us())
        return ""

    def _accept(
        self,
        store: Store,
        organization: Organization,
        member_id: str,
        acceptances: Sequence[Acceptance],
        now_us: int,
    ) -> None:
        given = [replace(each, member_id=member_id, accept_us=now_us) for each in acceptances]
        accepted = self._documents.newest(organization.accepted, given)
        store.add_acceptances(organization.organization_id, accepted, given)


def _founded_before(store: Store, earlier: str) -> Founded:
    organization_id, workspace_id, member_id = earlier.split()
    key = store.keys(organization_id, workspace_id, member_id, "", 1)[0]
    return Founded(
        store.organization(organization_id),
        store.workspace(workspace_id),
        store.member_in(workspace_id, member_id),
        MintedKey(key),
    )


def _require_own(caller: Caller, organization_id: str) -> None:
    if str(caller.kind) == KeyKind.CUSTOMER and caller.organization_id != organization_id:
        raise errors.not_found("organization")
