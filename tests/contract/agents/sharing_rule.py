"""The rule that the sharing matrix holds every method against, and one request of each method.

Who may call at all is read from the contract; the rule says only what a method needs of the agent that it
names. A new method is placed in `RULES`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

from perron.api.agents.v1 import agent_service_pb2 as pb
from perron.api.agents.v1 import configuration_pb2
from perron.api.agents.v1 import sharing_service_pb2 as sharing_pb
from perron.api.common.v1 import access_pb2, roles_pb2
from perron.chassis.ids import new_id
from tests.contract.agents.world import API, RESTRICTED, Member, Metadata, World


class Who(StrEnum):
    OWNER = "owner"
    ADMIN = "admin"
    NAMED = "named member"
    OTHER = "other member"
    ELSEWHERE = "organization's admin, with a key of another workspace"
    OPERATOR = "operator"
    SERVICE = "service"


class Situation(StrEnum):
    WORKSPACE = "shared with the workspace"
    RESTRICTED = "restricted"
    DISABLED = "disabled"
    DELETED = "deleted"
    WITHOUT_SHARING = "plan without sharing"


class Needs(StrEnum):
    NOTHING = "names no agent"
    SEEN = "the caller sees the agent"
    LISTED = "answers anyway, with the agent where the caller sees it"
    MANAGED = "the caller owns the agent or is an admin"
    USED = "the caller sees the agent, which is not disabled"


EVERYBODY = {Who.OWNER, Who.ADMIN, Who.NAMED, Who.OTHER}
SEEN_BY = {
    Situation.WORKSPACE: EVERYBODY | {Who.OPERATOR},
    Situation.RESTRICTED: EVERYBODY - {Who.OTHER} | {Who.OPERATOR},
    Situation.DISABLED: EVERYBODY | {Who.OPERATOR},
    Situation.DELETED: set(),
    Situation.WITHOUT_SHARING: {Who.OWNER, Who.ADMIN, Who.OPERATOR},
}
MANAGED_BY = {Who.OWNER, Who.ADMIN}
ADMINS = {Who.ADMIN, Who.ELSEWHERE}
SERVICE = "finetuning"
OPERATOR_ROLES = ("ADMIN", "LEGAL")


@dataclass(frozen=True)
class Cell:
    """One call to be made: by whom, about which agent."""

    world: World
    who: Who
    caller: Member
    """Whoever calls; for operators and services, the owner."""
    key: Metadata
    named: Member
    agent_id: str
    alias: str

    @property
    def organization_id(self) -> str:
        return self.caller.tenant.organization_id if self.who is Who.OPERATOR else ""

    @property
    def workspace_id(self) -> str:
        return self.caller.tenant.workspace_id if self.who is Who.OPERATOR else ""

    @property
    def passport(self) -> str:
        return self.world.sign(self.caller)


class Placed(NamedTuple):
    needs: Needs
    request: Callable[[Cell], Any]


def configuration(**fields: Any) -> configuration_pb2.AgentConfiguration:
    return configuration_pb2.AgentConfiguration(**{"model": "small"} | fields)


def fresh() -> str:
    return new_id("x")[-20:]


def attested(**fields: Any) -> dict[str, Any]:
    return {"display_name": fresh(), "name_attested": True} | fields


def create_for_job(cell: Cell) -> pb.CreateAgentForJobRequest:
    return pb.CreateAgentForJobRequest(
        organization_id=cell.caller.tenant.organization_id,
        workspace_id=cell.caller.tenant.workspace_id,
        owner_member_id=cell.caller.member_id,
        job_id=new_id("job"),
        model_id=new_id("mdl"),
        display_name=fresh(),
        configuration=configuration(model="ft:small:job"),
    )


def operated(cell: Cell) -> dict[str, str]:
    return {"organization_id": cell.caller.tenant.organization_id, "agent_id": cell.agent_id}


def ask(cell: Cell) -> dict[str, str]:
    return {"organization_id": cell.organization_id, "agent_id": cell.agent_id}


PARTY = {"third_party": "web_search"}
RULES: dict[str, Placed] = {
    "CreateAgent": Placed(
        Needs.NOTHING, lambda cell: pb.CreateAgentRequest(**attested(configuration=configuration()))
    ),
    "CreateAgentForJob": Placed(Needs.NOTHING, create_for_job),
    "ValidateAgentForJob": Placed(
        Needs.NOTHING,
        lambda cell: pb.ValidateAgentForJobRequest(
            **attested(passport=cell.passport, configuration=configuration(model="ft:small:job"))
        ),
    ),
    "ImportAgent": Placed(
        Needs.NOTHING,
        lambda cell: pb.ImportAgentRequest(
            document={
                "format": "perron.agent/v1",
                "display_name": fresh(),
                "configuration": configuration(),
            },
            name_attested=True,
        ),
    ),
    "ListReservedNames": Placed(Needs.NOTHING, lambda cell: pb.ListReservedNamesRequest()),
    "SetReservedNames": Placed(Needs.NOTHING, lambda cell: pb.SetReservedNamesRequest(add=[fresh()])),
    "AcknowledgeThirdParty": Placed(
        Needs.NOTHING, lambda cell: sharing_pb.AcknowledgeThirdPartyRequest(**PARTY)
    ),
    "WithdrawAcknowledgement": Placed(
        Needs.NOTHING, lambda cell: sharing_pb.WithdrawAcknowledgementRequest(**PARTY)
    ),
    "ListAcknowledgements": Placed(Needs.NOTHING, lambda cell: sharing_pb.ListAcknowledgementsRequest()),
    "GetAgent": Placed(Needs.SEEN, lambda cell: pb.GetAgentRequest(**ask(cell))),
    "ListAgentVersions": Placed(Needs.SEEN, lambda cell: pb.ListAgentVersionsRequest(agent_id=cell.agent_id)),
    "GetAgentVersion": Placed(
        Needs.SEEN, lambda cell: pb.GetAgentVersionRequest(**ask(cell), case_reference="case 7")
    ),
    "ExportAgent": Placed(Needs.SEEN, lambda cell: pb.ExportAgentRequest(agent_id=cell.agent_id)),
    "ListAliases": Placed(Needs.SEEN, lambda cell: pb.ListAliasesRequest(agent_id=cell.agent_id)),
    "GetSharing": Placed(Needs.SEEN, lambda cell: sharing_pb.GetSharingRequest(agent_id=cell.agent_id)),
    "DisableAgent": Placed(Needs.SEEN, lambda cell: pb.DisableAgentRequest(**operated(cell), reason="why")),
    "EnableAgent": Placed(Needs.SEEN, lambda cell: pb.EnableAgentRequest(**operated(cell))),
    "ListAgents": Placed(
        Needs.LISTED,
        lambda cell: pb.ListAgentsRequest(
            organization_id=cell.organization_id, workspace_id=cell.workspace_id, page_size=1000
        ),
    ),
    "UpdateAgent": Placed(
        Needs.MANAGED,
        lambda cell: pb.UpdateAgentRequest(
            agent_id=cell.agent_id,
            update_mask={"paths": ["configuration"]},
            configuration=configuration(instructions="now this"),
        ),
    ),
    "DeleteAgent": Placed(Needs.MANAGED, lambda cell: pb.DeleteAgentRequest(agent_id=cell.agent_id)),
    "RestoreAgentVersion": Placed(
        Needs.MANAGED,
        lambda cell: pb.RestoreAgentVersionRequest(agent_id=cell.agent_id, version=1, name_attested=True),
    ),
    "PublishAgent": Placed(
        Needs.MANAGED, lambda cell: pb.PublishAgentRequest(agent_id=cell.agent_id, channel=API)
    ),
    "UnpublishAgent": Placed(
        Needs.MANAGED, lambda cell: pb.UnpublishAgentRequest(agent_id=cell.agent_id, channel=API)
    ),
    "CreateAlias": Placed(
        Needs.MANAGED,
        lambda cell: pb.CreateAliasRequest(alias=fresh(), name_attested=True, agent_id=cell.agent_id),
    ),
    "MoveAlias": Placed(
        Needs.MANAGED, lambda cell: pb.MoveAliasRequest(alias=cell.alias, agent_id=cell.agent_id)
    ),
    "DeleteAlias": Placed(Needs.MANAGED, lambda cell: pb.DeleteAliasRequest(alias=cell.alias)),
    "SetSharing": Placed(
        Needs.MANAGED,
        lambda cell: sharing_pb.SetSharingRequest(
            agent_id=cell.agent_id, mode=RESTRICTED, member_ids=[cell.named.member_id]
        ),
    ),
    "Resolve": Placed(
        Needs.USED,
        lambda cell: pb.ResolveRequest(passport=cell.passport, agent=cell.agent_id, channel=API),
    ),
    "BatchResolve": Placed(
        Needs.USED,
        lambda cell: pb.BatchResolveRequest(
            passports=[cell.passport], items=[{"agent": f"agent:{cell.alias}", "channel": API}]
        ),
    ),
}
SERVICES = [
    module.DESCRIPTOR.services_by_name[name]
    for module, name in ((pb, "AgentService"), (sharing_pb, "SharingService"))
]
METHODS = {method.name: method for service in SERVICES for method in service.methods}


def access_of(method: str) -> Any:
    return METHODS[method].GetOptions().Extensions[access_pb2.access]


def is_asked_for_people(method: str) -> bool:
    """Whether a service asks on somebody's behalf; customers then come with a passport."""
    return bool(access_of(method).service.passport)


def expected(method: str, who: Who, situation: Situation) -> str:
    """The reason of the refusal, or nothing."""
    if reason := _refused_by_contract(method, who):
        return reason
    needs = RULES[method].needs
    if needs in {Needs.NOTHING, Needs.LISTED}:
        return ""
    if who not in SEEN_BY[situation]:
        return "RESOURCE_NOT_FOUND"
    if needs is Needs.MANAGED and who not in MANAGED_BY:
        return "ROLE_MISSING"
    return "AGENT_DISABLED" if needs is Needs.USED and situation is Situation.DISABLED else ""


def _refused_by_contract(method: str, who: Who) -> str:
    access = access_of(method)
    if who is Who.SERVICE:
        return "" if SERVICE in access.service.names else "CALLER_NOT_ALLOWED"
    if who is Who.OPERATOR:
        wanted = {roles_pb2.OperatorRole.Value(f"OPERATOR_ROLE_{role}") for role in OPERATOR_ROLES}
        return "" if wanted & set(access.operator.roles) else "CALLER_NOT_ALLOWED"
    if is_asked_for_people(method):
        return ""
    if not access.HasField("customer"):
        return "CALLER_NOT_ALLOWED"
    return "ROLE_MISSING" if access.customer.workspace_roles and who not in ADMINS else ""
