"""Things that a tenant of the attacked suite has, each made over the wire as a customer would.

They are made when they are first asked for, so a test pays for those that it attacks.
"""

import uuid
from functools import cached_property
from typing import TYPE_CHECKING, Any

from perron.api.admission.v1 import admission_service_pb2 as admission
from perron.api.agents.v1 import agent_service_pb2, sharing_service_pb2
from perron.api.common.v1 import roles_pb2
from perron.api.governance.v1 import directive_service_pb2
from perron.api.identity.v1 import workspace_pb2
from perron.api.quotas.v1 import limit_pb2, limit_service_pb2, quota_service_pb2, usage_service_pb2
from tests.attacks.people import Tenant
from tests.attacks.tuning import Tuning
from tests.attacks.wire import named

if TYPE_CHECKING:
    from tests.attacks.world import World

MODEL = "small-1"
CAPPED_MODEL = "capped-1"
ATTACKED_MODEL = "attacked-1"


class Things(Tuning):
    """One thing of each kind, by the name of the field that names it."""

    def __init__(self, world: "World", tenant: Tenant) -> None:
        super().__init__(world, tenant)
        self._reach = {"organization_id": tenant.organization_id, "workspace_id": tenant.workspace_id}

    def __getitem__(self, name: str) -> str:
        return str(getattr(self, name))

    def __contains__(self, name: str) -> bool:
        return hasattr(type(self), name)

    @cached_property
    def agent_id(self) -> str:
        """An agent."""
        return self._world.new_agent(self._tenant)

    @property
    def agent(self) -> str:
        """The same one, as resolving calls it."""
        return self.agent_id

    @cached_property
    def alias(self) -> str:
        """An alias of some agent."""
        request = agent_service_pb2.CreateAliasRequest(
            alias=self._new_name(), agent_id=self._world.new_agent(self._tenant), name_attested=True
        )
        return str(self._ask("AgentService.CreateAlias", request).alias.alias)

    @cached_property
    def third_party(self) -> str:
        """A third party that was acknowledged."""
        party = f"connector:{self._new_name()}"
        request = sharing_service_pb2.AcknowledgeThirdPartyRequest(third_party=party)
        self._ask("SharingService.AcknowledgeThirdParty", request)
        return party

    @cached_property
    def workspace_id(self) -> str:
        """A workspace beside the tenant's own."""
        return self._workspace()

    @cached_property
    def other_workspace_id(self) -> str:
        """Another one, which stays when that one is deleted."""
        return self._workspace()

    @cached_property
    def member_id(self) -> str:
        """A member of the tenant's workspace."""
        roles = roles_pb2.ORGANIZATION_ROLE_MEMBER, roles_pb2.WORKSPACE_ROLE_MEMBER
        return self._world.new_member(self._tenant, *roles)

    @cached_property
    def key_id(self) -> str:
        """A key of the admin."""
        return str(self._world.new_key(self._tenant).key.key_id)

    @cached_property
    def admission_id(self) -> str:
        """An admission that was completed."""
        return str(self._completed_admission[0].admission_id)

    @cached_property
    def decision_id(self) -> str:
        """The decision of that admission."""
        return str(self._completed_admission[0].decision.decision_id)

    @cached_property
    def record_id(self) -> str:
        """The record of that admission."""
        return str(self._completed_admission[1].record_id)

    @cached_property
    def reservation_id(self) -> str:
        """A reservation."""
        request = quota_service_pb2.ReserveRequest(
            passport=self._world.passport(self._tenant), model=MODEL, requests=1, tokens=10
        )
        asked = self._world.wire.ask(
            "QuotaService.Reserve", request, self._world.services["admission"].secret
        )
        return str(asked.reservation_id)

    @cached_property
    def suspension_id(self) -> str:
        """The suspension of a cap that was reached."""
        window = {"metric": limit_pb2.METRIC_REQUESTS, "window": limit_pb2.WINDOW_MINUTE, "amount": 1}
        organization = {"organization_id": self._tenant.organization_id}
        cap = limit_service_pb2.SetCapRequest(model=CAPPED_MODEL, **organization, **window)
        self._ask("LimitService.SetCap", cap)
        self._world.admit(self._tenant, model=CAPPED_MODEL)
        request = admission.AdmitRequest(
            credential=self._tenant.admin.secret,
            model=CAPPED_MODEL,
            estimated_tokens=1,
            channel=roles_pb2.CHANNEL_API,
        )
        refused = self._world.wire.call(
            named("AdmissionService.Admit"), request, self._world.services["gateway"].secret
        )
        assert refused.code == "RESOURCE_EXHAUSTED", str(refused)
        wanted = usage_service_pb2.ListSuspensionsRequest(**organization)
        return str(self._ask("UsageService.ListSuspensions", wanted).suspensions[0].suspension_id)

    @cached_property
    def limited_model(self) -> str:
        """A model that nobody calls, with a cap and an override to delete."""
        place = self._reach | {
            "model": ATTACKED_MODEL,
            "metric": limit_pb2.METRIC_REQUESTS,
            "window": limit_pb2.WINDOW_SECOND,
            "amount": 1,
        }
        self._ask("LimitService.SetCap", limit_service_pb2.SetCapRequest(**place))
        override = limit_service_pb2.SetOverrideRequest(**place)
        self._world.wire.ask("LimitService.SetOverride", override, self._world.operator.secret)
        return ATTACKED_MODEL

    @cached_property
    def zero_retention_request_id(self) -> str:
        """What asks for zero retention of a workspace of its own."""
        place = self._reach | {"workspace_id": self._workspace()}
        request = directive_service_pb2.RequestZeroRetentionRequest(
            reasons="the records are of patients", **place
        )
        asked = self._ask("DirectiveService.RequestZeroRetention", request)
        return str(asked.zero_retention_request.zero_retention_request_id)

    @cached_property
    def _completed_admission(self) -> tuple[Any, Any]:
        admitted = self._world.admit(self._tenant)
        return admitted, self._world.complete(admitted.admission_id)

    def _workspace(self) -> str:
        request = workspace_pb2.CreateWorkspaceRequest(display_name="spare")
        return str(self._ask("WorkspaceService.CreateWorkspace", request).workspace.workspace_id)

    def _new_name(self) -> str:
        return f"{self._tenant.name}-{uuid.uuid4().hex[:12]}"
