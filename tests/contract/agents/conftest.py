from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from perron.chassis.migrations.runner import migrate
from perron.chassis.testing import FakeClock
from tests.contract.agents.world import World, running


@pytest.fixture
async def world(tmp_path: Path, clock: FakeClock) -> AsyncIterator[World]:
    url = f"sqlite:///{tmp_path / 'agents.db'}"
    migrate("agents", url)
    async with running(tmp_path, url, clock) as world:
        yield world
