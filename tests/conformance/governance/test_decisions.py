"""Cases 1, 2, 5, 10 and 12 of the conformance cases."""

from datetime import timedelta

from google.protobuf.descriptor import FieldDescriptor

from perron.api.common.v1 import roles_pb2
from perron.api.governance.v1 import decision_pb2, decision_service_pb2, directive_pb2
from tests.contract.governance.world import World, purposes

DAY_US = 86_400_000_000


async def test_free_inference_has_three_purposes_with_their_deadlines_and_is_eligible(world: World) -> None:
    decision = (await world.decide(world.tenant())).decision
    as_of = decision.as_of_time.ToMicroseconds()
    assert purposes(decision) == {
        "PROVIDE_SERVICES": [("TIME", as_of + 365 * DAY_US)],
        "MONITOR_ABUSE": [("TIME", as_of + 30 * DAY_US)],
        "IMPROVE_SERVICES": [("TIME", as_of + 365 * DAY_US)],
    }
    assert decision.training_eligible
    assert decision.licence_end == decision_pb2.LICENCE_END_WITH_RIGHTS
    assert decision.terms_version == "2025-02-06"
    assert [clause.clause for clause in decision.clauses] == ["3-free"]


async def test_paid_inference_never_improves_and_ends_with_the_subscription(world: World) -> None:
    tenant = world.paying()
    decision = (await world.decide(tenant)).decision
    until = [
        ("TIME", decision.as_of_time.ToMicroseconds() + 30 * DAY_US),
        ("END_OF_SUBSCRIPTION", tenant.subscription_id),
    ]
    assert purposes(decision) == {"PROVIDE_SERVICES": until, "MONITOR_ABUSE": until}
    assert not decision.training_eligible
    assert decision.licence_end == decision_pb2.LICENCE_END_WITH_SUBSCRIPTION
    assert decision.subscription_id == tenant.subscription_id


async def test_an_exchange_through_a_fine_tuned_model_is_never_eligible_and_says_why(world: World) -> None:
    tenant = world.tenant()
    decision = (await world.decide(tenant, model="ft:small:acme")).decision
    as_of = decision.as_of_time.ToMicroseconds()
    assert purposes(decision) == {
        "PROVIDE_SERVICES": [("TIME", as_of + 365 * DAY_US)],
        "MONITOR_ABUSE": [("TIME", as_of + 30 * DAY_US)],
    }
    assert not decision.training_eligible
    assert ("1.2-conf", decision_pb2.CLAUSE_REASON_FINE_TUNED_MODEL) in [
        (one.clause, one.reason) for one in decision.clauses
    ]
    request = decision_service_pb2.ExplainDecisionRequest(decision_id=decision.decision_id)
    explained = await world.decisions.ExplainDecision(request, metadata=world.customer(tenant))
    assert explained.decision == decision
    assert "Models are never trained on it." in explained.sentences
    put = await world.put(tenant, decision, model="ft:small:acme")
    found, _, _ = await world.read(world.customer(tenant), put.record_id)
    assert not found.training_eligible


def test_no_value_exists_that_opts_in() -> None:
    assert set(directive_pb2.TrainingPreference.keys()) == {
        "TRAINING_PREFERENCE_UNSPECIFIED",
        "TRAINING_PREFERENCE_DEFAULT",
        "TRAINING_PREFERENCE_OPTED_OUT",
    }
    fields = decision_service_pb2.DecideRequest.DESCRIPTOR.fields
    assert not [
        field.name for field in fields if "train" in field.name or field.type == FieldDescriptor.TYPE_BOOL
    ]


async def test_a_decision_names_the_instant_and_subscription_it_was_judged_by(world: World) -> None:
    tenant = world.tenant()
    seen_as_free = world.sign(tenant)
    verified_at = world.clock.now_us()
    tenant.upgrade()
    world.clock.advance(timedelta(seconds=2))
    decision = (await world.decide(tenant, passport=seen_as_free)).decision
    assert (decision.subscription_id, decision.terms_class) == ("", roles_pb2.TERMS_CLASS_FREE)
    assert decision.as_of_time.ToMicroseconds() == verified_at
    later = (await world.decide(tenant)).decision
    assert later.subscription_id == tenant.subscription_id
    assert later.as_of_time.ToMicroseconds() <= world.clock.now_us()
