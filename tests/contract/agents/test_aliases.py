"""Names: aliases that gateways ask for, and marks that nobody may bear."""

import pytest

from tests.contract.agents.calls import ONE, call, creation, update
from tests.contract.agents.world import RESTRICTED, World, refused


async def test_an_alias_moves_at_once_and_its_name_is_free_when_it_is_deleted(world: World) -> None:
    author = world.member(world.tenant())
    first, second = await world.create(author), await world.create(author)
    fields = {"alias": "support", "name_attested": True, "agent_id": first.agent_id}
    made = (await call(world, "CreateAlias", author, **fields, request_id=ONE)).alias
    assert (await call(world, "CreateAlias", author, **fields, request_id=ONE)).alias == made
    assert (await world.resolve(author, "agent:support")).agent_id == first.agent_id

    target = {"alias": "support", "agent_id": second.agent_id, "version": 1}
    moved = (await call(world, "MoveAlias", author, **target, etag=made.etag)).alias
    assert (moved.agent_id, moved.version) == (second.agent_id, 1)
    assert (await world.resolve(author, "agent:support")).agent_id == second.agent_id
    assert (await refused(call(world, "MoveAlias", author, **target, etag=made.etag))).reason == "ETAG_STALE"
    assert (await refused(call(world, "DeleteAlias", author, alias="support", etag="x"))).code == "ABORTED"

    await call(world, "DeleteAlias", author, alias="support", etag=moved.etag)
    assert (await refused(world.resolve(author, "agent:support"))).code == "NOT_FOUND"
    await call(world, "CreateAlias", author, **fields)


async def test_a_pinned_alias_stays_at_its_version_and_another_follows_the_latest(world: World) -> None:
    author = world.member(world.tenant())
    agent = await world.create(author)
    await world.alias(author, "stable", agent.agent_id, 1)
    await world.alias(author, "newest", agent.agent_id)
    await update(world, author, agent.agent_id, instructions="two")
    assert (await world.resolve(author, "agent:stable")).version == 1
    assert (await world.resolve(author, "agent:newest")).version == 2
    error = await refused(world.alias(author, "none", agent.agent_id, 3))
    assert (error.code, error.reason) == ("NOT_FOUND", "RESOURCE_NOT_FOUND")


async def test_aliases_belong_to_those_who_manage_and_are_listed_for_those_who_see(world: World) -> None:
    tenant = world.tenant()
    author, other = world.member(tenant), world.member(tenant)
    open_one, closed = await world.create(author), await world.create(author)
    await world.share(author, closed.agent_id, RESTRICTED)
    for alias, agent in (("b-open", open_one), ("a-closed", closed), ("c-open", open_one)):
        await world.alias(author, alias, agent.agent_id)

    assert (await refused(world.alias(other, "mine", open_one.agent_id))).reason == "ROLE_MISSING"
    assert (await refused(world.alias(other, "mine", closed.agent_id))).code == "NOT_FOUND"
    assert (await refused(call(world, "DeleteAlias", other, alias="b-open"))).reason == "ROLE_MISSING"
    hidden = await refused(call(world, "DeleteAlias", other, alias="a-closed"))
    absent = await refused(call(world, "DeleteAlias", other, alias="nowhere"))
    assert (hidden.code, hidden.message) == (absent.code, absent.message) == ("NOT_FOUND", hidden.message)

    listed = (await call(world, "ListAliases", other, page_size=1)).aliases
    assert [one.alias for one in listed] == ["b-open"]
    page = await call(world, "ListAliases", author, page_size=2)
    rest = await call(world, "ListAliases", author, page_size=2, page_token=page.next_page_token)
    assert [one.alias for one in (*page.aliases, *rest.aliases)] == ["a-closed", "b-open", "c-open"]
    error = await refused(call(world, "ListAliases", other, agent_id=closed.agent_id))
    assert error.code == "NOT_FOUND"


async def test_look_alikes_are_refused_among_agents_and_among_aliases_of_one_workspace(world: World) -> None:
    tenant = world.tenant()
    author = world.member(tenant)
    agent = await world.create(author, "Support")
    for name in ("support", "Supp0rt", "Su\u0440port", " SUPPORT "):
        assert (await refused(world.create(author, name))).reason == "NAME_TAKEN"
    await world.alias(author, "support", agent.agent_id)
    error = await refused(world.alias(author, "supp0rt", agent.agent_id))
    assert (error.code, error.reason) == ("ALREADY_EXISTS", "NAME_TAKEN")
    await world.create(world.member(world.tenant()), "Support")

    other = await world.create(author, "Sales")
    mask = {"update_mask": {"paths": ["display_name"]}, "name_attested": True}
    renaming = {"agent_id": other.agent_id, "display_name": "SUPPORT"} | mask
    assert (await refused(call(world, "UpdateAgent", author, **renaming))).reason == "NAME_TAKEN"
    own = {"agent_id": agent.agent_id, "display_name": "SUPPORT"} | mask
    renamed = (await call(world, "UpdateAgent", author, **own)).agent
    assert (renamed.display_name, renamed.latest_version) == ("SUPPORT", 1)
    await call(world, "DeleteAgent", author, agent_id=agent.agent_id)
    await world.create(author, "support")


@pytest.mark.parametrize("method", ["CreateAgent", "CreateAlias", "UpdateAgent", "RestoreAgentVersion"])
async def test_nobody_bears_a_name_that_nobody_vouches_for(world: World, method: str) -> None:
    author = world.member(world.tenant())
    agent = await world.create(author)
    fields = {
        "CreateAgent": creation(name_attested=False),
        "CreateAlias": {"alias": "support", "agent_id": agent.agent_id},
        "UpdateAgent": {
            "agent_id": agent.agent_id,
            "update_mask": {"paths": ["display_name"]},
            "display_name": "x",
        },
        "RestoreAgentVersion": {"agent_id": agent.agent_id, "version": 1},
    }
    error = await refused(call(world, method, author, **fields[method]))
    assert (error.code, error.reason) == ("FAILED_PRECONDITION", "NAME_NOT_ATTESTED")


async def test_reserved_names_are_refused_wherever_a_name_is_given(world: World) -> None:
    author, operator = world.member(world.tenant()), world.operator("ADMIN")
    before = await world.create(author, "Acme Desk")
    assert (await call(world, "SetReservedNames", operator, add=["Acme", "zeta", "Beta"])).size == 3
    page = await call(world, "ListReservedNames", author, page_size=2)
    rest = await call(world, "ListReservedNames", author, page_token=page.next_page_token)
    assert [*page.names, *rest.names] == ["Acme", "Beta", "zeta"]

    for name in ("ACME", "A.C.M.E.", "\u0410cme Support"):
        error = await refused(world.create(author, name))
        assert (error.code, error.reason) == ("INVALID_ARGUMENT", "NAME_RESERVED")
    assert (await refused(world.alias(author, "acme-bot", before.agent_id))).reason == "NAME_RESERVED"
    found = (await call(world, "GetAgent", author, agent_id=before.agent_id)).agent
    assert found.display_name == "Acme Desk"

    fields = {"request_id": ONE, "add": ["ACME"], "remove": ["acme", "Zeta"]}
    for _ in range(2):
        assert (await call(world, "SetReservedNames", operator, **fields)).size == 2
    assert list((await call(world, "ListReservedNames", operator)).names) == ["ACME", "Beta"]
    error = await refused(call(world, "SetReservedNames", operator, add=["fine", "\u202e"]))
    assert (error.reason, error.violations[0].field) == ("FIELD_INVALID", "add[1]")
