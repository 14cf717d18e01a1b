"""Steps 4 and 5: a limit suspends, an upgrade lifts it, and what was decided before stays as it was."""

import itertools
from collections.abc import Sequence
from functools import partial

from perron.api.admission.v1 import admission_service_pb2
from perron.api.common.v1 import roles_pb2
from perron.api.governance.v1 import decision_pb2
from perron.api.quotas.v1 import usage_service_pb2, usage_service_pb2_grpc
from perron.cli import decisions
from perron.cli.demo import gateway
from perron.cli.demo.customer import Customer, purposes, refusal
from perron.cli.demo.gateway import Played
from perron.cli.demo.stage import Stage
from perron.cli.samples import Exchange

_PAID_PLAN = "scale-1"
_BURST = 200


def reach_limit(stage: Stage, customer: Customer, recorded: Sequence[Exchange]) -> None:
    """Admits until a limit refuses, upgrades, and admits again."""
    stage.step(4, "A limit is reached, and an upgrade lifts it")
    refused = None
    for exchange in itertools.islice(itertools.cycle(recorded), len(recorded) + _BURST):
        refused = refusal(partial(customer.admit, exchange))
        if refused is not None:
            break
    if refused is None:
        stage.find("1.1-rate", "a limit suspends", ok=False)
        return
    error = refused.error
    stage.tell(f"  {error.message}")
    open_now = _suspensions(customer, usage_service_pb2.Suspension.STATE_OPEN)
    stage.find(
        "1.1-rate",
        "suspended by the "
        + (error.quota[0].description if error.quota else "")
        + ", with the time of the reset and what would lift it",
        ok=error.reason == "LIMIT_REACHED"
        and error.retry_after is not None
        and error.retry_after.total_seconds() > 0
        and bool(error.metadata.get("reset_time"))
        and bool(error.quota)
        and "upgrade" in error.metadata.get("lifted_by", "")
        and bool(open_now)
        and all(one.reset_time.seconds for one in open_now),
    )
    changed = customer.change_plan(_PAID_PLAN)
    admitted = refusal(lambda: customer.admit(recorded[0])) is None
    still_open = _suspensions(customer, usage_service_pb2.Suspension.STATE_OPEN)
    stage.find(
        "1.1-rate",
        f"upgraded to {changed.plan}: the very next call is admitted, and the suspension is closed",
        ok=admitted and not still_open and changed.terms_class == roles_pb2.TERMS_CLASS_PAID,
    )


def pay(
    stage: Stage,
    customer: Customer,
    recorded: Sequence[Exchange],
    played: Sequence[Played],
    held: admission_service_pb2.AdmitResponse,
) -> None:
    """Plays an exchange on the paid plan, and completes `held`, which the free plan admitted."""
    stage.step(5, "The same exchange on the paid plan")
    before = {one.admitted.decision.decision_id: one.admitted.decision for one in played if one.admitted}
    admitted = customer.admit(recorded[0])
    customer.complete(recorded[0], admitted)
    explained = decisions.explain_decision(customer.admin, admitted.decision.decision_id)
    stage.tell(decisions.words(explained))
    subscription = admitted.decision.subscription_id
    stage.find(
        "3-paid",
        "paid: provide and monitor abuse while the subscription lasts, never eligible for training",
        ok=not admitted.decision.training_eligible
        and purposes(admitted.decision)
        == {decision_pb2.PURPOSE_PROVIDE_SERVICES, decision_pb2.PURPOSE_MONITOR_ABUSE}
        and bool(subscription)
        and all(_ends_with(permission, subscription) for permission in admitted.decision.permissions),
    )
    now = {decision.decision_id: decision for decision in customer.decisions()}
    stage.find(
        "3-free",
        f"the {len(before)} decisions made on the free plan are unchanged: no later plan relabels them",
        ok=bool(before) and all(now.get(decision_id) == decision for decision_id, decision in before.items()),
    )
    completed = customer.complete(recorded[1], held)
    record = next((one for one in customer.records() if one.record_id == completed.record_id), None)
    stage.find(
        "3-paid",
        "admitted on free and completed on paid: settled, kept, and the narrower rule holds for the record",
        ok=completed.settled_tokens == gateway.tokens(recorded[1])
        and completed.recorded
        and record is not None
        and not record.training_eligible
        and decision_pb2.PURPOSE_IMPROVE_SERVICES not in purposes(record)
        and all(_ends_with(permission, subscription) for permission in record.permissions),
    )


def _ends_with(permission: decision_pb2.Permission, subscription: str) -> bool:
    return any(
        deadline.kind == decision_pb2.DEADLINE_KIND_END_OF_SUBSCRIPTION
        and deadline.subject_id == subscription
        for deadline in permission.deadlines
    )


def _suspensions(
    customer: Customer, state: "usage_service_pb2.Suspension.State.ValueType"
) -> list[usage_service_pb2.Suspension]:
    stub = customer.admin.stub(usage_service_pb2_grpc.UsageServiceStub)
    request = usage_service_pb2.ListSuspensionsRequest(organization_id=customer.organization_id)
    return [
        one for one in customer.admin.ask(stub.ListSuspensions, request).suspensions if one.state == state
    ]
