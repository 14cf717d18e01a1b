"""Where agents come from, where they lead, and how they are found."""

import asyncio
from typing import Any

from perron.api.agents.v1 import agent_pb2
from perron.chassis.errors import FailedPrecondition
from tests.contract.agents.calls import call, pb, read, update
from tests.contract.agents.world import CHAT, RESTRICTED, Member, World, refused

JOB = "job_00000000000000000000000001"
MODEL = "mdl_00000000000000000000000001"


async def test_the_source_of_an_agent_over_a_fine_tuned_model_is_stamped_by_the_server(world: World) -> None:
    tenant = world.tenant()
    author = world.member(tenant)
    world.finetuning.models[tenant.workspace_id, "ft:mine"] = MODEL
    agent = await world.create(author, model="ft:mine")
    assert agent.source.kind == agent_pb2.AgentSource.KIND_FINE_TUNED_MODEL
    assert agent.source.model_id == MODEL

    deleted = FailedPrecondition("MODEL_DELETED", "the model was deleted")
    world.finetuning.models[tenant.workspace_id, "ft:mine"] = deleted
    assert (await refused(update(world, author, agent.agent_id, model="ft:mine"))).reason == "MODEL_DELETED"
    elsewhere = world.member(world.tenant())
    error = await refused(world.create(elsewhere, model="ft:mine"))
    assert (error.code, error.reason) == ("NOT_FOUND", "RESOURCE_NOT_FOUND")
    world.finetuning.answers = False
    error = await refused(world.create(author, model="ft:mine"))
    assert (error.reason, error.metadata["peer"]) == ("PEER_UNAVAILABLE", "finetuning")


async def test_a_job_makes_its_agent_once_for_its_owner_or_for_the_admins(world: World) -> None:
    tenant = world.tenant()
    owner, admin, finetuning = world.member(tenant), world.admin(tenant), world.service("finetuning")
    fields = {
        "organization_id": tenant.organization_id,
        "workspace_id": tenant.workspace_id,
        "owner_member_id": owner.member_id,
        "job_id": JOB,
        "model_id": MODEL,
        "display_name": "Tuned",
        "configuration": {"model": "ft:mine"},
    }
    made = await asyncio.gather(*(call(world, "CreateAgentForJob", finetuning, **fields) for _ in range(3)))
    (agent_id,) = {one.agent.agent_id for one in made}
    agent = (await call(world, "GetAgent", owner, agent_id=agent_id)).agent
    assert agent.owner_member_id == owner.member_id
    assert (agent.source.job_id, agent.source.model_id) == (JOB, MODEL)
    assert not (await read(world, owner, agent_id)).decision_id

    await call(world, "DeleteAgent", owner, agent_id=agent_id)
    error = await refused(call(world, "CreateAgentForJob", finetuning, **fields))
    assert (error.code, error.reason) == ("NOT_FOUND", "RESOURCE_NOT_FOUND")

    tenant.members.discard(owner.member_id)
    fields |= {"job_id": JOB[:-1] + "2", "display_name": "Tuned again"}
    orphan = (await call(world, "CreateAgentForJob", finetuning, **fields)).agent
    assert not orphan.owner_member_id
    error = await refused(update(world, world.member(tenant), orphan.agent_id))
    assert (error.code, error.reason) == ("PERMISSION_DENIED", "ROLE_MISSING")
    await update(world, admin, orphan.agent_id)


async def test_what_a_job_may_promise_is_what_its_creator_might_make_and_reserves_nothing(
    world: World,
) -> None:
    tenant = world.tenant()
    author, reader = world.member(tenant), world.member(tenant, scopes=("AGENTS_READ",))
    hidden = await world.create(world.member(tenant), "Hidden")
    await world.share(world.admin(tenant), hidden.agent_id, RESTRICTED)

    async def validate(who: Member = author, **fields: Any) -> Any:
        asked = {
            "passport": world.sign(who),
            "display_name": "Tuned",
            "name_attested": True,
            "configuration": {"model": "ft:mine"},
        }
        return await call(world, "ValidateAgentForJob", world.service("finetuning"), **asked | fields)

    for _ in range(2):
        await validate()
    assert (await refused(validate(name_attested=False))).reason == "NAME_NOT_ATTESTED"
    assert (await refused(validate(display_name="hidden"))).reason == "NAME_TAKEN"
    for model in ("small", ""):
        error = await refused(validate(configuration={"model": model}))
        assert (error.reason, error.violations[0].field) == ("FIELD_INVALID", "configuration.model")
    error = await refused(world.create(author, model=""))
    assert (error.reason, error.violations[0].field) == ("FIELD_INVALID", "configuration.model")
    error = await refused(
        validate(configuration={"model": "ft:mine", "handoff_agent_ids": [hidden.agent_id]})
    )
    assert error.reason == "HANDOFF_UNKNOWN"
    error = await refused(validate(reader))
    assert (error.reason, error.metadata["scope"]) == ("SCOPE_MISSING", "AGENTS_WRITE")
    assert not world.finetuning.asked
    assert not world.governance.decided[1:]  # but for the agent that was hidden


async def test_an_operator_disables_with_a_reason_and_reads_content_for_a_case_only(world: World) -> None:
    tenant = world.tenant()
    author, admin, legal = world.member(tenant), world.operator("ADMIN"), world.operator("LEGAL")
    agent = await world.create(author, instructions="secret")
    named = {"organization_id": tenant.organization_id, "agent_id": agent.agent_id}
    disabled = (await call(world, "DisableAgent", admin, **named, reason="Complaint 7")).agent
    assert disabled.state == agent_pb2.Agent.STATE_DISABLED
    assert (
        await call(world, "GetAgent", author, agent_id=agent.agent_id)
    ).agent.disable_reason == "Complaint 7"
    assert (await read(world, author, agent.agent_id)).configuration.instructions == "secret"
    assert not (await call(world, "EnableAgent", admin, **named)).agent.disable_reason

    assert not (await call(world, "GetAgent", legal, **named)).agent.effective_channels
    assert (await refused(call(world, "GetAgentVersion", admin, **named))).code == "PERMISSION_DENIED"
    assert (await refused(call(world, "GetAgentVersion", legal, **named))).reason == "CASE_REFERENCE_MISSING"
    found = await call(world, "GetAgentVersion", legal, **named, case_reference="C-1")
    assert found.version.configuration.instructions == "secret"
    other = named | {"organization_id": world.tenant().organization_id}
    assert (await refused(call(world, "GetAgent", legal, **other))).code == "NOT_FOUND"


async def test_an_exported_document_makes_the_same_agent_elsewhere(world: World) -> None:
    author, elsewhere = world.member(world.tenant()), world.member(world.tenant())
    agent = await world.create(author, "Support", instructions="Be brief.", tools=[{"code_interpreter": {}}])
    document = (await call(world, "ExportAgent", author, agent_id=agent.agent_id)).document
    fields = {"document": document, "name_attested": True}
    copy = (await call(world, "ImportAgent", elsewhere, **fields)).agent

    assert copy.source.kind == agent_pb2.AgentSource.KIND_IMPORT
    assert copy.name_attestation.occasion == agent_pb2.NameAttestation.OCCASION_IMPORT
    assert (await read(world, elsewhere, copy.agent_id)).configuration == document.configuration
    assert (await refused(call(world, "ImportAgent", elsewhere, **fields))).reason == "NAME_TAKEN"
    document.configuration.instructions = "\x00"
    error = await refused(call(world, "ImportAgent", elsewhere, document=document, name_attested=True))
    assert error.violations[0].field == "document.configuration.instructions"


async def test_handoffs_name_agents_that_the_author_sees_and_never_a_circle(world: World) -> None:
    tenant = world.tenant()
    author, other = world.member(tenant), world.member(tenant)
    first = await world.create(author)
    second = await world.create(author, handoff_agent_ids=[first.agent_id])
    error = await refused(update(world, author, first.agent_id, handoff_agent_ids=[second.agent_id]))
    assert error.reason == "HANDOFF_CYCLE"
    await world.share(author, first.agent_id, RESTRICTED)
    error = await refused(world.create(other, handoff_agent_ids=[first.agent_id]))
    assert error.reason == "HANDOFF_UNKNOWN"
    elsewhere = await world.create(world.member(world.tenant()))
    error = await refused(world.create(author, handoff_agent_ids=[elsewhere.agent_id]))
    assert error.reason == "HANDOFF_UNKNOWN"


async def test_lists_page_in_each_order_and_show_what_the_caller_sees(world: World) -> None:
    tenant = world.tenant()
    author, other = world.member(tenant), world.member(tenant)
    names = ["delta", "Alpha", "charlie", "Bravo", "echo"]
    made = [await world.create(author, name) for name in names]
    await world.share(author, made[0].agent_id, RESTRICTED)
    await world.share(author, made[1].agent_id, RESTRICTED, other)

    async def listed(who: Member, **fields: Any) -> list[str]:
        found, token = [], ""
        while True:
            page = await call(world, "ListAgents", who, page_size=2, page_token=token, **fields)
            found += [one.display_name for one in page.agents]
            token = page.next_page_token
            if not token:
                return found

    assert await listed(author) == names
    assert await listed(author, order=pb.ListAgentsRequest.ORDER_CREATE_TIME_DESCENDING) == names[::-1]
    by_name = pb.ListAgentsRequest.ORDER_DISPLAY_NAME
    assert await listed(author, order=by_name) == ["Alpha", "Bravo", "charlie", "delta", "echo"]
    assert await listed(other) == names[1:]
    assert await listed(other, order=by_name) == ["Alpha", "Bravo", "charlie", "echo"]
    assert await listed(other, owner_member_id=other.member_id) == []
    await call(world, "UnpublishAgent", author, agent_id=made[2].agent_id, channel=CHAT)
    assert await listed(author, channel=CHAT) == ["delta", "Alpha", "Bravo", "echo"]
    named = {"organization_id": tenant.organization_id, "agent_id": made[3].agent_id}
    await call(world, "DisableAgent", world.operator("ADMIN"), **named, reason="x")
    assert await listed(other, state=agent_pb2.Agent.STATE_DISABLED) == ["Bravo"]
    tenant.entitlements = {}
    assert await listed(other) == []
