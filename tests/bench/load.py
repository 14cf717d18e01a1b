"""The process that makes the calls: reads one job a line, runs it, answers one line."""

import asyncio
import json
import random
import statistics
import sys
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import grpc
import uvloop
from google.rpc import error_details_pb2, status_pb2

from tests.bench.calls import Call, calls
from tests.bench.job import Job, Outcome

_RETRY_SECONDS = 0.1


async def drive(call: Call, in_flight: int, seconds: float) -> Outcome:
    """Keeps calls in flight until the time is over; one that was refused waits as long as it was told."""
    latencies: list[float] = []
    refused: Counter[str] = Counter()
    done = 0
    begin = time.perf_counter()
    end = begin + seconds

    async def one_caller() -> None:
        nonlocal done
        while (start := time.perf_counter()) < end:
            try:
                items = await call()
            except grpc.aio.AioRpcError as error:
                refused[error.code().name] += 1
                await asyncio.sleep(min(_retry_after(error), max(0.0, end - time.perf_counter())))
            else:
                done += items
                latencies.append(time.perf_counter() - start)

    await asyncio.gather(*(one_caller() for _ in range(in_flight)))
    latencies.sort()
    return Outcome(
        done=done,
        seconds=time.perf_counter() - begin,
        median_ms=1000 * statistics.median(latencies or [float("nan")]),
        p99_ms=1000 * (latencies[int(len(latencies) * 0.99)] if latencies else float("nan")),
        refused=dict(refused),
    )


def _retry_after(error: grpc.aio.AioRpcError) -> float:
    """Seconds that RetryInfo asks for, a little spread so that not all come back at once."""
    retry = error_details_pb2.RetryInfo()
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            for detail in status_pb2.Status.FromString(value).details:
                detail.Unpack(retry)
    asked = retry.retry_delay.ToTimedelta().total_seconds()
    return (asked or _RETRY_SECONDS) * random.uniform(1.0, 1.5)


async def _run(job: Job) -> Outcome:
    secrets, agents = _listed(job.secrets_file), _listed(job.agents_file)
    async with calls(job.kind, job.target, job.credential, secrets, job.identity_target, agents) as call:
        return await drive(call, job.in_flight, job.seconds)


def _listed(path: str) -> list[Any]:
    return list(json.loads(Path(path).read_text())) if path else []


async def _serve() -> None:
    print("ready", flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        outcome = await _run(Job(**json.loads(line)))
        print(json.dumps(asdict(outcome)), flush=True)


if __name__ == "__main__":
    uvloop.run(_serve())
