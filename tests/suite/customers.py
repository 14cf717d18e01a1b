"""Customers of a running suite, as the conformance cases meet them."""

import itertools
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from perron.api.admission.v1 import admission_service_pb2 as admission
from perron.api.admission.v1 import admission_service_pb2_grpc
from perron.api.common.v1 import roles_pb2
from perron.api.governance.v1 import (
    decision_pb2,
    directive_pb2,
    directive_service_pb2,
    directive_service_pb2_grpc,
)
from perron.api.identity.v1 import organization_pb2, organization_pb2_grpc, workspace_pb2, workspace_pb2_grpc
from perron.cli.connection import Connection, Credential
from perron.cli.demo import search
from perron.cli.demo.customer import Customer
from perron.cli.samples import Exchange
from perron.cli.suite import Suite

FREE, PAID, PAID_HIGHER = "free", "scale-1", "scale-2"
BATCH = 128
_numbers = itertools.count()


@contextmanager
def customers(suite: Suite) -> Iterator["Customers"]:
    """Opens connections to a suite, and closes them."""
    with ExitStack() as stack:
        yield Customers(suite, stack)


class Customers:
    """Makes customers of one suite, each with its own organization."""

    def __init__(self, suite: Suite, stack: ExitStack) -> None:
        self._suite = suite
        self._stack = stack
        self.operator = self.connect(suite.operator_key)
        self.gateway = self.connect(suite.gateway_key)

    def connect(self, secret: str) -> Connection:
        """Opens a connection with a key."""
        return self._stack.enter_context(Connection(Credential(secret, "a test"), self._suite.endpoints))

    def new(self, plan: str = FREE) -> Customer:
        """Creates an organization that has accepted what is in force, and puts it on a plan."""
        stub = self.operator.stub(organization_pb2_grpc.OrganizationServiceStub)
        number = next(_numbers)
        request = organization_pb2.CreateOrganizationRequest(
            display_name=f"customer {number}",
            admin_email=f"admin{number}@customer.example",
            permitted_uses=[organization_pb2.PERMITTED_USE_OFFERING],
            acceptances=self._in_force(),
        )
        made = self.operator.ask(stub.CreateOrganization, request)
        customer = Customer(
            made.organization.organization_id,
            made.workspace.workspace_id,
            made.key.key_id,
            made.secret,
            self.connect(made.secret),
            self.operator,
            self.gateway,
        )
        if plan != FREE:
            customer.change_plan(plan)
        return customer

    def again(self, customer: Customer) -> Customer:
        """The same customer, over the connections that are open now."""
        ids = (customer.organization_id, customer.workspace_id, customer.key_id, customer.secret)
        return Customer(*ids, self.connect(customer.secret), self.operator, self.gateway)

    def _in_force(self) -> list[organization_pb2.DocumentAcceptance]:
        stub = self.operator.stub(organization_pb2_grpc.OrganizationServiceStub)
        listed = self.operator.ask(stub.ListDocuments, organization_pb2.ListDocumentsRequest()).documents
        found = [
            self.operator.ask(stub.GetDocument, organization_pb2.GetDocumentRequest(name=name)).document
            for name in {one.name for one in listed}
        ]
        return [accepting(one) for one in found]


def accepting(document: organization_pb2.Document) -> organization_pb2.DocumentAcceptance:
    """The acceptance of a document as it reads."""
    return organization_pb2.DocumentAcceptance(
        document=document.name, version=document.version, text_digest=document.text_digest
    )


def exchange(text: str = "why is the sky blue?") -> Exchange:
    """An exchange in which a text is asked and answered."""
    return Exchange("a test", text, f"you asked: {text}")


def admit_over(customer: Customer, channel: roles_pb2.Channel.ValueType) -> admission.AdmitResponse:
    """Admits an exchange whose answer reaches people over a channel."""
    stub = customer.gateway.stub(admission_service_pb2_grpc.AdmissionServiceStub)
    request = admission.AdmitRequest(
        credential=customer.secret, model="small-1", estimated_tokens=256, channel=channel
    )
    return customer.gateway.ask(stub.Admit, request)


def record_many(customer: Customer, exchanges: Sequence[Exchange], credential: str = "") -> list[str]:
    """Has many exchanges admitted, completed and recorded; returns the ids of the records."""
    stub = customer.gateway.stub(admission_service_pb2_grpc.AdmissionServiceStub)
    record_ids = []
    for start in range(0, len(exchanges), BATCH):
        some = exchanges[start : start + BATCH]
        asked = admission.BatchAdmitRequest()
        for _ in some:
            asked.items.add(
                credential=credential or customer.secret,
                model="small-1",
                estimated_tokens=256,
                channel=roles_pb2.CHANNEL_API,
            )
        admitted = customer.gateway.ask(stub.BatchAdmit, asked)
        done = admission.BatchCompleteRequest()
        for one, result in zip(some, admitted.results, strict=True):
            assert result.HasField("response"), result.error.message
            content = admission.Content(input=one.question.encode(), output=one.answer.encode())
            done.items.add(admission_id=result.response.admission_id, tokens=10, content=content)
        completed = customer.gateway.ask(stub.BatchComplete, done)
        assert all(result.response.recorded for result in completed.results)
        record_ids += [result.response.record_id for result in completed.results]
    return record_ids


def new_workspace(customer: Customer) -> str:
    """Adds a workspace to the customer's organization."""
    stub = customer.admin.stub(workspace_pb2_grpc.WorkspaceServiceStub)
    request = workspace_pb2.CreateWorkspaceRequest(display_name="another")
    return customer.admin.ask(stub.CreateWorkspace, request).workspace.workspace_id


def delete_workspace(customer: Customer, workspace_id: str) -> None:
    """Deletes a workspace."""
    stub = customer.admin.stub(workspace_pb2_grpc.WorkspaceServiceStub)
    customer.admin.ask(stub.DeleteWorkspace, workspace_pb2.DeleteWorkspaceRequest(workspace_id=workspace_id))


def ask_zero_retention(
    customer: Customer, workspace_id: str = "", **more: Any
) -> directive_pb2.ZeroRetentionRequest:
    """Asks for zero retention with reasons."""
    stub = customer.admin.stub(directive_service_pb2_grpc.DirectiveServiceStub)
    request = directive_service_pb2.RequestZeroRetentionRequest(
        workspace_id=workspace_id, reasons="what is asked is of patients", **more
    )
    return customer.admin.ask(stub.RequestZeroRetention, request).zero_retention_request


def review(
    customer: Customer, asked: directive_pb2.ZeroRetentionRequest, verdict: str = "APPROVED"
) -> directive_pb2.ZeroRetentionRequest:
    """Has the operator's reviewer give a verdict."""
    stub = customer.operator.stub(directive_service_pb2_grpc.DirectiveServiceStub)
    request = directive_service_pb2.ReviewZeroRetentionRequest(
        zero_retention_request_id=asked.zero_retention_request_id,
        verdict=directive_service_pb2.ReviewVerdict.Value(f"REVIEW_VERDICT_{verdict}"),
    )
    return customer.operator.ask(stub.ReviewZeroRetention, request).zero_retention_request


def set_preference(customer: Customer, preference: str, workspace_id: str = "") -> None:
    """Opts out of training, or lifts that."""
    stub = customer.admin.stub(directive_service_pb2_grpc.DirectiveServiceStub)
    request = directive_service_pb2.SetTrainingPreferenceRequest(
        workspace_id=workspace_id,
        preference=directive_pb2.TrainingPreference.Value(f"TRAINING_PREFERENCE_{preference}"),
    )
    customer.admin.ask(stub.SetTrainingPreference, request)


def assert_most_restrictive(admitted: admission.AdmitResponse) -> None:
    """What is decided where no rule answers."""
    decision = admitted.decision
    (permission,) = decision.permissions
    assert permission.purpose == decision_pb2.PURPOSE_PROVIDE_SERVICES
    assert [one.kind for one in permission.deadlines] == [decision_pb2.DEADLINE_KIND_IN_FLIGHT]
    assert [one.reason for one in decision.clauses] == [decision_pb2.CLAUSE_REASON_RULE_MISSING]
    assert not decision.training_eligible
    assert not admitted.keep_content


def assert_nowhere(suite: Suite, texts: Sequence[str]) -> None:
    """No file of a suite holds the texts; that they would be found is shown with another."""
    decoy = search.marker()
    planted = search.plant(suite.folder, decoy)
    assert {one.path for one in search.find(suite.folder, decoy)} == set(planted)
    for path in planted:
        path.unlink()
    assert [(one.path.name, one.form) for text in texts for one in search.find(suite.folder, text)] == []
