from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from perron.chassis.testing import FakeClock
from tests.contract.finetuning.stand_in import Running, serving, stamped
from tests.contract.finetuning.world import World, running


@pytest.fixture
async def world(tmp_path: Path, clock: FakeClock) -> AsyncIterator[World]:
    async with running(tmp_path, clock) as world:
        yield world


@pytest.fixture
async def finetuning(database_url: str, tmp_path: Path, clock: FakeClock) -> AsyncIterator[Running]:
    """The service alone, over an empty store; parametrize `database_url` with BOTH, or get SQLite."""
    async with serving(stamped(database_url), tmp_path, clock) as service:
        service.person("ada")
        yield service
