"""Cases 10 and 37 of the conformance cases, at the level of governance."""

from pathlib import Path

import pytest

from perron.api.common.v1 import roles_pb2
from perron.api.governance.v1 import decision_pb2
from perron.chassis.ids import new_id
from perron.chassis.migrations.runner import migrate
from perron.chassis.testing import FakeClock
from perron.governance.rule_files import PACKAGED
from tests.contract.governance.world import World, purposes, running

RULE_MISSING = decision_pb2.CLAUSE_REASON_RULE_MISSING


@pytest.mark.parametrize(
    ("tenant", "request_fields"),
    [
        ({"terms_class": ""}, {}),
        ({"plan": "gold", "terms_class": "GOLD"}, {}),
        ({"terms_class": "PAID"}, {}),  # a paid plan without a subscription cannot end
        ({"subscription_id": new_id("sub")}, {}),  # and a subscription to a free plan says two things at once
        ({"documents": {}}, {}),
        ({"documents": {"additional-terms": "1999-01-01"}}, {}),
        ({}, {"channel": roles_pb2.CHANNEL_CHAT}),
        ({}, {"channel": roles_pb2.CHANNEL_CHAT, "data_kind": decision_pb2.DATA_KIND_AGENT}),
    ],
)
async def test_what_no_rule_knows_is_decided_most_restrictively(
    world: World, tenant: dict[str, object], request_fields: dict[str, object]
) -> None:
    response = await world.decide(world.tenant(**tenant), **request_fields)
    decision = response.decision
    assert list(purposes(decision)) == ["PROVIDE_SERVICES"]
    assert purposes(decision)["PROVIDE_SERVICES"][0][0] == "IN_FLIGHT"
    assert not decision.training_eligible
    assert not response.keep_content
    assert [clause.reason for clause in decision.clauses] == [RULE_MISSING]
    assert not decision.terms_version


async def test_newer_terms_in_force_and_not_accepted_decide_by_the_narrower_of_both(
    tmp_path: Path, clock: FakeClock
) -> None:
    first = (PACKAGED / "2025-02-06.yaml").read_text()
    rules = tmp_path / "rules"
    rules.mkdir()
    (rules / "first.yaml").write_text(first.replace("2025-02-06", "2024-01-01"))
    (rules / "second.yaml").write_text(
        first.replace("free_inference_days: 365", "free_inference_days: 90").replace(
            "abuse_monitoring_days: 30", "abuse_monitoring_days: 60"
        )
    )
    url = f"sqlite:///{tmp_path / 'governance.db'}"
    migrate("governance", url)
    async with running(tmp_path, url, clock, rules_file=rules) as world:
        decision = (await world.decide(world.tenant(documents={"additional-terms": "2024-01-01"}))).decision
        accepted = (await world.decide(world.tenant())).decision
    day = 86_400_000_000
    as_of = decision.as_of_time.ToMicroseconds()
    assert purposes(decision)["PROVIDE_SERVICES"] == [("TIME", as_of + 90 * day)]
    assert purposes(decision)["MONITOR_ABUSE"] == [("TIME", as_of + 30 * day)]
    assert decision.terms_version == "2024-01-01"
    assert decision_pb2.CLAUSE_REASON_NEWER_TERMS_NOT_ACCEPTED in {one.reason for one in decision.clauses}
    assert purposes(accepted)["MONITOR_ABUSE"] == [("TIME", as_of + 60 * day)]
    assert accepted.terms_version == "2025-02-06"
