"""Case 33 of the terms: the two gates through which a model leaves its organization (clause 1.2-conf)."""

import time
import uuid
from collections.abc import Iterator
from functools import partial
from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from perron.api.common.v1 import error_reason_pb2
from perron.api.finetuning.v1 import model_pb2, model_service_pb2, model_service_pb2_grpc
from perron.chassis.status import from_rpc_error
from perron.cli.demo.customer import Customer
from tests.suite.customers import PAID, assert_nowhere, delete_workspace, new_workspace
from tests.suite.tuners import DELETED, DISTRIBUTOR, GONE, Tuner, colleague, outcome, tuner, until
from tests.suite.workers import LARGE, WEIGHTS, Workshop

ROLE_MISSING = "PERMISSION_DENIED ROLE_MISSING"
ENDED = "PERMISSION_DENIED TRANSFER_ENDED"
PARTY = {"party": "An auditor", "purpose": "a review"}


def tomorrow() -> Timestamp:
    return Timestamp(seconds=int(time.time()) + 86_400)


def authorization(
    model_id: str, distributor: str = DISTRIBUTOR
) -> model_service_pb2.AuthorizeTransferRequest:
    return model_service_pb2.AuthorizeTransferRequest(
        model_id=model_id, distributor=distributor, expire_time=tomorrow(), request_id=str(uuid.uuid4())
    )


def authorize(member: Tuner, model_id: str, distributor: str = DISTRIBUTOR) -> Any:
    return member.connection.ask(member.models.AuthorizeTransfer, authorization(model_id, distributor))


def consent(member: Tuner, model_id: str) -> Any:
    request = model_service_pb2.RecordConsentRequest(
        model_id=model_id, expire_time=tomorrow(), request_id=str(uuid.uuid4()), **PARTY
    )
    return member.connection.ask(member.models.RecordConsent, request)


def revoke(member: Tuner, transfer_id: str) -> Any:
    request = model_service_pb2.RevokeTransferRequest(transfer_id=transfer_id)
    return member.connection.ask(member.models.RevokeTransfer, request)


def transfers(member: Tuner, model_id: str) -> list[model_pb2.Transfer]:
    request = model_service_pb2.ListTransfersRequest(model_id=model_id)
    return list(member.connection.ask(member.models.ListTransfers, request).transfers)


class Party:
    """Somebody else, who has nothing but the key of a transfer."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._stub = model_service_pb2_grpc.ModelServiceStub(channel)

    def download(self, secret: str) -> Iterator[Any]:
        return self._stub.DownloadTransfer(model_service_pb2.DownloadTransferRequest(secret=secret))

    def ending(self, stream: Iterator[Any]) -> str:
        """How a download ends."""
        try:
            for _ in stream:
                pass
        except grpc.RpcError as failed:
            error = from_rpc_error(failed)
            return f"{error.code} {error.reason}"
        return "whole"

    def bytes(self, secret: str) -> bytes:
        return b"".join(part.chunk for part in self.download(secret))


@pytest.fixture
def party(workshop: Workshop) -> Iterator[Party]:
    with grpc.insecure_channel(workshop.suite.endpoints["finetuning"]) as channel:
        yield Party(channel)


def test_a_model_goes_to_a_distributor_on_the_list_and_by_consent_to_others_and_to_nobody_else(
    workshop: Workshop, ada: Tuner, party: Party
) -> None:
    model = workshop.worker.train(ada)
    unlisted = outcome(partial(authorize, ada, model.model_id, "cloud-2"))
    assert unlisted == "PERMISSION_DENIED DISTRIBUTOR_UNKNOWN"
    assert transfers(ada, model.model_id) == []
    assert party.ending(party.download("ptk_unheard-of")) == "UNAUTHENTICATED CREDENTIAL_INVALID"

    authorized, consented = authorize(ada, model.model_id), consent(ada, model.model_id)

    for made in (authorized, consented):
        assert party.bytes(made.secret) == WEIGHTS
    listed = transfers(ada, model.model_id)
    assert {(one.gate, one.party, one.purpose) for one in listed} == {
        (model_pb2.Transfer.GATE_DISTRIBUTOR, DISTRIBUTOR, ""),
        (model_pb2.Transfer.GATE_CONSENT, *PARTY.values()),
    }
    assert all(one.HasField("last_download_time") for one in listed)
    assert party.ending(party.download(ada.secret)) == "UNAUTHENTICATED CREDENTIAL_INVALID"
    keys = (authorized.secret, consented.secret)
    assert [outcome(partial(_used_as_a_key, workshop, key, model.model_id)) for key in keys] == [
        "UNAUTHENTICATED CREDENTIAL_INVALID"
    ] * 2


def _used_as_a_key(workshop: Workshop, secret: str, model_id: str) -> None:
    Tuner(secret, workshop.made.connect(secret)).model(model_id)


def test_the_key_of_a_transfer_is_shown_once_and_stands_in_no_file(workshop: Workshop, ada: Tuner) -> None:
    """Case 26, the keys of transfers."""
    request = authorization(workshop.worker.train(ada).model_id)
    made, again = (ada.connection.ask(ada.models.AuthorizeTransfer, request) for _ in range(2))

    assert made.secret
    assert (again.transfer.transfer_id, again.secret) == (made.transfer.transfer_id, "")
    assert again.secret_reason == error_reason_pb2.ERROR_REASON_SECRET_ALREADY_SHOWN
    assert_nowhere(workshop.suite, [made.secret])


def test_only_an_admin_of_the_organization_opens_and_shuts_the_gates(
    workshop: Workshop, customer: Customer, ada: Tuner, party: Party
) -> None:
    model = workshop.worker.train(ada)
    made = consent(ada, model.model_id)
    bo = colleague(workshop.made, customer, "bo")
    eve = tuner(workshop.made, workshop.made.new(PAID))
    operator = Tuner("", workshop.made.operator)
    for who, answer in ((bo, ROLE_MISSING), (eve, GONE), (operator, "PERMISSION_DENIED CALLER_NOT_ALLOWED")):
        ways = (
            partial(authorize, who, model.model_id),
            partial(consent, who, model.model_id),
            partial(revoke, who, made.transfer.transfer_id),
            partial(transfers, who, model.model_id),
        )
        assert [outcome(way) for way in ways] == [answer] * len(ways)
    assert [one.transfer_id for one in transfers(ada, model.model_id)] == [made.transfer.transfer_id]
    assert party.bytes(made.secret) == WEIGHTS


def test_a_revocation_or_a_deletion_ends_a_transfer_in_the_middle(
    workshop: Workshop, ada: Tuner, party: Party
) -> None:
    model = workshop.worker.train(ada, LARGE)
    revoked, other = authorize(ada, model.model_id), consent(ada, model.model_id)
    streams = [party.download(one.secret) for one in (revoked, other)]
    for stream in streams:
        next(stream)

    revoke(ada, revoked.transfer.transfer_id)
    assert party.ending(streams[0]) == ENDED
    assert party.ending(party.download(revoked.secret)) == ENDED
    next(streams[1])
    ada.delete(model.model_id)

    assert party.ending(streams[1]) == ENDED
    assert party.ending(party.download(other.secret)) == ENDED
    assert outcome(partial(authorize, ada, model.model_id)) == DELETED
    states = {one.transfer_id: one.state for one in transfers(ada, model.model_id)}
    assert states[revoked.transfer.transfer_id] == model_pb2.Transfer.STATE_REVOKED


def test_a_transfer_ends_with_the_workspace_of_its_model(
    workshop: Workshop, customer: Customer, party: Party
) -> None:
    workspace_id = new_workspace(customer)
    there = colleague(workshop.made, customer, "there", workspace_id)
    made = consent(there, workshop.worker.train(there, LARGE).model_id)
    begun = party.download(made.secret)
    next(begun)

    delete_workspace(customer, workspace_id)

    until(lambda: party.ending(party.download(made.secret)) == ENDED)
    assert party.ending(begun) == ENDED
