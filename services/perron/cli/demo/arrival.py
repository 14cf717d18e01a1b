"""Steps 1 to 3: a customer comes, exchanges go through, a decision is explained and an Admit followed."""

import time
import uuid
from collections import Counter
from collections.abc import Sequence

from rich.console import Group
from rich.text import Text

from perron.api.common.v1 import error_reason_pb2
from perron.api.governance.v1 import decision_pb2
from perron.api.identity.v1 import organization_pb2, organization_pb2_grpc
from perron.api.quotas.v1 import usage_service_pb2, usage_service_pb2_grpc
from perron.cli import decisions, output, samples, traces, tracing
from perron.cli.connection import Connection
from perron.cli.demo import gateway
from perron.cli.demo.customer import Customer, purposes, refusal
from perron.cli.demo.gateway import Played
from perron.cli.demo.stage import Stage, listed

_SERVICES = {"admission", "identity", "quotas", "governance"}


def arrive(stage: Stage, operator: Connection, gateway_connection: Connection, admin: Connection) -> Customer:
    """Creates the organization; `admin` presents its new key from then on."""
    stage.step(1, "An organization on the free plan is created")
    stub = operator.stub(organization_pb2_grpc.OrganizationServiceStub)
    request = organization_pb2.CreateOrganizationRequest(
        request_id=str(uuid.uuid4()),
        display_name="Acme Reading Room",
        admin_email="ada@acme.example",
        permitted_uses=[
            organization_pb2.PERMITTED_USE_INTERNAL_BUSINESS,
            organization_pb2.PERMITTED_USE_OFFERING,
        ],
        expected_monthly_requests=10_000,
    )
    listed = operator.ask(stub.ListDocuments, organization_pb2.ListDocumentsRequest()).documents
    offered = [
        operator.ask(stub.GetDocument, organization_pb2.GetDocumentRequest(name=name)).document
        for name in sorted({document.name for document in listed})
    ]
    acceptances = [
        organization_pb2.DocumentAcceptance(
            document=one.name, version=one.version, text_digest=one.text_digest
        )
        for one in offered
    ]
    request.acceptances.extend(acceptances[:1])
    early = refusal(lambda: operator.ask(stub.CreateOrganization, request))
    stage.find(
        "1.1-use",
        "no organization before every document in force is accepted: ACCEPTANCE_MISSING",
        ok=early is not None and early.error.reason == "ACCEPTANCE_MISSING",
    )
    del request.acceptances[:]
    request.acceptances.extend(acceptances)
    created = operator.ask(stub.CreateOrganization, request)
    accepted = {(one.document, one.version, one.text_digest) for one in created.organization.acceptances}
    stage.find(
        "1.1-use",
        f"{len(accepted)} documents accepted by version and digest of the text, by a member, at a time",
        ok=accepted == {(one.name, one.version, one.text_digest) for one in offered}
        and all(one.member_id and one.accept_time.seconds for one in created.organization.acceptances),
    )
    again = operator.ask(stub.CreateOrganization, request)
    stage.find(
        "1.1-key",
        "the key is shown once: the same request again answers the same key without its secret",
        ok=bool(created.secret)
        and not again.secret
        and again.key.key_id == created.key.key_id
        and again.secret_reason == error_reason_pb2.ERROR_REASON_SECRET_ALREADY_SHOWN,
    )
    stage.tell(
        f"  {created.organization.organization_id} on the plan [bold]{created.organization.plan}[/bold], "
        f"workspace {created.workspace.workspace_id}"
    )
    admin.present(created.secret)
    return Customer(
        created.organization.organization_id,
        created.workspace.workspace_id,
        created.key.key_id,
        created.secret,
        admin,
        operator,
        gateway_connection,
    )


def exchange(stage: Stage, customer: Customer, recorded: Sequence[samples.Exchange]) -> list[Played]:
    """Plays the exchanges and counts what became of them, from every service that keeps count."""
    stage.step(2, f"{len(recorded)} recorded exchanges go through, {gateway.IN_FLIGHT} in flight")
    target = stage.suite.endpoints["admission"]
    start = time.perf_counter()
    with stage.progress("Admit and Complete", len(recorded)) as advance:
        played = gateway.play(target, stage.suite.gateway_key, customer.secret, recorded, advance)
    seconds = time.perf_counter() - start
    completed = [one.completed for one in played if one.completed]
    settled = sum(one.settled_tokens for one in completed)
    eligible = Counter(one.admitted.decision.training_eligible for one in played if one.admitted)
    stage.tell(_summary(played, settled, eligible, seconds))
    used = _used(customer)
    stage.find(
        "1.1-limits",
        f"{len(completed)} of {len(recorded)} admitted, and counted once each: "
        f"{used['requests']} requests and {used['tokens']} tokens, as settled",
        ok=not gateway.errors(played)
        and used == {"requests": len(recorded), "tokens": settled}
        and settled == sum(map(gateway.tokens, recorded)),
    )
    kept = {record.record_id for record in customer.records()}
    first = next(one for one in played if one.completed)
    asked, answered = customer.read(first.completed.record_id) if first.completed else (b"", b"")
    stage.find(
        "3-free",
        f"{len(kept)} records kept, sealed, and one read back word for word for its owner",
        ok=kept == {one.record_id for one in completed if one.recorded}
        and len(kept) == len(recorded)
        and (asked, answered) == (first.exchange.question.encode(), first.exchange.answer.encode()),
    )
    return played


def explain(stage: Stage, customer: Customer, played: Sequence[Played]) -> None:
    """Explains the first decision and draws one traced Admit."""
    stage.step(3, "One decision in words, and the way of one Admit")
    first = next(one.admitted for one in played if one.admitted)
    explained = decisions.explain_decision(customer.admin, first.decision.decision_id)
    stage.tell(decisions.words(explained))
    permitted = purposes(explained.decision)
    stage.find(
        "3-free",
        "free: provide, monitor abuse, improve and train, each with its deadline, decided before the answer",
        ok=explained.decision == first.decision
        and permitted
        == {
            decision_pb2.PURPOSE_PROVIDE_SERVICES,
            decision_pb2.PURPOSE_MONITOR_ABUSE,
            decision_pb2.PURPOSE_IMPROVE_SERVICES,
        }
        and all(permission.deadlines for permission in explained.decision.permissions)
        and explained.decision.training_eligible
        and "3-free" in {clause.clause for clause in explained.clauses}
        and len({one.decision_id for one in customer.decisions()}) == len(played),
    )
    files = stage.suite.folder / "traces"
    spans = _traced(stage, [one.trace_id for one in played if one.trace_id and one.admitted])
    if spans:
        stage.tell(tracing.drawn(files, spans))
    services = {span.service for span in spans}
    stage.find(
        "tracing",
        f"an Admit made at {gateway.IN_FLIGHT} in flight is one connected tree in {len(services)} services",
        ok=len(traces.trees(spans)) == 1 and services == _SERVICES,
    )


def _traced(stage: Stage, candidates: Sequence[str]) -> list[traces.Span]:
    """The spans of a traced Admit, of one that shared its batches with others where there is one."""
    files = stage.suite.folder / "traces"
    best: list[traces.Span] = []
    time.sleep(tracing.FLUSH_SECONDS)
    for trace_id in candidates[len(candidates) // 2 :]:
        spans = traces.read(files, trace_id)
        shared = sum(bool(span.links) for span in spans)
        if len(traces.trees(spans)) != 1:
            return spans  # a trace in pieces is what must be shown
        if not best or shared > sum(bool(span.links) for span in best):
            best = spans
    return best


def _used(customer: Customer) -> dict[str, int]:
    stub = customer.admin.stub(usage_service_pb2_grpc.UsageServiceStub)
    request = usage_service_pb2.GetUsageRequest(organization_id=customer.organization_id)
    found: dict[str, int] = {}
    for usage in customer.admin.ask(stub.GetUsage, request).usages:
        limit = output.readable(usage.status.limit)
        if limit["scope"] == "organization" and not usage.status.limit.model:
            found[limit["metric"]] = max(usage.used, found.get(limit["metric"], 0))
    return found


def _summary(played: Sequence[Played], settled: int, eligible: Counter[bool], seconds: float) -> Group:
    rows = {
        "admitted": f"{sum(one.admitted is not None for one in played)} of {len(played)} in {seconds:.1f} s",
        "tokens settled": f"{settled:,}",
        "decisions": f"{eligible[True]} eligible for training, {eligible[False]} not",
        "records stored": f"{sum(one.completed is not None and one.completed.recorded for one in played)}",
    }
    for title, values in (
        ("Admit", [one.admit_seconds for one in played if one.admitted]),
        ("Complete", [one.complete_seconds for one in played if one.completed]),
    ):
        p50, p99 = (gateway.percentile(values, share) * 1000 for share in (0.5, 0.99))
        rows[title] = f"p50 {p50:.1f} ms, p99 {p99:.1f} ms"
    failed = [
        Text(f"  {count} times {reason}", style="red") for reason, count in gateway.errors(played).items()
    ]
    return Group(listed(rows), *failed)
