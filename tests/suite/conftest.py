"""The running suite that the tests of one process share, and its inhabitants."""

from collections.abc import Iterator

import pytest

from perron.cli.suite import Suite
from tests.attacks.requests import Requests
from tests.attacks.world import World
from tests.extras import HAS_TRAINER

collect_ignore = [] if HAS_TRAINER else ["test_trainer.py"]


@pytest.fixture(scope="session")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    """Every service as its own process, on SQLite; tests that end services start a suite of their own."""
    with Suite(tmp_path_factory.mktemp("suite")) as running:
        yield running


@pytest.fixture(scope="session")
def world(suite: Suite) -> Iterator[World]:
    """Two tenants, operators and services that live on the shared suite."""
    inhabited = World(suite)
    yield inhabited
    inhabited.wire.close()


@pytest.fixture(scope="session")
def requests(world: World) -> Requests:
    """Valid requests about the first tenant, unless told otherwise."""
    return Requests(world)
