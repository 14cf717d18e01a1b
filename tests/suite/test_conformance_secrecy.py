"""Cases 10, 14 and 26 of the terms on a suite of its own, and what a crash leaves of them."""

import random
import secrets
import sqlite3
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

import pytest

from perron.api.admission.v1 import admission_service_pb2 as admission
from perron.api.admission.v1 import admission_service_pb2_grpc
from perron.api.common.v1 import error_reason_pb2, roles_pb2
from perron.api.governance.v1 import (
    decision_pb2,
    directive_pb2,
    directive_service_pb2,
    directive_service_pb2_grpc,
    record_pb2,
)
from perron.api.identity.v1 import (
    api_key_pb2,
    api_key_pb2_grpc,
    organization_pb2,
    organization_pb2_grpc,
)
from perron.chassis.errors import SetupError
from perron.cli.connection import RefusedError
from perron.cli.demo import gateway, search
from perron.cli.demo.customer import Customer, purposes, refusal
from perron.cli.suite import Suite
from perron.identity import documents, plans
from tests.scale import record, times
from tests.suite.customers import (
    PAID_HIGHER,
    Customers,
    accepting,
    ask_zero_retention,
    assert_most_restrictive,
    assert_nowhere,
    customers,
    exchange,
    record_many,
    review,
)

T = TypeVar("T")
RECORDS = 1000
APPROVAL_SECONDS = (0.006, 0.08)
"""About as long as an approval takes to be committed, and to have erased so many records."""
RECONNECT_SECONDS = 20.0
GOLD = "\n  - {name: gold, display_name: Gold, terms_class: FREE, tier: free}\n"
FUTURE = """
  - name: additional-terms
    version: "2999-01-01"
    effective_time: 2999-01-01
    accept_by_time: 2999-01-01
    text: What nobody has rules for yet.
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("conformance")


@pytest.fixture(scope="module")
def own(folder: Path) -> Iterator[Suite]:
    """A suite that may be killed, with a plan that will go and terms that only identity knows."""
    (folder / "plans.yaml").write_text(shipped(plans.__file__, "plans.yaml") + GOLD)
    (folder / "documents.yaml").write_text(shipped(documents.__file__, "documents.yaml") + FUTURE)
    environment = {
        "PERRON_IDENTITY_PLANS_FILE": str(folder / "plans.yaml"),
        "PERRON_IDENTITY_DOCUMENTS_FILE": str(folder / "documents.yaml"),
    }
    with Suite(folder / "var", environment=environment) as running:
        yield running


@pytest.fixture
def made(own: Suite) -> Iterator[Customers]:
    with customers(own) as opened:
        yield opened


@pytest.fixture(scope="module")
def hidden() -> list[str]:
    """Texts that may stand in no file, neither while the suite runs nor afterwards."""
    return []


def shipped(module: str, name: str) -> str:
    return Path(module).with_name(name).read_text(encoding="utf-8")


def patiently(ask: Callable[[], T]) -> T:
    """Asks until those who were cut off from each other have met again."""
    deadline = time.monotonic() + RECONNECT_SECONDS
    while True:
        try:
            return ask()
        except SetupError:
            if time.monotonic() > deadline:
                raise
        except RefusedError as refused:
            if refused.error.code != "UNAVAILABLE" or time.monotonic() > deadline:
                raise
        time.sleep(0.05)


def test_terms_that_governance_has_no_rules_for_are_decided_most_restrictively(made: Customers) -> None:
    """Case 10, an unknown terms document: accepted before any rule for it was written."""
    customer = made.new()
    admitted = customer.admit(exchange())
    assert admitted.keep_content
    stub = customer.admin.stub(organization_pb2_grpc.OrganizationServiceStub)
    wanted = organization_pb2.GetDocumentRequest(name="additional-terms", version="2999-01-01")
    document = customer.admin.ask(stub.GetDocument, wanted).document
    accepted = organization_pb2.AcceptTermsRequest(
        organization_id=customer.organization_id, acceptances=[accepting(document)]
    )
    customer.admin.ask(stub.AcceptTerms, accepted)

    assert_most_restrictive(customer.admit(exchange()))
    completed = customer.complete(exchange(), admitted)
    assert completed.discard_reason == record_pb2.DISCARD_REASON_NO_PURPOSE
    assert list(customer.records()) == []


def test_a_plan_that_is_not_known_any_more_admits_nothing_and_keeps_nothing(
    made: Customers, own: Suite, folder: Path
) -> None:
    """Case 10, an unknown plan."""
    customer = made.new()
    customer.change_plan("gold")
    kept = customer.complete(exchange(), customer.admit(exchange())).record_id
    admitted = customer.admit(exchange())
    path = folder / "plans.yaml"
    path.write_text(path.read_text().replace(GOLD, ""))
    own.restart("identity")

    refused = patiently(lambda: unless_unavailable(partial(customer.admit, exchange())))
    assert refused is not None
    assert refused.error.reason == "TIER_UNKNOWN"
    completed = patiently(lambda: customer.complete(exchange(), admitted))
    assert completed.settled_tokens == gateway.tokens(exchange())
    assert completed.discard_reason == record_pb2.DISCARD_REASON_NO_PURPOSE
    (record_then,) = customer.records()  # what was made on a free plan stays its owner's, and nothing else
    assert record_then.record_id == kept
    assert not record_then.training_eligible
    assert decision_pb2.PURPOSE_IMPROVE_SERVICES not in purposes(record_then)


def unless_unavailable(ask: Callable[[], object]) -> RefusedError | None:
    refused = refusal(ask)
    if refused is not None and refused.error.code == "UNAVAILABLE":
        raise refused
    return refused


def test_a_key_is_shown_once_and_stands_in_no_file(made: Customers, own: Suite, hidden: list[str]) -> None:
    """Case 26, for each of the three RPCs that make keys."""
    customer = made.new()
    keys = customer.admin.stub(api_key_pb2_grpc.ApiKeyServiceStub)
    request = api_key_pb2.CreateApiKeyRequest(
        request_id=str(uuid.uuid4()), display_name="once", scopes=[roles_pb2.SCOPE_INFERENCE]
    )
    platform = api_key_pb2.CreatePlatformKeyRequest(request_id=str(uuid.uuid4()), display_name="once")
    platform.service.name = "another-gateway"
    for ask in (
        lambda: customer.admin.ask(keys.CreateApiKey, request),
        lambda: made.operator.ask(
            made.operator.stub(api_key_pb2_grpc.ApiKeyServiceStub).CreatePlatformKey, platform
        ),
    ):
        first, again = ask(), ask()
        assert first.secret
        assert not again.secret
        assert again.key.key_id == first.key.key_id
        assert again.secret_reason == error_reason_pb2.ERROR_REASON_SECRET_ALREADY_SHOWN
        hidden.append(first.secret)
    customer.admit(exchange(), hidden[-2])
    typo = hidden[-2][:-1] + ("0" if hidden[-2][-1] != "0" else "1")
    assert refusal(lambda: customer.admit(exchange(), typo)) is not None
    hidden += [customer.secret, typo]

    assert_nowhere(own, hidden)


def test_what_is_completed_under_zero_retention_stands_in_no_file(
    made: Customers, own: Suite, hidden: list[str]
) -> None:
    """Case 14; the exchange is open while zero retention is approved, and completed more than once."""
    customer, text = made.new(), search.marker()
    private = exchange(f"{secrets.token_urlsafe(24)} {text}")
    request_id = str(uuid.uuid4())
    admitted = customer.admit(private)
    named = admit_named(customer, request_id)
    earlier = record_many(customer, [exchange("before it was asked")] * 10)
    review(customer, ask_zero_retention(customer))

    for _ in range(2):
        completed = customer.complete(private, admitted)
        assert completed.settled_tokens == gateway.tokens(private)
        assert not completed.recorded
        assert completed.discard_reason == record_pb2.DISCARD_REASON_ZERO_RETENTION
    again = admit_named(customer, request_id)  # answers the decision made before, which permits no more now
    assert again.decision == named.decision
    assert named.keep_content
    assert not again.keep_content
    again.keep_content = True  # a gateway that sends what it should not
    assert not customer.complete(private, again).recorded
    assert list(customer.records()) == []
    assert all(refusal(partial(customer.read, record_id)) for record_id in earlier)

    hidden += [text, private.question]
    assert_nowhere(own, hidden)
    own.stop()  # what was in a buffer is in a file by then, or gone
    assert_nowhere(own, hidden)
    own.start()


def admit_named(customer: Customer, request_id: str) -> admission.AdmitResponse:
    request = gateway.admit_request(exchange("x" * 4000), customer.secret)
    request.request_id = request_id
    return customer.gateway.ask(
        customer.gateway.stub(admission_service_pb2_grpc.AdmissionServiceStub).Admit, request
    )


@pytest.mark.parametrize("round_", range(times(1, 50)))
def test_a_crash_between_admit_and_complete_settles_once_and_keeps_the_record(
    made: Customers, own: Suite, round_: int
) -> None:
    customer, asked = made.new(), exchange(f"what was I saying, {round_}?")
    admitted = customer.admit(asked)
    own.kill("governance")
    cut_off = refusal(lambda: customer.complete(asked, admitted))
    assert cut_off is not None
    assert cut_off.error.code == "UNAVAILABLE"
    own.restart("governance")

    completed = patiently(lambda: customer.complete(asked, admitted))

    assert completed.settled_tokens == gateway.tokens(asked)
    assert customer.read(completed.record_id)[0] == asked.question.encode()
    assert len(list(customer.records())) == 1


@pytest.mark.parametrize("round_", range(times(2, 100)))
def test_an_approval_that_is_cut_short_is_whole_or_has_not_happened(
    made: Customers, own: Suite, round_: int
) -> None:
    customer, text = made.new(PAID_HIGHER), f"one of many in round {round_}"
    ids = patiently(lambda: record_many(customer, [exchange(text)] * RECORDS))
    keys = set(own.folder.glob("vault/??/*.key"))
    asked = ask_zero_retention(customer)
    with ThreadPoolExecutor(1) as pool:
        approval = pool.submit(is_acknowledged, customer, asked)
        time.sleep(random.uniform(0, APPROVAL_SECONDS[round_ % 2]))
        own.kill("governance")
        acknowledged = approval.result()
    own.restart("governance")

    approved = patiently(partial(state_of, customer)) == directive_pb2.ZeroRetentionRequest.STATE_APPROVED
    record("an approval that is cut short is whole or has not happened", kills=1, approved=int(approved))
    listed = list(customer.records())
    some = random.sample(ids, 50)
    if approved:
        assert listed == []
        assert all(refusal(partial(customer.read, one)) for one in some)
        assert rows_of(own, customer) == 0
        assert len(keys - set(own.folder.glob("vault/??/*.key"))) == 1
    else:
        assert not acknowledged
        assert {one.record_id for one in listed} == set(ids)
        assert all(customer.read(one)[0] == text.encode() for one in some)
    assert patiently(partial(customer.admit, exchange())).keep_content is not approved


def is_acknowledged(customer: Customer, asked: directive_pb2.ZeroRetentionRequest) -> bool:
    try:
        review(customer, asked)
    except (RefusedError, SetupError):
        return False
    return True


def state_of(customer: Customer) -> directive_pb2.ZeroRetentionRequest.State.ValueType:
    stub = customer.admin.stub(directive_service_pb2_grpc.DirectiveServiceStub)
    request = directive_service_pb2.ListZeroRetentionRequestsRequest()
    (asked,) = customer.admin.ask(stub.ListZeroRetentionRequests, request).zero_retention_requests
    return asked.state


def rows_of(own: Suite, customer: Customer) -> int:
    with sqlite3.connect(f"file:{own.folder}/governance.sqlite?mode=ro", uri=True) as store:
        query = "SELECT count(*) FROM records WHERE workspace_id = ?"
        return int(store.execute(query, (customer.workspace_id,)).fetchone()[0])
