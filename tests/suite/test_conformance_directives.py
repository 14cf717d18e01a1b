"""Cases 10, 13, 17, 19 and 20 of the terms, as far as they go, from the gateway's call over real sockets."""

from collections.abc import Iterator

import pytest

from perron.api.admission.v1 import admission_service_pb2 as admission
from perron.api.admission.v1 import admission_service_pb2_grpc
from perron.api.common.v1 import roles_pb2
from perron.api.governance.v1 import decision_pb2, record_pb2
from perron.api.identity.v1 import api_key_pb2, api_key_pb2_grpc
from perron.cli.demo import gateway
from perron.cli.demo.customer import purposes
from perron.cli.suite import Suite
from tests.suite.customers import (
    Customers,
    admit_over,
    ask_zero_retention,
    assert_most_restrictive,
    customers,
    exchange,
    new_workspace,
    review,
    set_preference,
)

IMPROVE = decision_pb2.PURPOSE_IMPROVE_SERVICES


@pytest.fixture(scope="module")
def made(suite: Suite) -> Iterator[Customers]:
    with customers(suite) as opened:
        yield opened


def test_a_channel_without_terms_is_decided_most_restrictively(made: Customers) -> None:
    """Case 10, an unknown channel."""
    customer = made.new()
    admitted = admit_over(customer, roles_pb2.CHANNEL_CHAT)

    assert_most_restrictive(admitted)
    request = gateway.complete_request(exchange(), admitted)
    request.content.input = b"sent all the same"
    stub = customer.gateway.stub(admission_service_pb2_grpc.AdmissionServiceStub)
    completed = customer.gateway.ask(stub.Complete, request)
    assert completed.settled_tokens == gateway.tokens(exchange())
    assert completed.omission == admission.CompleteResponse.OMISSION_NOT_TO_BE_KEPT
    assert list(customer.records()) == []


def test_opting_out_holds_for_what_was_made_before_and_for_good(made: Customers) -> None:
    """The preference's part of cases 19 and 20, over what is kept."""
    customer, asked = made.new(), exchange("made before")
    customer.complete(asked, customer.admit(asked))
    waiting = customer.admit(asked)
    set_preference(customer, "OPTED_OUT")
    customer.complete(asked, waiting)

    assert [record.training_eligible for record in customer.records()] == [False, False]
    assert all(IMPROVE not in purposes(record) for record in customer.records())
    set_preference(customer, "DEFAULT")
    assert [record.training_eligible for record in customer.records()] == [False, False]


def test_zero_retention_holds_from_its_approval_on_and_not_from_less(made: Customers) -> None:
    """Case 13, through Admit."""
    customer = made.new()
    review(customer, ask_zero_retention(customer), "DENIED")
    assert customer.admit(exchange()).decision.training_eligible
    asked = ask_zero_retention(customer)
    assert customer.admit(exchange()).keep_content
    review(customer, asked, "DETAIL_ASKED")
    assert customer.admit(exchange()).decision.training_eligible
    review(customer, asked)

    admitted = customer.admit(exchange())
    assert not admitted.keep_content
    assert not admitted.decision.training_eligible
    assert purposes(admitted.decision) == {
        decision_pb2.PURPOSE_PROVIDE_SERVICES,
        decision_pb2.PURPOSE_MONITOR_ABUSE,
    }


def test_zero_retention_of_one_workspace_leaves_the_other_unaffected(made: Customers) -> None:
    """Case 17; what holds for the organization, no workspace can narrow away."""
    customer = made.new()
    other = new_workspace(customer)
    stub = customer.admin.stub(api_key_pb2_grpc.ApiKeyServiceStub)
    elsewhere = customer.admin.ask(
        stub.CreateApiKey,
        api_key_pb2.CreateApiKeyRequest(
            display_name="there", workspace_id=other, scopes=[roles_pb2.SCOPE_INFERENCE]
        ),
    ).secret
    here, there = exchange("here"), exchange("there")
    open_here, open_there = customer.admit(here), customer.admit(there, elsewhere)
    review(customer, ask_zero_retention(customer, customer.workspace_id))

    assert customer.complete(here, open_here).discard_reason == record_pb2.DISCARD_REASON_ZERO_RETENTION
    assert customer.complete(there, open_there).recorded
    assert not customer.admit(here).keep_content
    assert customer.admit(there, elsewhere).keep_content

    review(customer, ask_zero_retention(customer))
    review(customer, ask_zero_retention(customer, other), "DENIED")
    assert not customer.admit(there, elsewhere).keep_content
