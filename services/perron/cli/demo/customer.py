"""One customer of the demo: its ids and keys, and the questions that the demo puts about it."""

import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field

from perron.api.admission.v1 import admission_service_pb2, admission_service_pb2_grpc
from perron.api.governance.v1 import (
    decision_pb2,
    decision_service_pb2,
    decision_service_pb2_grpc,
    record_pb2,
    record_service_pb2,
    record_service_pb2_grpc,
)
from perron.api.identity.v1 import organization_pb2, organization_pb2_grpc
from perron.cli import orgs
from perron.cli.connection import Connection, RefusedError
from perron.cli.demo import gateway
from perron.cli.demo.gateway import MODEL
from perron.cli.demo.stage import Stage
from perron.cli.samples import Exchange

_PAGE = 1000


@dataclass(slots=True)
class Customer:
    """An organization seen through three connections: its admin's, the operator's and the gateway's."""

    organization_id: str
    workspace_id: str
    key_id: str
    secret: str = field(repr=False)
    admin: Connection = field(repr=False)
    operator: Connection = field(repr=False)
    gateway: Connection = field(repr=False)

    def admit(
        self, exchange: Exchange, credential: str = "", *, model: str = MODEL
    ) -> admission_service_pb2.AdmitResponse:
        """The gateway asks whether an exchange may take place; RefusedError where not."""
        stub = self.gateway.stub(admission_service_pb2_grpc.AdmissionServiceStub)
        request = gateway.admit_request(exchange, credential or self.secret, model)
        return self.gateway.ask(stub.Admit, request)

    def complete(
        self, exchange: Exchange, admitted: admission_service_pb2.AdmitResponse
    ) -> admission_service_pb2.CompleteResponse:
        """The gateway reports how it went."""
        stub = self.gateway.stub(admission_service_pb2_grpc.AdmissionServiceStub)
        return self.gateway.ask(stub.Complete, gateway.complete_request(exchange, admitted))

    def change_plan(self, plan: str) -> organization_pb2.Organization:
        """The operator puts the organization on another plan."""
        stub = self.operator.stub(organization_pb2_grpc.OrganizationServiceStub)
        request = organization_pb2.ChangePlanRequest(
            organization_id=self.organization_id, plan=plan, request_id=str(uuid.uuid4())
        )
        return self.operator.ask(stub.ChangePlan, request).organization

    def decisions(self) -> Iterator[decision_pb2.Decision]:
        """Every decision about the organization, newest first."""
        stub = self.admin.stub(decision_service_pb2_grpc.DecisionServiceStub)
        request = decision_service_pb2.ListDecisionsRequest(page_size=_PAGE)
        while True:
            page = self.admin.ask(stub.ListDecisions, request)
            yield from page.decisions
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    def records(self) -> Iterator[record_pb2.Record]:
        """Every record of the workspace that is kept, newest first."""
        stub = self.admin.stub(record_service_pb2_grpc.RecordServiceStub)
        request = record_service_pb2.ListRecordsRequest(page_size=_PAGE)
        while True:
            page = self.admin.ask(stub.ListRecords, request)
            yield from page.records
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    def read(self, record_id: str) -> tuple[bytes, bytes]:
        """Input and output of a record, read for PROVIDE_SERVICES; RefusedError where it may not be."""
        stub = self.admin.stub(record_service_pb2_grpc.RecordServiceStub)
        request = record_service_pb2.GetRecordRequest(
            record_id=record_id, purpose=decision_pb2.PURPOSE_PROVIDE_SERVICES
        )
        parts = list(self.admin.ask_stream(stub.GetRecord, request))
        return b"".join(part.input for part in parts), b"".join(part.output for part in parts)


def enrol(stage: Stage, opened: ExitStack, name: str, email: str) -> Customer:
    """Creates an organization on the free plan; its connections are closed with `opened`."""

    def connect(secret: str, origin: str) -> Connection:
        return opened.enter_context(stage.connect(secret, origin))

    operator = connect(stage.suite.operator_key, "the operator")
    uses = [int(organization_pb2.PERMITTED_USE_INTERNAL_BUSINESS)]
    created = orgs.create_organization(operator, name, email, uses, accept=True)
    return Customer(
        created.organization.organization_id,
        created.workspace.workspace_id,
        created.key.key_id,
        created.secret,
        connect(created.secret, "the admin"),
        operator,
        connect(stage.suite.gateway_key, "the gateway"),
    )


def purposes(of: decision_pb2.Decision | record_pb2.Record) -> "set[decision_pb2.Purpose.ValueType]":
    """The purposes that a decision or a record permits."""
    return {permission.purpose for permission in of.permissions}


def refusal(ask: Callable[[], object]) -> RefusedError | None:
    """What a call was refused with; None where it was answered."""
    try:
        ask()
    except RefusedError as refused:
        return refused
    return None
