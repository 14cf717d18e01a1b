"""A limit of 100 admits exactly 100, however many processes ask at once and however many replicas answer."""

import asyncio
import multiprocessing
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import grpc
import pytest

from perron.api.quotas.v1 import quota_service_pb2, quota_service_pb2_grpc
from perron.chassis import status
from perron.chassis.migrations import runner
from perron.chassis.testing import BOTH, postgresql_database
from tests.contract.quotas.stand_in import Person, bearer
from tests.scale import record, times

ROOT = Path(__file__).resolve().parents[2]
PROCESSES = 8
CALLS = 50
LIMIT = 100
REPLICAS = {"sqlite": 1, "postgresql": 3}
ROUNDS = times(20, 200)


def client(barrier: Barrier, orders: Connection) -> None:
    """One client process: at each order it waits for the others, then sends 50 calls at once."""
    asyncio.run(_client(barrier, orders))


async def _client(barrier: Barrier, orders: Connection) -> None:
    stubs: dict[str, Any] = {}
    while (order := await asyncio.to_thread(orders.recv)) is not None:
        targets, passport = order
        for target in set(targets) - set(stubs):
            channel = grpc.aio.insecure_channel(target)
            await channel.channel_ready()
            stubs[target] = quota_service_pb2_grpc.QuotaServiceStub(channel)
        request = quota_service_pb2.ReserveRequest(passport=passport, model="small-1", requests=1)
        barrier.wait()
        answers = await asyncio.gather(
            *(_outcome(stubs[targets[call % len(targets)]], request) for call in range(CALLS))
        )
        orders.send(Counter(answers))


async def _outcome(stub: Any, request: quota_service_pb2.ReserveRequest) -> str:
    try:
        await stub.Reserve(request, metadata=bearer("admission"), timeout=30)
    except grpc.aio.AioRpcError as error:
        refusal = status.from_rpc_error(error)
        return refusal.reason if refusal.retry_after is not None else f"{refusal.code}: {refusal.message}"
    return "ADMITTED"


class Clients:
    """Eight client processes that start each round together."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")  # a fork after grpc was imported hangs
        self._barrier = barrier = context.Barrier(PROCESSES)  # lives as long as those who wait at it
        pairs = [context.Pipe() for _ in range(PROCESSES)]
        self._orders = [ours for ours, _ in pairs]
        self._processes = [
            context.Process(target=client, args=(barrier, theirs), daemon=True) for _, theirs in pairs
        ]
        for process in self._processes:
            process.start()
        self._rounds = 0

    def play(self, targets: list[str]) -> Counter[str]:
        """One round for a key that nobody used before: what the 400 calls were answered."""
        self._rounds += 1
        number = self._rounds
        passport = Person(organization=number, workspace=number, key=number).passport
        for order in self._orders:
            order.send((targets, passport))
        total: Counter[str] = Counter()
        for order in self._orders:
            assert order.poll(60), "a client does not answer"
            total += order.recv()
        return total

    def stop(self) -> None:
        for order in self._orders:
            order.send(None)
        for process in self._processes:
            process.join(10)


@pytest.fixture(scope="module")
def clients() -> Iterator[Clients]:
    started = Clients()
    yield started
    started.stop()


@contextmanager
def replicas(dialect: str, folder: Path, *variant: str) -> Iterator[list[str]]:
    """The servers of one store, each its own process; yields where they listen."""
    if dialect == "sqlite":
        url = f"sqlite:///{folder / 'quotas.db'}"
    else:
        url = postgresql_database(
            f"perron_atomicity_{'_'.join(variant)}{folder.parent.name}".replace("-", "_")
        )
    runner.migrate("quotas", url)
    with ExitStack() as running:
        processes = []
        for number in range(REPLICAS[dialect]):
            own = folder / str(number)
            own.mkdir()
            command = [sys.executable, "-m", "tests.suite.quota_server", url, str(own), *variant]
            processes.append(
                running.enter_context(
                    subprocess.Popen(
                        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
                    )
                )
            )
            running.callback(processes[-1].terminate)
        ports = []
        for process in processes:
            assert process.stdout is not None
            ports.append(process.stdout.readline().strip())
        assert all(ports), "a server did not start"
        yield [f"127.0.0.1:{port}" for port in ports]


@pytest.mark.parametrize("dialect", BOTH)
def test_eight_processes_at_once_are_admitted_exactly_the_limit(
    dialect: str, clients: Clients, tmp_path: Path
) -> None:
    expected = {"ADMITTED": LIMIT, "LIMIT_REACHED": PROCESSES * CALLS - LIMIT}
    with replicas(dialect, tmp_path) as targets:
        for _ in range(ROUNDS):
            assert clients.play(targets) == expected
    record("a limit of 100 admits exactly 100", store=dialect, rounds=ROUNDS, replicas=REPLICAS[dialect])


@pytest.mark.parametrize("dialect", BOTH)
def test_looking_first_and_charging_later_is_caught_by_the_same_test(
    dialect: str, clients: Clients, tmp_path: Path
) -> None:
    with replicas(dialect, tmp_path, "racy") as targets:
        admitted = [clients.play(targets)["ADMITTED"] for _ in range(5)]
    assert any(count > LIMIT for count in admitted)
