"""The running suite that the tests of one process share, and its inhabitants."""

import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from perron.api.finetuning.v1 import job_pb2
from perron.cli.demo.customer import Customer
from perron.cli.suite import Suite
from tests.attacks.requests import Requests
from tests.attacks.tuning import ENVIRONMENT
from tests.attacks.world import World
from tests.extras import HAS_TRAINER
from tests.suite.customers import PAID
from tests.suite.forge import cutting, file_id, key, run, worker  # noqa: F401 (fixtures)
from tests.suite.trainers import ASKED
from tests.suite.tuners import Tuner, tuner
from tests.suite.workers import Workshop, opened
from tests.unit.trainer.chats_of_tests import digest, task, trained

collect_ignore = (
    [] if HAS_TRAINER else ["test_finetuned_weights.py", "test_trainer.py", "test_trainer_service.py"]
)


@pytest.fixture(scope="session")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    """Every service as its own process, on SQLite; tests that end services start a suite of their own."""
    with Suite(tmp_path_factory.mktemp("suite"), environment=ENVIRONMENT) as running:
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


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    """A suite of its own, in which jobs are trained by the test."""
    with opened(tmp_path_factory.mktemp("workshop")) as running:
        yield running


@pytest.fixture
def customer(workshop: Workshop) -> Customer:
    """A new one of the workshop, on a plan that has fine-tuning."""
    return workshop.made.new(PAID)


@pytest.fixture
def ada(workshop: Workshop, customer: Customer) -> Tuner:
    """The customer's admin."""
    return tuner(workshop.made, customer)


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny base model."""
    from perron.trainer import tiny

    folder = tmp_path_factory.mktemp("tiny")
    tiny.make(folder)
    return folder


@pytest.fixture(scope="session")
def undisturbed(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The digests of what the trainers' job makes when nothing happens, trained without a worker."""
    from perron.trainer import convert

    folder = tmp_path_factory.mktemp("undisturbed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # transformers warns of its own next version
        trained(task(tiny_base, folder, convert.hyperparameters(job_pb2.TRAINING_METHOD_LORA, ASKED)))
    return {path.name: digest(path) for path in (folder / "output" / "model").iterdir()}
