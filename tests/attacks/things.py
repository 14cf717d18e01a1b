"""Things that a tenant of the attacked suite has, each made over the wire as a customer would."""

import uuid
from typing import TYPE_CHECKING

from perron.api.admission.v1 import admission_service_pb2 as admission
from perron.api.agents.v1 import agent_service_pb2, sharing_service_pb2
from perron.api.common.v1 import roles_pb2
from perron.api.governance.v1 import directive_service_pb2
from perron.api.identity.v1 import workspace_pb2
from perron.api.quotas.v1 import limit_pb2, limit_service_pb2, quota_service_pb2, usage_service_pb2
from tests.attacks.people import Tenant
from tests.attacks.wire import named

if TYPE_CHECKING:
    from tests.attacks.world import World

MODEL = "small-1"
CAPPED_MODEL = "capped-1"
ATTACKED_MODEL = "attacked-1"


def alias(world: "World", tenant: Tenant, agent: str) -> str:
    """Gives an agent an alias."""
    request = agent_service_pb2.CreateAliasRequest(
        alias=_new_name(tenant), agent_id=agent, name_attested=True
    )
    return str(world.wire.ask("AgentService.CreateAlias", request, tenant.admin.secret).alias.alias)


def third_party(world: "World", tenant: Tenant) -> str:
    """Acknowledges a third party."""
    party = f"connector:{_new_name(tenant)}"
    request = sharing_service_pb2.AcknowledgeThirdPartyRequest(third_party=party)
    world.wire.ask("SharingService.AcknowledgeThirdParty", request, tenant.admin.secret)
    return party


def workspace(world: "World", tenant: Tenant) -> str:
    """Adds a workspace."""
    request = workspace_pb2.CreateWorkspaceRequest(display_name="spare")
    made = world.wire.ask("WorkspaceService.CreateWorkspace", request, tenant.admin.secret)
    return str(made.workspace.workspace_id)


def reservation(world: "World", tenant: Tenant) -> str:
    """Reserves something."""
    request = quota_service_pb2.ReserveRequest(
        passport=world.passport(tenant), model=MODEL, requests=1, tokens=10
    )
    reserved = world.wire.ask("QuotaService.Reserve", request, world.services["admission"].secret)
    return str(reserved.reservation_id)


def suspension(world: "World", tenant: Tenant) -> str:
    """Reaches a cap of its own."""
    cap = limit_service_pb2.SetCapRequest(
        organization_id=tenant.organization_id,
        model=CAPPED_MODEL,
        metric=limit_pb2.METRIC_REQUESTS,
        window=limit_pb2.WINDOW_MINUTE,
        amount=1,
    )
    world.wire.ask("LimitService.SetCap", cap, tenant.admin.secret)
    world.admit(tenant, model=CAPPED_MODEL)
    request = admission.AdmitRequest(
        credential=tenant.admin.secret,
        model=CAPPED_MODEL,
        estimated_tokens=1,
        channel=roles_pb2.CHANNEL_API,
    )
    refused = world.wire.call(named("AdmissionService.Admit"), request, world.services["gateway"].secret)
    assert refused.code == "RESOURCE_EXHAUSTED", str(refused)
    wanted = usage_service_pb2.ListSuspensionsRequest(organization_id=tenant.organization_id)
    listed = world.wire.ask("UsageService.ListSuspensions", wanted, tenant.admin.secret)
    return str(listed.suspensions[0].suspension_id)


def limits(world: "World", tenant: Tenant) -> None:
    """Sets a cap and an override on a model that nobody calls, so that there is one of each to delete."""
    place = {
        "organization_id": tenant.organization_id,
        "workspace_id": tenant.workspace_id,
        "model": ATTACKED_MODEL,
        "metric": limit_pb2.METRIC_REQUESTS,
        "window": limit_pb2.WINDOW_SECOND,
        "amount": 1,
    }
    cap, override = limit_service_pb2.SetCapRequest(**place), limit_service_pb2.SetOverrideRequest(**place)
    world.wire.ask("LimitService.SetCap", cap, tenant.admin.secret)
    world.wire.ask("LimitService.SetOverride", override, world.operator.secret)


def zero_retention(world: "World", tenant: Tenant, workspace: str) -> str:
    """Asks for zero retention of a workspace."""
    request = directive_service_pb2.RequestZeroRetentionRequest(
        organization_id=tenant.organization_id,
        workspace_id=workspace,
        reasons="the records are of patients",
    )
    asked = world.wire.ask("DirectiveService.RequestZeroRetention", request, tenant.admin.secret)
    return str(asked.zero_retention_request.zero_retention_request_id)


def _new_name(tenant: Tenant) -> str:
    return f"{tenant.name}-{uuid.uuid4().hex[:12]}"
