"""Messages of organizations, workspaces and members to values and back."""

from collections.abc import Iterable
from typing import Final

from perron.api.identity.v1 import organization_pb2 as organization_pb
from perron.api.identity.v1 import workspace_pb2 as workspace_pb
from perron.chassis.errors import PerronError
from perron.chassis.status import to_status
from perron.identity import commands, convert, wire
from perron.identity.documents import Document
from perron.identity.keys import etag
from perron.identity.model import (
    Acceptance,
    Member,
    Organization,
    OrganizationRole,
    Standing,
    Subscription,
    Workspace,
    WorkspaceRole,
)
from perron.identity.organizations import Founded
from perron.identity.plans import Plan

_USES: Final = wire.numbers(organization_pb.PermittedUse, "PERMITTED_USE_")
_ORGANIZATION_STATES: Final = wire.numbers(organization_pb.OrganizationState, "ORGANIZATION_STATE_")
_USE_NAMES: Final = {number: name for name, number in _USES.items()}


def create_organization_command(
    request: organization_pb.CreateOrganizationRequest,
) -> commands.CreateOrganization:
    """Reads what organization is to be."""
    return commands.CreateOrganization(
        display_name=request.display_name,
        admin_email=request.admin_email,
        acceptances=given_acceptances(request.acceptances),
        permitted_uses=frozenset(_USE_NAMES[use] for use in request.permitted_uses),
        expected_monthly_requests=request.expected_monthly_requests,
    )


def given_acceptances(given: Iterable[organization_pb.DocumentAcceptance]) -> tuple[Acceptance, ...]:
    """Reads acceptances as they are given."""
    return tuple(Acceptance(each.document, each.version, each.text_digest) for each in given)


def founded(made: Founded, on: Plan, now_us: int) -> organization_pb.CreateOrganizationResponse:
    """Writes a new organization with what came with it."""
    return organization_pb.CreateOrganizationResponse(
        organization=organization(made.organization, on),
        workspace=workspace(made.workspace),
        admin=member(made.admin),
        **convert.minted(made.key, now_us),
    )


def organization(found: Organization, on: Plan) -> organization_pb.Organization:
    """Writes an organization on its plan."""
    return organization_pb.Organization(
        organization_id=found.organization_id,
        display_name=found.display_name,
        state=_ORGANIZATION_STATES[found.state],
        plan=found.plan,
        terms_class=wire.TERMS_CLASSES[on.terms_class],
        tier=on.tier,
        subscription=_subscription(found.subscription),
        permitted_uses=wire.in_order(_USES, found.permitted_uses),
        expected_monthly_requests=found.expected_monthly_requests,
        acceptances=[_acceptance(each) for each in found.acceptances],
        create_time=wire.time(found.create_us),
        etag=etag(found.version),
    )


def plan(found: Plan) -> organization_pb.Plan:
    """Writes a plan."""
    return organization_pb.Plan(
        name=found.name,
        display_name=found.display_name,
        terms_class=wire.TERMS_CLASSES[found.terms_class],
        tier=found.tier,
        entitlements=found.entitlements,
    )


def document(found: Document, *, with_text: bool) -> organization_pb.Document:
    """Writes a version of a document."""
    return organization_pb.Document(
        name=found.name,
        version=found.version,
        text_digest=found.text_digest,
        effective_time=wire.time(found.effective_us),
        accept_by_time=wire.time(found.accept_by_us),
        text=found.text if with_text else "",
    )


def standing_result(found: Standing | PerronError) -> organization_pb.GetStandingResult:
    """Writes one answer of BatchGetStanding."""
    if isinstance(found, PerronError):
        return organization_pb.GetStandingResult(error=to_status(found))
    return organization_pb.GetStandingResult(
        response=organization_pb.Standing(
            organization_id=found.organization_id,
            workspace_id=found.workspace_id,
            state=_ORGANIZATION_STATES[found.state],
            plan=found.plan,
            terms_class=wire.TERMS_CLASSES[found.terms_class],
            subscription_id=found.subscription_id,
            accepted_documents=[
                organization_pb.AcceptedDocument(name=name, version=version)
                for name, version in found.accepted.items()
            ],
            as_of=wire.time(found.as_of_us),
        )
    )


def workspace(found: Workspace) -> workspace_pb.Workspace:
    """Writes a workspace."""
    return workspace_pb.Workspace(
        workspace_id=found.workspace_id,
        organization_id=found.organization_id,
        display_name=found.display_name,
        create_time=wire.time(found.create_us),
        etag=etag(found.version),
    )


def member(found: Member) -> workspace_pb.Member:
    """Writes a member as it was seen."""
    return workspace_pb.Member(
        member_id=found.member_id,
        organization_id=found.organization_id,
        display_name=found.display_name,
        email=found.email,
        organization_role=wire.ORGANIZATION_ROLES[found.organization_role],
        workspace_id=found.workspace_id,
        workspace_role=wire.WORKSPACE_ROLES[found.workspace_role or "UNSPECIFIED"],
        create_time=wire.time(found.create_us),
        etag=etag(found.version),
    )


def member_result(found: Member | PerronError) -> workspace_pb.GetMemberResult:
    """Writes one answer of BatchGetMembers."""
    if isinstance(found, PerronError):
        return workspace_pb.GetMemberResult(error=to_status(found))
    return workspace_pb.GetMemberResult(response=member(found))


def add_member_command(request: workspace_pb.AddMemberRequest) -> commands.AddMember:
    """Reads who is to be added."""
    new = request.member
    return commands.AddMember(
        workspace_id=request.workspace_id,
        member_id=request.member_id,
        display_name=new.display_name,
        email=new.email,
        organization_role=_organization_role(new.organization_role) or OrganizationRole.MEMBER,
        workspace_role=_workspace_role(request.workspace_role) or WorkspaceRole.MEMBER,
    )


def update_member_command(request: workspace_pb.UpdateMemberRequest) -> commands.UpdateMember:
    """Reads what shall change of a member."""
    return commands.UpdateMember(
        workspace_id=request.workspace_id,
        member_id=request.member_id,
        fields=frozenset(request.update_mask.paths),
        etag=request.etag,
        display_name=request.display_name,
        organization_role=_organization_role(request.organization_role),
        workspace_role=_workspace_role(request.workspace_role),
    )


def _subscription(found: Subscription | None) -> organization_pb.Subscription | None:
    if found is None:
        return None
    return organization_pb.Subscription(
        subscription_id=found.subscription_id,
        terms_class=wire.TERMS_CLASSES[found.terms_class],
        start_time=wire.time(found.start_us),
        end_time=wire.time(found.end_us),
    )


def _acceptance(found: Acceptance) -> organization_pb.Acceptance:
    return organization_pb.Acceptance(
        document=found.document,
        version=found.version,
        text_digest=found.text_digest,
        member_id=found.member_id,
        accept_time=wire.time(found.accept_us),
    )


def _organization_role(number: int) -> OrganizationRole | None:
    return OrganizationRole(wire.ORGANIZATION_ROLE_NAMES[number]) if number else None


def _workspace_role(number: int) -> WorkspaceRole | None:
    return WorkspaceRole(wire.WORKSPACE_ROLE_NAMES[number]) if number else None
