"""What agents asks other services, always in the call that needs it: nothing is remembered."""

import itertools
from collections.abc import Collection, Sequence
from typing import Final

from perron.agents import errors
from perron.agents.visibility import Entitlements
from perron.api.common.v1 import roles_pb2
from perron.api.finetuning.v1 import model_service_pb2, model_service_pb2_grpc
from perron.api.governance.v1 import (
    decision_pb2,
    decision_service_pb2,
    decision_service_pb2_grpc,
    directive_service_pb2,
    directive_service_pb2_grpc,
)
from perron.api.identity.v1 import (
    organization_pb2,
    organization_pb2_grpc,
    workspace_pb2,
    workspace_pb2_grpc,
)
from perron.chassis.channels import Peer, outcomes
from perron.chassis.errors import NotFound, PerronError

_ITEMS_MAX: Final = 128
_OF_THE_MODEL: Final = frozenset({"RESOURCE_NOT_FOUND", "MODEL_DELETED", "MODEL_ARCHIVED"})
"""Refusals of finetuning that speak of the model; any other speaks of us, and is no news to the caller."""


class Governance:
    """Under what terms configurations are kept, and what holds for workspaces and agents."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._decisions = decision_service_pb2_grpc.DecisionServiceStub(peer.channel)
        self._directives = directive_service_pb2_grpc.DirectiveServiceStub(peer.channel)

    async def decide(self, passport: str, request_id: str) -> str:
        """Returns the decision under which a person's configuration is kept.

        Asked again with the same request id, it is the same one. Raises Unavailable (PEER_UNAVAILABLE).
        """
        response = await self._peer.call(
            self._decisions.Decide,
            decision_service_pb2.DecideRequest(
                passport=passport,
                data_kind=decision_pb2.DATA_KIND_AGENT,
                channel=roles_pb2.CHANNEL_API,
                request_id=request_id,
            ),
        )
        decision_id: str = response.decision.decision_id
        return decision_id

    async def directives(
        self, scopes: Sequence[tuple[str, str, str]]
    ) -> list[directive_service_pb2.Directives | PerronError]:
        """Returns what is in force for each (organization, workspace, resource), in their order.

        Raises Unavailable (PEER_UNAVAILABLE).
        """
        found: list[directive_service_pb2.Directives | PerronError] = []
        waiting = iter(scopes)
        while chunk := tuple(itertools.islice(waiting, _ITEMS_MAX)):
            items = [
                directive_service_pb2.GetDirectivesItem(
                    organization_id=organization_id, workspace_id=workspace_id, resource_id=resource_id
                )
                for organization_id, workspace_id, resource_id in chunk
            ]
            response = await self._peer.call(
                self._directives.BatchGetDirectives,
                directive_service_pb2.BatchGetDirectivesRequest(items=items),
            )
            found += outcomes(response)
        return found

    async def may_erase(self, scopes: Sequence[tuple[str, str, str]]) -> list[bool]:
        """Tells of each agent whether governance says that nothing holds it; silence says nothing."""
        try:
            found = await self.directives(scopes)
        except PerronError:
            return [False] * len(scopes)
        return [not isinstance(one, PerronError) and not one.held for one in found]


class Members:
    """Who belongs to a workspace, and which workspace to an organization."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._stub = workspace_pb2_grpc.WorkspaceServiceStub(peer.channel)
        self._organizations = organization_pb2_grpc.OrganizationServiceStub(peer.channel)

    async def require_workspace(self, organization_id: str, workspace_id: str) -> None:
        """Raises NotFound (RESOURCE_NOT_FOUND) where the workspace is not one of the organization."""
        item = organization_pb2.GetStandingItem(workspace_id=workspace_id)
        response = await self._peer.call(
            self._organizations.BatchGetStanding, organization_pb2.BatchGetStandingRequest(items=[item])
        )
        (found,) = outcomes(response)
        if isinstance(found, NotFound):
            raise errors.missing("workspace")
        if isinstance(found, PerronError):
            raise found
        if found.organization_id != organization_id:
            raise errors.missing("workspace")

    async def among(
        self, organization_id: str, workspace_id: str, member_ids: Collection[str]
    ) -> frozenset[str]:
        """Returns those of the members who belong to the workspace. Raises Unavailable (PEER_UNAVAILABLE)."""
        found: set[str] = set()
        waiting = iter(sorted(set(member_ids)))
        while chunk := tuple(itertools.islice(waiting, _ITEMS_MAX)):
            items = [
                workspace_pb2.GetMemberItem(
                    organization_id=organization_id, workspace_id=workspace_id, member_id=one
                )
                for one in chunk
            ]
            response = await self._peer.call(
                self._stub.BatchGetMembers, workspace_pb2.BatchGetMembersRequest(items=items)
            )
            for member_id, outcome in zip(chunk, outcomes(response), strict=True):
                if not isinstance(outcome, PerronError):
                    found.add(member_id)
                elif not isinstance(outcome, NotFound):
                    raise outcome
        return frozenset(found)

    async def require(self, organization_id: str, workspace_id: str, member_ids: Collection[str]) -> None:
        """Raises FailedPrecondition (MEMBER_UNKNOWN) where one of the members is not in the workspace."""
        if await self.among(organization_id, workspace_id, member_ids) != frozenset(member_ids):
            raise errors.member_unknown()


class Models:
    """What stands behind the names of fine-tuned models; `peer` is None where finetuning does not run."""

    def __init__(self, peer: Peer | None) -> None:
        self._peer = peer
        self._stub = model_service_pb2_grpc.ModelServiceStub(peer.channel) if peer is not None else None

    async def resolve(self, asked: Sequence[tuple[str, str]]) -> list[str | PerronError]:
        """Returns the id of each (passport, model), in their order, or why there is none; 128 at most."""
        if self._peer is None or self._stub is None:
            return [errors.peer_unavailable("finetuning")] * len(asked)
        passports = list(dict.fromkeys(passport for passport, _ in asked))
        request = model_service_pb2.BatchResolveRequest(
            passports=passports,
            items=[
                model_service_pb2.ResolveItem(passport_index=passports.index(passport), model=model)
                for passport, model in asked
            ],
        )
        try:
            found = outcomes(await self._peer.call(self._stub.BatchResolve, request))
        except PerronError as error:
            found = [error] * len(asked)
        return [_of_the_model(one) if isinstance(one, PerronError) else str(one.model_id) for one in found]

    async def require(self, passport: str, model: str) -> str:
        """Returns the id of one fine-tuned model. Raises why there is none."""
        (found,) = await self.resolve([(passport, model)])
        if isinstance(found, PerronError):
            raise found
        return found


def _of_the_model(refusal: PerronError) -> PerronError:
    return refusal if refusal.reason in _OF_THE_MODEL else errors.peer_unavailable("finetuning")


class Plans:
    """What the plans of organizations give."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._stub = organization_pb2_grpc.OrganizationServiceStub(peer.channel)

    async def entitlements(self, workspace_ids: Sequence[str]) -> dict[str, Entitlements]:
        """Returns what the plan of each workspace's organization gives; 128 at most.

        A workspace that identity does not know is left out. Raises Unavailable (PEER_UNAVAILABLE).
        """
        if not workspace_ids:
            return {}
        standings = await self._peer.call(
            self._stub.BatchGetStanding,
            organization_pb2.BatchGetStandingRequest(
                items=[organization_pb2.GetStandingItem(workspace_id=one) for one in workspace_ids]
            ),
        )
        listed = await self._peer.call(self._stub.ListPlans, organization_pb2.ListPlansRequest())
        plans = {plan.name: Entitlements.of(plan.entitlements) for plan in listed.plans}
        found: dict[str, Entitlements] = {}
        for workspace_id, outcome in zip(workspace_ids, outcomes(standings), strict=True):
            if not isinstance(outcome, PerronError):
                found[workspace_id] = plans.get(outcome.plan, Entitlements.of({}))
            elif not isinstance(outcome, NotFound):
                raise outcome
        return found
