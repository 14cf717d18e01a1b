from datetime import timedelta

import pytest

from perron.admission.admissions import Admissions
from perron.api.admission.v1.admission_service_pb2 import (
    CompleteResponse,
)
from perron.api.governance.v1 import record_pb2, record_service_pb2
from perron.chassis.errors import (
    FailedPrecondition,
    NotFound,
)
from perron.chassis.testing import FakeClock
from tests.unit.admission.exchange import GATEWAY, FakePeers, admit, ask, complete, completion


async def test_completing_settles_and_records(admissions: Admissions, peers: FakePeers) -> None:
    admitted = await admit(admissions, ask())

    response = await complete(admissions, completion(admitted.admission_id))

    assert response == CompleteResponse(settled_tokens=42, recorded=True, record_id="rec_a")
    assert (peers.settling.asked[0].organization_id, peers.settling.asked[0].reservation_id) == (
        "org_a",
        "res_a",
    )
    assert (peers.putting.asked[0].decision_id, peers.putting.asked[0].input) == ("dec_a", b"question")


async def test_content_is_recorded_only_after_its_use_is_settled(
    admissions: Admissions, peers: FakePeers
) -> None:
    admitted = await admit(admissions, ask())
    peers.settling.answer = FailedPrecondition("RESERVATION_CLOSED", "released")

    with pytest.raises(FailedPrecondition):
        await complete(admissions, completion(admitted.admission_id))
    assert not peers.putting.asked


async def test_content_that_may_not_be_kept_goes_no_further(
    admissions: Admissions, peers: FakePeers, clock: FakeClock
) -> None:
    kept = await admit(admissions, ask())
    peers.deciding.answer.keep_content = False
    not_kept = await admit(admissions, ask())

    empty = await complete(admissions, completion(kept.admission_id, content=None))
    unwanted = await complete(admissions, completion(not_kept.admission_id))
    clock.advance(timedelta(minutes=1))
    late = await complete(admissions, completion(kept.admission_id))

    assert empty.omission == CompleteResponse.OMISSION_NO_CONTENT
    assert unwanted.omission == CompleteResponse.OMISSION_NOT_TO_BE_KEPT
    assert late.omission == CompleteResponse.OMISSION_TOO_LATE
    assert not peers.putting.asked
    assert len(peers.settling.asked) == 3


async def test_what_governance_discards_is_told_with_its_reason(
    admissions: Admissions, peers: FakePeers
) -> None:
    peers.putting.answer = record_service_pb2.PutResponse(reason=record_pb2.DISCARD_REASON_ZERO_RETENTION)
    admitted = await admit(admissions, ask())

    response = await complete(admissions, completion(admitted.admission_id))

    assert not response.recorded
    assert response.omission == CompleteResponse.OMISSION_DISCARDED
    assert response.discard_reason == record_pb2.DISCARD_REASON_ZERO_RETENTION


async def test_another_gateway_can_neither_complete_nor_abort(
    admissions: Admissions, peers: FakePeers
) -> None:
    admitted = await admit(admissions, ask())

    with pytest.raises(NotFound):
        await complete(admissions, completion(admitted.admission_id), gateway="key_other")
    with pytest.raises(NotFound):
        await admissions.abort("key_other", admitted.admission_id)
    assert not peers.settling.asked
    assert not peers.releasing.asked


async def test_aborting_releases(admissions: Admissions, peers: FakePeers) -> None:
    admitted = await admit(admissions, ask())

    await admissions.abort(GATEWAY, admitted.admission_id)

    assert [request.reservation_id for request in peers.releasing.asked] == ["res_a"]
