"""Cases 3, 4 and the record's part of 9 of the conformance cases."""

from datetime import timedelta

from perron.api.governance.v1 import record_pb2
from tests.contract.governance.world import World, purposes, refused


async def test_admitted_free_and_completed_after_the_upgrade_takes_the_narrower_rule(world: World) -> None:
    tenant = world.tenant()
    decided = await world.decide(tenant)
    assert decided.decision.training_eligible
    subscription = tenant.upgrade()
    put = await world.put(tenant, decided.decision)
    assert put.recorded
    (kept,) = await world.listed(world.customer(tenant))
    assert not kept.training_eligible
    assert set(purposes(kept)) == {"PROVIDE_SERVICES", "MONITOR_ABUSE"}
    assert all(("END_OF_SUBSCRIPTION", subscription) in until for until in purposes(kept).values())
    tenant.downgrade()
    assert await world.listed(world.customer(tenant)) == []
    assert (await refused(world.read(world.customer(tenant), put.record_id))).reason == "RESOURCE_NOT_FOUND"


async def test_admitted_paid_and_completed_after_the_downgrade_is_discarded_with_the_reason(
    world: World,
) -> None:
    tenant = world.paying()
    decided = await world.decide(tenant)
    tenant.downgrade()
    put = await world.put(tenant, decided.decision)
    assert not put.recorded
    assert put.reason == record_pb2.DISCARD_REASON_SUBSCRIPTION_ENDED
    assert await world.listed(world.customer(tenant)) == []


async def test_a_new_subscription_does_not_bring_back_what_the_old_one_admitted(world: World) -> None:
    tenant = world.paying()
    decided = await world.decide(tenant)
    tenant.upgrade()
    put = await world.put(tenant, decided.decision)
    assert put.reason == record_pb2.DISCARD_REASON_SUBSCRIPTION_ENDED


async def test_a_change_of_tier_under_the_same_subscription_ends_nothing(world: World) -> None:
    tenant = world.paying()
    decided = await world.decide(tenant)
    tenant.plan = "scale"
    put = await world.put(tenant, decided.decision)
    assert put.recorded
    assert len(await world.listed(world.customer(tenant))) == 1


async def test_each_purpose_ends_at_its_own_deadline_and_the_record_with_the_last(world: World) -> None:
    tenant = world.tenant()
    abuse = world.operator("ABUSE_REVIEWER")
    put = await world.put(tenant, (await world.decide(tenant)).decision)
    fields = {"organization_id": tenant.organization_id}
    assert (await world.read(abuse, put.record_id, "MONITOR_ABUSE", **fields))[1:] == (b"question", b"answer")
    world.clock.advance(timedelta(days=30))
    ended = await refused(world.read(abuse, put.record_id, "MONITOR_ABUSE", **fields))
    assert (ended.code, ended.reason) == ("FAILED_PRECONDITION", "PURPOSE_ENDED")
    customer = world.customer(tenant)
    assert set(purposes((await world.listed(customer))[0])) == {"PROVIDE_SERVICES", "IMPROVE_SERVICES"}
    assert (await world.read(customer, put.record_id))[1] == b"question"
    world.clock.advance(timedelta(days=335, microseconds=-1))
    assert (await world.read(customer, put.record_id))[1] == b"question"
    world.clock.advance(timedelta(microseconds=1))
    assert (await refused(world.read(customer, put.record_id))).reason == "RESOURCE_NOT_FOUND"
    assert await world.listed(customer) == []
