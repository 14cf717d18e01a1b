"""TermsService over a real channel; nobody needs a key to read the terms."""

import hashlib

from perron.api.common.v1 import roles_pb2
from perron.api.governance.v1 import decision_pb2
from perron.api.governance.v1 import terms_service_pb2 as pb
from perron.governance.rule_files import PACKAGED
from tests.contract.governance.world import World, refused


async def test_anybody_reads_the_terms_as_they_are_loaded(world: World) -> None:
    (listed,) = (await world.terms.ListTerms(pb.ListTermsRequest())).terms
    assert (listed.document, listed.version) == ("additional-terms", "2025-02-06")
    assert list(listed.channels) == [roles_pb2.CHANNEL_API]
    rules = PACKAGED / "2025-02-06.yaml"
    assert listed.rules_sha256 == hashlib.sha256(rules.read_bytes()).hexdigest()
    terms = await world.terms.GetTerms(pb.GetTermsRequest())
    assert terms.terms == listed
    assert {(rule.terms_class, rule.data_kind) for rule in terms.rules} == {
        (terms_class, kind) for terms_class in (1, 2) for kind in (1, 2, 3, 4)
    }
    (free,) = [rule for rule in terms.rules if rule.rule == "free-inference"]
    assert [(one.purpose, one.deadlines[0].days) for one in free.permissions] == [
        (decision_pb2.PURPOSE_PROVIDE_SERVICES, 365),
        (decision_pb2.PURPOSE_MONITOR_ABUSE, 30),
        (decision_pb2.PURPOSE_IMPROVE_SERVICES, 365),
    ]
    assert "3-zdr" in {clause.clause for clause in terms.clauses}


async def test_terms_that_are_not_loaded_are_not_found(world: World) -> None:
    for request in (pb.GetTermsRequest(version="1999-01-01"), pb.GetTermsRequest(document="chat-terms")):
        error = await refused(world.terms.GetTerms(request))
        assert (error.code, error.reason) == ("NOT_FOUND", "RESOURCE_NOT_FOUND")
    error = await refused(world.terms.GetTerms(pb.GetTermsRequest(version="x" * 33)))
    assert (error.code, error.reason) == ("INVALID_ARGUMENT", "FIELD_INVALID")


async def test_each_clause_is_listed_with_its_rules_and_tests(world: World) -> None:
    coverage = {
        one.clause: one for one in (await world.terms.ListCoverage(pb.ListCoverageRequest())).coverage
    }
    assert list(coverage["3-zdr"].rules) == ["zero-retention"]
    assert "paid-inference" in coverage["3-paid"].rules
    assert all(one.tests for one in coverage.values() if one.rules)
    assert all(one.clause_text for one in coverage.values())
