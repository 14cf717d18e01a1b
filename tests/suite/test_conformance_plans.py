"""Cases 1, 2, 3, 4, 5, 35 and 36 of the terms, from the gateway's call to the record, over real sockets."""

import random
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import pytest

from perron.api.admission.v1 import admission_service_pb2 as admission
from perron.api.common.v1 import roles_pb2
from perron.api.governance.v1 import decision_pb2, record_pb2
from perron.api.identity.v1 import api_key_pb2, api_key_pb2_grpc, workspace_pb2, workspace_pb2_grpc
from perron.api.quotas.v1 import (
    limit_pb2,
    limit_service_pb2,
    limit_service_pb2_grpc,
    usage_service_pb2,
    usage_service_pb2_grpc,
)
from perron.cli.demo import gateway
from perron.cli.demo.customer import Customer, purposes, refusal
from perron.cli.suite import Suite
from tests.scale import times
from tests.suite.customers import (
    FREE,
    PAID,
    PAID_HIGHER,
    Customers,
    ask_zero_retention,
    customers,
    exchange,
    new_workspace,
    review,
    set_preference,
)

DAY_US = 86_400_000_000
PROVIDE, MONITOR = decision_pb2.PURPOSE_PROVIDE_SERVICES, decision_pb2.PURPOSE_MONITOR_ABUSE
IMPROVE = decision_pb2.PURPOSE_IMPROVE_SERVICES
FLIGHT = decision_pb2.DEADLINE_KIND_IN_FLIGHT


@pytest.fixture(scope="module")
def made(suite: Suite) -> Iterator[Customers]:
    with customers(suite) as opened:
        yield opened


def days(decision: decision_pb2.Decision) -> dict[int, list[float]]:
    """For each purpose its deadlines by the clock, in days from the decision's instant."""
    as_of_us = decision.as_of_time.ToMicroseconds()
    return {
        permission.purpose: [
            (deadline.time.ToMicroseconds() - as_of_us) / DAY_US
            for deadline in permission.deadlines
            if deadline.kind == decision_pb2.DEADLINE_KIND_TIME
        ]
        for permission in decision.permissions
    }


def subscriptions(of: decision_pb2.Decision | record_pb2.Record) -> set[str]:
    """The subscriptions with which the permissions end; "" for one that ends with none."""
    ends = decision_pb2.DEADLINE_KIND_END_OF_SUBSCRIPTION
    return {
        next((deadline.subject_id for deadline in permission.deadlines if deadline.kind == ends), "")
        for permission in of.permissions
    }


def settled_tokens(customer: Customer) -> int:
    """The tokens that quotas has counted for the organization."""
    stub = customer.admin.stub(usage_service_pb2_grpc.UsageServiceStub)
    request = usage_service_pb2.GetUsageRequest(organization_id=customer.organization_id)
    return max(
        usage.used
        for usage in customer.admin.ask(stub.GetUsage, request).usages
        if usage.status.limit.metric == limit_pb2.METRIC_TOKENS
    )


def test_a_free_exchange_has_three_purposes_with_their_deadlines_and_is_eligible(made: Customers) -> None:
    """Case 1, through Admit."""
    admitted = made.new().admit(exchange())

    assert days(admitted.decision) == {PROVIDE: [365], MONITOR: [30], IMPROVE: [365]}
    assert admitted.decision.training_eligible
    assert admitted.keep_content
    assert not admitted.decision.subscription_id


def test_a_paid_exchange_never_improves_and_ends_with_its_subscription(made: Customers) -> None:
    """Case 2, through Admit."""
    customer = made.new(PAID)
    decision = customer.admit(exchange()).decision

    assert days(decision) == {PROVIDE: [30], MONITOR: [30]}
    assert subscriptions(decision) == {decision.subscription_id}
    assert decision.subscription_id
    assert not decision.training_eligible


def test_admitted_free_and_completed_paid_is_settled_once_under_the_narrower_rule(made: Customers) -> None:
    """Case 3."""
    customer, asked = made.new(), exchange("admitted free")
    admitted = customer.admit(asked)
    customer.change_plan(PAID)

    completed = [customer.complete(asked, admitted) for _ in range(3)]

    assert {one.record_id for one in completed} == {completed[0].record_id}
    assert settled_tokens(customer) == gateway.tokens(asked)
    (record,) = customer.records()
    assert purposes(record) == {PROVIDE, MONITOR}
    assert not record.training_eligible
    assert subscriptions(record) == {customer.admit(asked).decision.subscription_id}
    assert customer.read(record.record_id) == (asked.question.encode(), asked.answer.encode())
    customer.change_plan(FREE)
    assert list(customer.records()) == []
    gone = refusal(partial(customer.read, record.record_id))
    assert gone is not None
    assert gone.error.code == "NOT_FOUND"


def test_admitted_paid_and_completed_free_is_settled_and_discarded_unwritten(made: Customers) -> None:
    """Case 4; a subscription taken up again is another one, and brings nothing back."""
    for later in (FREE, PAID):
        customer, asked = made.new(PAID), exchange("admitted paid")
        admitted = customer.admit(asked)
        customer.change_plan(FREE)
        customer.change_plan(later)

        completed = customer.complete(asked, admitted)

        assert completed.settled_tokens == gateway.tokens(asked)
        assert not completed.recorded
        assert completed.omission == admission.CompleteResponse.OMISSION_DISCARDED
        assert completed.discard_reason == record_pb2.DISCARD_REASON_SUBSCRIPTION_ENDED
        assert list(customer.records()) == []


def test_a_change_of_tier_ends_nothing(made: Customers) -> None:
    """Case 7, as far as nothing sweeps yet."""
    customer, asked = made.new(PAID), exchange("kept over tiers")
    record_id = customer.complete(asked, customer.admit(asked)).record_id
    customer.change_plan(PAID_HIGHER)

    assert customer.read(record_id) == (asked.question.encode(), asked.answer.encode())


def test_what_was_free_stays_free_and_is_paused_while_a_subscription_runs(made: Customers) -> None:
    """Case 6, as far as nothing is exported yet."""
    customer, asked = made.new(), exchange("asked for nothing")
    free = customer.complete(asked, customer.admit(asked)).record_id
    customer.change_plan(PAID)
    paid = customer.complete(asked, customer.admit(asked)).record_id

    while_paid = {record.record_id: record for record in customer.records()}
    customer.change_plan(FREE)
    afterwards = {record.record_id: record for record in customer.records()}

    assert set(while_paid) == {free, paid}
    assert purposes(while_paid[free]) == {PROVIDE, MONITOR}
    assert not while_paid[free].training_eligible
    assert set(afterwards) == {free}
    assert purposes(afterwards[free]) == {PROVIDE, MONITOR, IMPROVE}
    assert afterwards[free].training_eligible


@dataclass(frozen=True)
class Change:
    """A change of plan as its caller saw it: asked for at one instant, acknowledged at another."""

    sent_us: int
    acknowledged_us: int
    subscription_id: str


READ_BEFORE_US = 100_000
"""By how much an answer's instant may precede its rows: it is read first, and the reader may be halted."""


def test_each_decision_names_an_instant_and_a_subscription_that_were_true_together(made: Customers) -> None:
    """Case 5: exchanges run while the plan goes up and down."""
    customer, asked = made.new(), exchange("in the middle")
    customer.admit(asked)
    lift_limits(customer)
    over = threading.Event()
    changed_times = times(24, 1000)
    start_us = time.time_ns() // 1000
    changes = [Change(start_us - 60_000_000, start_us, "")]

    def play() -> int:
        played = 0
        while not over.is_set() or played < changed_times // 3:
            customer.complete(asked, customer.admit(asked))
            played += 1
        return played

    with ThreadPoolExecutor(4) as pool:
        players = [pool.submit(play) for _ in range(4)]
        for number in range(changed_times):
            sent_us = time.time_ns() // 1000
            changed = customer.change_plan(FREE if number % 2 else PAID)
            changes.append(Change(sent_us, time.time_ns() // 1000, changed.subscription.subscription_id))
            time.sleep(random.uniform(0, 0.03))
        over.set()
        played = sum(player.result() for player in players)

    decisions = list(customer.decisions())
    assert len(decisions) == 1 + played
    assert played >= len(changes)
    ends_us = [change.acknowledged_us for change in changes[1:]] + [time.time_ns() // 1000]
    for decision in decisions:
        as_of_us = decision.as_of_time.ToMicroseconds()
        paid = bool(decision.subscription_id)
        assert (decision.terms_class == roles_pb2.TERMS_CLASS_PAID) is paid
        assert decision.training_eligible is not paid
        assert subscriptions(decision) == {decision.subscription_id}
        assert any(
            change.subscription_id == decision.subscription_id
            and change.sent_us - READ_BEFORE_US <= as_of_us <= end_us
            for change, end_us in zip(changes, ends_us, strict=True)
        ), f"{decision.decision_id}: no such subscription at its as_of"
    free = {one.decision_id for one in decisions if not one.subscription_id}
    kept = list(customer.records())
    assert {one.decision_id for one in kept} <= free
    assert subscriptions_of(kept) <= {""}


def subscriptions_of(records: list[record_pb2.Record]) -> set[str]:
    return {one for record in records for one in subscriptions(record)}


def test_suspension_stops_consumption_and_nothing_else(made: Customers) -> None:
    """Case 35, as far as there are RPCs."""
    customer, asked = made.new(), exchange()
    record_id = customer.complete(asked, customer.admit(asked)).record_id
    spare = new_workspace(customer)
    cap(customer, 1)
    customer.admit(asked)
    refused = refusal(partial(customer.admit, asked))
    assert refused is not None
    assert refused.error.reason == "LIMIT_REACHED"

    assert customer.read(record_id)[0] == asked.question.encode()
    assert len(list(customer.records())) == 1
    assert len(list(customer.decisions())) == 2
    set_preference(customer, "OPTED_OUT")
    review(customer, ask_zero_retention(customer))
    assert list(customer.records()) == []
    customer.admin.ask(
        customer.admin.stub(workspace_pb2_grpc.WorkspaceServiceStub).DeleteWorkspace,
        workspace_pb2.DeleteWorkspaceRequest(workspace_id=spare),
    )
    customer.admin.ask(
        customer.admin.stub(api_key_pb2_grpc.ApiKeyServiceStub).RevokeApiKey,
        api_key_pb2.RevokeApiKeyRequest(key_id=customer.key_id),
    )


def test_an_upgrade_lifts_no_cap_that_the_customer_set_itself(made: Customers) -> None:
    """Case 36."""
    customer, asked = made.new(), exchange()
    cap(customer, 1)
    customer.admit(asked)
    for plan in (FREE, PAID, PAID_HIGHER):
        customer.change_plan(plan)
        refused = refusal(partial(customer.admit, asked))
        assert refused is not None
        assert refused.error.reason == "LIMIT_REACHED"
        assert refused.error.metadata["origin"] == "CAP"
        assert "no upgrade lifts a cap" in refused.error.metadata["lifted_by"]
        assert refused.error.quota[0].description.startswith("cap of 1 requests")
    assert len(list(customer.decisions())) == 1


def lift_limits(customer: Customer) -> None:
    """Overrides every limit of the customer, whose workspace and key are known because they were used."""
    stub = customer.operator.stub(limit_service_pb2_grpc.LimitServiceStub)
    asked = limit_service_pb2.ListLimitsRequest(
        organization_id=customer.organization_id, workspace_id=customer.workspace_id, key_id=customer.key_id
    )
    for limit in customer.admin.ask(
        customer.admin.stub(limit_service_pb2_grpc.LimitServiceStub).ListLimits, asked
    ).limits:
        request = limit_service_pb2.SetOverrideRequest(
            organization_id=customer.organization_id,
            model=limit.model,
            metric=limit.metric,
            window=limit.window,
            amount=10**15,
        )
        if limit.scope == limit_pb2.LIMIT_SCOPE_WORKSPACE:
            request.workspace_id = customer.workspace_id
        if limit.scope == limit_pb2.LIMIT_SCOPE_KEY:
            request.key_id = customer.key_id
        customer.operator.ask(stub.SetOverride, request)


def cap(customer: Customer, requests_per_day: int) -> None:
    """Sets the customer's own limit."""
    request = limit_service_pb2.SetCapRequest(
        organization_id=customer.organization_id,
        metric=limit_pb2.METRIC_REQUESTS,
        window=limit_pb2.WINDOW_DAY,
        amount=requests_per_day,
        request_id=str(uuid.uuid4()),
    )
    customer.admin.ask(customer.admin.stub(limit_service_pb2_grpc.LimitServiceStub).SetCap, request)
