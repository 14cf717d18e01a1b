from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from perron.chassis.migrations import runner
from perron.chassis.testing import FakeClock
from tests.contract.quotas.stand_in import Running, serving

TIERS = """
tiers:
  - name: free
    limits:
      - {scope: organization, metric: requests, window: minute, amount: 20}
      - {scope: workspace, metric: tokens, window: hour, amount: 10_000}
      - {scope: key, metric: requests, window: minute, amount: 10}
      - {scope: key, model: large-1, metric: tokens, window: day, amount: 500}
  - name: scale-1
    limits:
      - {scope: key, metric: requests, window: minute, amount: 1000}
"""


@pytest.fixture
async def quotas(tmp_path: Path, clock: FakeClock) -> AsyncIterator[Running]:
    url = f"sqlite:///{tmp_path / 'quotas.db'}"
    runner.migrate("quotas", url)
    async with serving(url, tmp_path, TIERS, clock) as running:
        yield running
