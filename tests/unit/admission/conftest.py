from typing import cast

import pytest

from perron.admission.admission_ids import AdmissionIds
from perron.admission.admissions import Admissions
from perron.admission.base_models import BaseModels
from perron.admission.peers import Peers
from perron.chassis.testing import FakeClock
from tests.unit.admission.exchange import START, FakePeers


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(START)


@pytest.fixture
def peers(clock: FakeClock) -> FakePeers:
    return FakePeers(clock)


@pytest.fixture
def admissions(peers: FakePeers, clock: FakeClock) -> Admissions:
    return Admissions(cast("Peers", peers), AdmissionIds([b"k" * 32], clock), BaseModels(["small-1"]))
