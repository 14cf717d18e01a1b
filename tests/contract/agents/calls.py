"""Calls of AgentService in few words."""

from typing import Any

from perron.api.agents.v1 import agent_service_pb2
from tests.contract.agents.world import Member, Metadata, World

pb = agent_service_pb2
ONE = "0190f5a0-7d3b-7c4e-8a52-2f9c1f9b3e11"


async def call(world: World, method: str, who: Member | Metadata, **fields: Any) -> Any:
    """Calls a method of AgentService by its name."""
    request = getattr(pb, f"{method}Request")(**fields)
    key = who.key if isinstance(who, Member) else who
    return await getattr(world.agents, method)(request, metadata=key)


async def update(world: World, who: Member, agent_id: str, etag: str = "", **configuration: Any) -> Any:
    """Writes another configuration."""
    return await call(
        world,
        "UpdateAgent",
        who,
        agent_id=agent_id,
        etag=etag,
        update_mask={"paths": ["configuration"]},
        configuration={"model": "small"} | configuration,
    )


async def read(world: World, who: Member, agent_id: str, version: int = 0) -> Any:
    answer = await call(world, "GetAgentVersion", who, agent_id=agent_id, version=version)
    return answer.version


def creation(**fields: Any) -> dict[str, Any]:
    return {
        "request_id": ONE,
        "display_name": "Support",
        "name_attested": True,
        "configuration": {"model": "small", "instructions": "Be brief."},
    } | fields
