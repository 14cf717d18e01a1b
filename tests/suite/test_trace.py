"""What `perron trace` reads: one connected tree for each caller, whatever it shared with others."""

import time

from perron.cli import samples, traces, tracing
from perron.cli.demo import gateway
from perron.cli.listening import SERVICES
from perron.cli.suite import Suite
from tests.suite.builders import admin_of, configuration
from tests.suite.command import perron
from tests.suite.customers import customers, exchange


def test_an_admit_at_32_in_flight_is_one_connected_tree_through_four_services(suite: Suite) -> None:
    folder = str(suite.folder)
    created = perron(
        "orgs",
        "create",
        "Traced",
        "--email",
        "t@acme.example",
        "--accept-terms",
        "--print-key",
        PERRON_VAR=folder,
    )
    secret = created.answer.strip()
    recorded = samples.exchanges(160)
    played = gateway.play(
        suite.endpoints["admission"], suite.gateway_key, secret, recorded, advance=lambda: None
    )
    assert not gateway.errors(played)
    traced = [one.trace_id for one in played if one.trace_id]
    assert len(traced) == 20
    time.sleep(2 * tracing.FLUSH_SECONDS)
    shared = 0
    for trace_id in traced:
        spans = traces.read(suite.folder / "traces", trace_id)
        assert len(traces.trees(spans)) == 1, trace_id
        assert {span.service for span in spans} == {"admission", "identity", "quotas", "governance"}
        shared += any(span.links for span in spans)
    assert shared > 0, "nobody shared a batch, so nothing was shown"


def test_an_admit_of_an_agent_is_one_connected_tree_through_five(suite: Suite) -> None:
    with customers(suite) as made:
        customer = made.new()
        agent = admin_of(customer).create("Traced", configuration())
        customer.admit(exchange(), model=agent.agent_id)
        trace_id = customer.gateway.trace_id
    spans = tracing.settled(suite.folder / "traces", trace_id)
    assert len(traces.trees(spans)) == 1
    assert {span.service for span in spans} == set(SERVICES) - {"finetuning"}


def test_the_last_trace_is_that_of_the_last_call(suite: Suite) -> None:
    folder = str(suite.folder)
    refused = perron("keys", "revoke", "key_00000000000000000000000000", "--json", PERRON_VAR=folder)
    trace_id = refused.parsed["trace_id"]
    drawn = perron("trace", trace_id, PERRON_VAR=folder)
    assert drawn.status == 0, drawn.notes
    assert f"trace {trace_id}" in drawn.answer
    assert "ApiKeyService/RevokeApiKey" in drawn.answer
    assert "RESOURCE_NOT_FOUND" in drawn.answer
    spans = perron("trace", trace_id[:12], "--json", PERRON_VAR=folder).parsed
    assert {span["trace_id"] for span in spans} == {trace_id}
    assert all(span["milliseconds"] >= 0 for span in spans)


def test_a_trace_that_is_not_there_is_said_so(suite: Suite) -> None:
    missing = perron("trace", "f" * 32, PERRON_VAR=str(suite.folder))
    assert missing.status == 2
    assert "no trace" in missing.notes
