"""Every method, whoever calls, however the agent is shared: as one small rule says it.

A method that the rule does not place fails; so does an agents that forgets a part of the rule.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import grpc
import pytest
import sqlalchemy

from perron.agents import finding, list_store, resolving, tables, visibility
from perron.api.agents.v1 import agent_service_pb2 as pb
from perron.api.agents.v1 import sharing_service_pb2 as sharing_pb
from perron.chassis import status
from perron.chassis.errors import PerronError
from perron.chassis.ids import new_id
from tests.contract.agents.peers import Tenant
from tests.contract.agents.sharing_rule import (
    METHODS,
    OPERATOR_ROLES,
    PARTY,
    RULES,
    SEEN_BY,
    SERVICE,
    Cell,
    Needs,
    Situation,
    Who,
    access_of,
    expected,
    fresh,
    is_asked_for_people,
)
from tests.contract.agents.world import RESTRICTED, SHARED, Member, Metadata, World


class Stage:
    """The people of one workspace, and agents in every situation."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.tenant = world.tenant()
        self.plan = dict(self.tenant.entitlements)
        neighbour = world.tenant(neighbour_of(self.tenant))
        self.people = {
            Who.OWNER: world.member(self.tenant),
            Who.ADMIN: world.admin(self.tenant),
            Who.NAMED: world.member(self.tenant),
            Who.OTHER: world.member(self.tenant),
            Who.ELSEWHERE: world.member(neighbour, organization_role="ADMIN"),
        }
        self.operator = world.operator(*OPERATOR_ROLES)
        self.service = world.service(SERVICE)

    async def cell(self, who: Who, situation: Situation, method: str) -> Cell:
        """Prepares a call; the plan is the last thing to change."""
        self.tenant.entitlements.update(self.plan)
        agent_id, alias = new_id("agt"), fresh()
        if RULES[method].needs is Needs.NOTHING:
            await self._acknowledge()
        else:
            agent_id = await self._agent(situation, alias)
        if situation is Situation.WITHOUT_SHARING:
            del self.tenant.entitlements["agent_sharing"]
        return Cell(self.world, who, *self._caller(who, method), self.people[Who.NAMED], agent_id, alias)

    async def _agent(self, situation: Situation, alias: str) -> str:
        world, owner, named = self.world, self.people[Who.OWNER], self.people[Who.NAMED]
        agent = await world.create(owner)
        await world.alias(owner, alias, agent.agent_id)
        await world.share(owner, agent.agent_id, RESTRICTED, named)
        if situation is not Situation.RESTRICTED:
            await world.share(owner, agent.agent_id, SHARED)
        if situation is Situation.DISABLED:
            request = pb.DisableAgentRequest(
                organization_id=self.tenant.organization_id, agent_id=agent.agent_id, reason="why"
            )
            await world.agents.DisableAgent(request, metadata=self.operator)
        if situation is Situation.DELETED:
            await world.agents.DeleteAgent(pb.DeleteAgentRequest(agent_id=agent.agent_id), metadata=owner.key)
        return agent.agent_id

    async def _acknowledge(self) -> None:
        for admin in (self.people[Who.ADMIN], self.people[Who.ELSEWHERE]):
            await self.world.sharing.AcknowledgeThirdParty(
                sharing_pb.AcknowledgeThirdPartyRequest(**PARTY), metadata=admin.key
            )

    def _caller(self, who: Who, method: str) -> tuple[Member, Metadata]:
        if who is Who.OPERATOR:
            return self.people[Who.OWNER], self.operator
        if who is Who.SERVICE:
            return self.people[Who.OWNER], self.service
        person = self.people[who]
        if not is_asked_for_people(method):
            return person, person.key
        return person, self.service if SERVICE in access_of(method).service.names else self.world.admission


def neighbour_of(tenant: Tenant) -> Tenant:
    """Another workspace of the organization, for which its plan stays as it is."""
    neighbour = tenant.second_workspace()
    neighbour.entitlements = dict(tenant.entitlements)
    return neighbour


async def outcome(cell: Cell, method: str) -> PerronError | Any:
    """What a call answers: a message, or the refusal, in a batch its one item's."""
    stub = cell.world.agents if hasattr(cell.world.agents, method) else cell.world.sharing
    try:
        response = await getattr(stub, method)(RULES[method].request(cell), metadata=cell.key)
    except grpc.aio.AioRpcError as error:
        return status.from_rpc_error(error)
    if method == "BatchResolve" and response.results[0].HasField("error"):
        return status.from_status(response.results[0].error)
    return response


def reason_of(found: PerronError | Any) -> str:
    return found.reason if isinstance(found, PerronError) else ""


def cells() -> Iterator[tuple[Who, Situation]]:
    return ((who, situation) for who in Who for situation in Situation)


def test_every_method_is_placed() -> None:
    assert set(RULES) == set(METHODS)


@pytest.mark.parametrize("method", sorted(RULES))
async def test_a_method_answers_everybody_as_the_rule_says(world: World, method: str) -> None:
    stage = Stage(world)
    for who, situation in cells():
        cell = await stage.cell(who, situation, method)
        found = await outcome(cell, method)
        assert reason_of(found) == expected(method, who, situation), (who, situation)
        if reason_of(found) == "RESOURCE_NOT_FOUND":
            never = await outcome(replace(cell, agent_id=new_id("agt"), alias=fresh()), method)
            assert str(found) == str(never), (who, situation)
        if RULES[method].needs is Needs.LISTED and not isinstance(found, PerronError):
            is_listed = cell.agent_id in {agent.agent_id for agent in found.agents}
            assert is_listed == (who in SEEN_BY[situation]), (who, situation)


FORGETFUL: dict[str, Callable[..., bool]] = {
    "the plan": lambda person, agent, *, is_named: (
        visibility.manages(person, agent)
        or (
            person.workspace_id == agent.workspace_id
            and (agent.sharing_mode is visibility.SharingMode.WORKSPACE or is_named)
        )
    ),
    "who is named": lambda person, agent, *, is_named: visibility.sees(person, agent, is_named=False),
    "that it is restricted": lambda person, agent, *, is_named: visibility.sees(person, agent, is_named=True),
    "the workspace": lambda person, agent, *, is_named: visibility.sees(
        person._replace(workspace_id=agent.workspace_id), agent, is_named=is_named
    ),
}


@pytest.mark.parametrize("forgotten", FORGETFUL)
@pytest.mark.parametrize("method", ["GetAgent", "Resolve"])
async def test_the_matrix_notices_a_rule_that_forgets(
    world: World, monkeypatch: pytest.MonkeyPatch, method: str, forgotten: str
) -> None:
    for module in (finding, resolving):
        monkeypatch.setattr(module, "sees", FORGETFUL[forgotten])
    stage = Stage(world)
    answered = {
        (who, situation): reason_of(await outcome(await stage.cell(who, situation, method), method))
        for who, situation in cells()
        if who in {Who.NAMED, Who.OTHER, Who.ELSEWHERE}
    }
    assert any(found != expected(method, *cell) for cell, found in answered.items())


async def test_the_matrix_notices_a_list_that_shows_everything(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        list_store, "ways_to_see", lambda *_: [list_store.Way(sqlalchemy.true(), tables.agents)]
    )
    cell = await Stage(world).cell(Who.OTHER, Situation.RESTRICTED, "ListAgents")
    found = await outcome(cell, "ListAgents")
    assert cell.agent_id in {agent.agent_id for agent in found.agents}
