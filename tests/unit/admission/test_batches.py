import asyncio

import pytest

from perron.admission.admissions import Admissions
from perron.chassis import credentials
from perron.chassis.errors import (
    DeadlineExceeded,
    PerronError,
    Unavailable,
)
from perron.chassis.interceptors import deadline
from tests.unit.admission.exchange import (
    GATEWAY,
    REQUEST,
    FakePeers,
    admit,
    ask,
)


@pytest.mark.parametrize("release", [None, Unavailable("PEER_UNAVAILABLE", "quotas does not answer")])
async def test_an_undecided_call_gives_back_what_it_reserved(
    admissions: Admissions, peers: FakePeers, release: PerronError | None
) -> None:
    peers.deciding.answer = Unavailable("PEER_UNAVAILABLE", "governance does not answer")
    peers.releasing.answer = release

    with pytest.raises(Unavailable) as refused:
        await admit(admissions, ask())

    assert refused.value is peers.deciding.answer
    assert [request.reservation_id for request in peers.releasing.asked] == ["res_a"]


@pytest.mark.parametrize("slow", ["reserving", "deciding"])
async def test_a_caller_that_leaves_halfway_leaves_nothing_reserved(
    admissions: Admissions, peers: FakePeers, slow: str
) -> None:
    question = getattr(peers, slow)
    question.gate = asyncio.Event()
    caller = asyncio.create_task(admit(admissions, ask()))
    await question.reached.wait()

    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    question.gate.set()
    await admissions.aclose()

    assert [request.reservation_id for request in peers.releasing.asked] == ["res_a"]


async def test_a_caller_that_may_come_back_finds_its_admission(
    admissions: Admissions, peers: FakePeers
) -> None:
    peers.deciding.gate = asyncio.Event()
    caller = asyncio.create_task(admit(admissions, ask(request_id=REQUEST)))
    await peers.deciding.reached.wait()

    caller.cancel()
    peers.deciding.gate.set()
    await admit(admissions, ask(request_id=REQUEST))
    await admissions.aclose()

    assert not peers.releasing.asked
    assert len({item.request_id for item in peers.reserving.asked}) == 1
    assert len({item.request_id for item in peers.deciding.asked}) == 1
    assert peers.reserving.asked[0].request_id != peers.deciding.asked[0].request_id


async def test_exchanges_of_a_batch_are_answered_each_by_itself(
    admissions: Admissions, peers: FakePeers
) -> None:
    asks = [ask(), ask(credential="typo"), ask(model="large-1"), ask()]

    answers = await admissions.admit(GATEWAY, asks)

    reasons = [answer.reason if isinstance(answer, PerronError) else "" for answer in answers]
    assert reasons == ["", "CREDENTIAL_INVALID", "MODEL_UNKNOWN", ""]
    assert len(peers.verifying.asked) == 3
    assert len(peers.reserving.asked) == len(peers.deciding.asked) == 2


async def test_a_call_whose_time_runs_out_halfway_leaves_nothing_reserved(
    admissions: Admissions, peers: FakePeers
) -> None:
    peers.deciding.gate = asyncio.Event()
    deadline.set_instant(asyncio.get_running_loop().time() + 0.02)

    with pytest.raises(DeadlineExceeded):
        await admit(admissions, ask())
    await admissions.aclose()

    assert [request.reservation_id for request in peers.releasing.asked] == ["res_a"]


async def test_organizations_take_turns_however_many_keys_they_use(
    admissions: Admissions, peers: FakePeers
) -> None:
    own = [credentials.with_checksum("test", f"{number:043d}") for number in range(200)]
    other = credentials.with_checksum("test", "o" * 43)
    peers.by_credential = dict.fromkeys(own, "org_greedy") | {other: "org_other"}
    await admissions.admit(GATEWAY, [ask(credential=secret) for secret in [*own, other]])
    peers.verifying.asked.clear()
    peers.verifying.gate = asyncio.Event()

    first = asyncio.create_task(admissions.admit(GATEWAY, [ask(credential=own[0])]))
    await asyncio.sleep(0)
    waiting = [asyncio.create_task(admissions.admit(GATEWAY, [ask(credential=secret) for secret in own]))]
    await asyncio.sleep(0)
    waiting.append(asyncio.create_task(admissions.admit(GATEWAY, [ask(credential=other)] * 10)))
    await asyncio.sleep(0)
    peers.verifying.gate.set()
    await asyncio.gather(first, *waiting)

    second_batch = [item.credential for item in peers.verifying.asked[1:129]]
    assert second_batch.count(other) == 10
