"""Fixtures of all tests, and the PostgreSQL that store and suite tests share."""

import os
from collections.abc import AsyncIterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import settings

from perron import chassis
from perron.chassis.database import Database
from perron.chassis.testing import POSTGRES_URL, FakeClock, empty_store, postgresql_server
from tests.scale import times

# pytest imports readline, which sets the width of a terminal that is not there, for all that follows.
os.environ.pop("COLUMNS", None)

# No deadline: a busy machine is no counterexample.
settings.register_profile("perron", deadline=None, max_examples=times(100, 2_000))
settings.load_profile("perron")

_SERVER = ExitStack()
_SERVICES = Path(chassis.__path__[0]).parent


def pytest_configure(config: pytest.Config) -> None:
    # Once, in the controller; the workers of xdist inherit its environment.
    if (
        not hasattr(config, "workerinput")
        and POSTGRES_URL not in os.environ
        and not config.option.collectonly
    ):
        os.environ[POSTGRES_URL] = _SERVER.enter_context(postgresql_server())
        _SERVER.callback(os.environ.pop, POSTGRES_URL)


def pytest_unconfigure() -> None:
    _SERVER.close()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def service(request: pytest.FixtureRequest) -> str:
    """The service whose tables a test needs: the folder of its name that the test lies in."""
    folders = request.path.relative_to(Path(__file__).parent).parts
    return next((folder for folder in folders if (_SERVICES / folder / "tables.py").is_file()), "chassis")


@pytest.fixture
def database_url(request: pytest.FixtureRequest, service: str, tmp_path: Path) -> str:
    """An empty store; parametrize with BOTH and indirect=True, or get SQLite."""
    return empty_store(getattr(request, "param", "sqlite"), service, tmp_path)


@pytest.fixture
async def database(
    request: pytest.FixtureRequest, service: str, tmp_path: Path, clock: FakeClock
) -> AsyncIterator[Database]:
    """An open empty store whose time is `clock`; parametrize with BOTH and indirect=True, or get SQLite."""
    opened = Database(empty_store(getattr(request, "param", "sqlite"), service, tmp_path), clock=clock)
    yield opened
    await opened.aclose()
