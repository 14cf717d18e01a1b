import base64
import hashlib
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from perron.admission.admission_ids import AdmissionIds
from perron.admission.model import Admission
from perron.chassis import sealing
from perron.chassis.clock import to_us
from perron.chassis.errors import FailedPrecondition, NotFound
from perron.chassis.testing import FakeClock

START = datetime(2026, 1, 1, tzinfo=UTC)
TTL = timedelta(minutes=1)
ADMISSION = Admission(
    reservation_id="res_01",
    decision_id="dec_01",
    organization_id="org_01",
    workspace_id="ws_01",
    model="small-1",
    gateway_key_id="key_gateway",
    as_of_us=to_us(START),
    expire_us=to_us(START + TTL),
    keep_content=True,
)
OLD, NEW = b"o" * 32, b"n" * 32


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(START)


def test_an_id_opens_to_what_was_sealed(clock: FakeClock) -> None:
    ids = AdmissionIds([OLD], clock)

    assert ids.open(ids.seal(ADMISSION), "key_gateway") == ADMISSION


def test_an_id_from_before_agents_opens_and_names_none(clock: FakeClock) -> None:
    ids = AdmissionIds([OLD], clock)
    named = msgspec.structs.replace(ADMISSION, agent_id="agt_01", agent_version=3)
    earlier = msgspec.msgpack.encode(msgspec.to_builtins(ADMISSION)[:9])
    name = hashlib.sha256(b"perron admission key name" + OLD).digest()[:4]
    sealed = name + sealing.seal(OLD, earlier, b"perron admission v1")
    written = "adm_" + base64.urlsafe_b64encode(sealed).decode().rstrip("=")

    assert ids.open(written, "key_gateway") == ADMISSION
    assert ids.open(ids.seal(named), "key_gateway") == named
    assert len(ids.seal(named)) < 2048


def test_an_id_shows_nothing_of_what_it_holds(clock: FakeClock) -> None:
    first, second = (AdmissionIds([OLD], clock).seal(ADMISSION) for _ in range(2))

    assert first != second
    assert "small-1" not in first


def test_another_gateways_key_finds_no_such_admission(clock: FakeClock) -> None:
    ids = AdmissionIds([OLD], clock)

    with pytest.raises(NotFound) as refused:
        ids.open(ids.seal(ADMISSION), "key_other")
    with pytest.raises(NotFound) as unknown:
        ids.open("adm_x", "key_other")

    assert refused.value.message == unknown.value.message


@pytest.mark.parametrize(
    "forged",
    ["", "adm_", "adm_AAAA", "adm_!!!!", "adm_" + "A" * 200, "adm_ü", "x", "adm_\0", "adm_" + "A" * 2044],
)
def test_what_was_not_sealed_here_does_not_exist(clock: FakeClock, forged: str) -> None:
    with pytest.raises(NotFound):
        AdmissionIds([OLD], clock).open(forged, "key_gateway")


def test_one_changed_character_makes_another_id(clock: FakeClock) -> None:
    ids = AdmissionIds([OLD], clock)
    sealed = ids.seal(ADMISSION)

    for place in range(4, len(sealed) - 1):
        changed = sealed[:place] + ("A" if sealed[place] != "A" else "B") + sealed[place + 1 :]
        with pytest.raises(NotFound):
            ids.open(changed, "key_gateway")


def test_a_replica_that_seals_with_the_new_key_is_understood_and_understands(clock: FakeClock) -> None:
    before, during, after = (AdmissionIds(keys, clock) for keys in ([OLD, NEW], [NEW, OLD], [NEW]))

    assert before.open(during.seal(ADMISSION), "key_gateway") == ADMISSION
    assert during.open(before.seal(ADMISSION), "key_gateway") == ADMISSION
    with pytest.raises(NotFound):
        after.open(before.seal(ADMISSION), "key_gateway")


def test_usage_is_taken_for_24_hours_after_the_ttl_and_no_longer(clock: FakeClock) -> None:
    ids = AdmissionIds([OLD], clock)
    sealed = ids.seal(ADMISSION)

    clock.advance(TTL + timedelta(hours=24) - timedelta(microseconds=1))
    assert ids.open(sealed, "key_gateway") == ADMISSION

    clock.advance(timedelta(microseconds=1))
    with pytest.raises(FailedPrecondition) as refused:
        ids.open(sealed, "key_gateway")
    assert refused.value.reason == "ADMISSION_EXPIRED"


def test_content_is_taken_until_the_ttl_and_no_longer(clock: FakeClock) -> None:
    ids = AdmissionIds([OLD], clock)

    clock.advance(TTL - timedelta(microseconds=1))
    assert ids.takes_content(ADMISSION)

    clock.advance(timedelta(microseconds=1))
    assert not ids.takes_content(ADMISSION)
