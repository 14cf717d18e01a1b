"""How each figure is measured: what runs, how long, and what is divided by what.

CPU is the servers' own; the load runs in other processes. Ratios are taken round by round, so that whatever
else the machine does in that second is in numerator and denominator, and the median of the rounds counts.
"""

import json
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from perron.cli.suite import Suite
from tests.bench import agents, stores, tenants
from tests.bench.budgets import Figure
from tests.bench.job import Job, Outcome
from tests.bench.processes import Child, LoadProcess, cpu_seconds, resident_mb

IN_FLIGHT = 256
BATCHES_IN_FLIGHT = 8
OVERLOAD = 10
HOG_IN_FLIGHT = 2000
SETTLE_SECONDS = 2.0
MEET_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Pace:
    """How many rounds, and how long each of their parts is."""

    rounds: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Bench:
    """All processes of a run."""

    pace: Pace
    empty: Child
    load: LoadProcess
    second_load: LoadProcess
    suite: Suite
    traced: Suite
    million: Suite
    crowded: Suite
    collector: Child


@dataclass(slots=True)
class Samples:
    """One ratio per round, and how many calls or items all rounds together made."""

    values: list[float] = field(default_factory=list)
    n: int = 0

    def add(self, value: float, n: int) -> None:
        self.values.append(value)
        self.n += n

    def figure(self, name: str, of: str) -> Figure:
        return Figure(name, statistics.median(self.values), self.n, of)


def idle_memory(bench: Bench) -> Figure:
    """The largest resident memory of a service that has just started."""
    time.sleep(SETTLE_SECONDS)
    return Figure(
        "idle_rss_mb", max(map(resident_mb, bench.suite.pids.values())), len(bench.suite.pids), "services"
    )


def interleaved(bench: Bench, progress: Callable[[str], None]) -> tuple[list[Figure], dict[str, float]]:
    """Everything that is a ratio to the empty call, and what tracing and a million keys cost."""
    samples = {
        name: Samples()
        for name in (
            "admit_cpu_ratio",
            "admit_complete_cpu_ratio",
            "admit_latency_ratio",
            "batch_verify_ratio",
            "batch_reserve_ratio",
            "batch_decide_ratio",
            "batch_resolve_ratio",
            "verify_growth_ratio",
            "resolve_growth_ratio",
            "list_agents_growth_ratio",
            "tracing_cpu_ratio",
        )
    }
    notes: dict[str, list[float]] = {}
    for number in range(bench.pace.rounds + 1):
        progress("warming up" if number == 0 else f"round {number} of {bench.pace.rounds}")
        found, noted = _round(bench, warming_up=number == 0)
        if number == 0:
            continue
        for name, (value, n) in found.items():
            samples[name].add(value, n)
        for name, value in noted.items():
            notes.setdefault(name, []).append(value)
    of = {name: "items" for name in samples if name.startswith("batch_")}
    of |= {"verify_growth_ratio": "keys stored"}
    of |= dict.fromkeys(("resolve_growth_ratio", "list_agents_growth_ratio"), "agents in a workspace")
    for name, stored in (
        ("verify_growth_ratio", stores.MILLION),
        ("resolve_growth_ratio", agents.CROWD),
        ("list_agents_growth_ratio", agents.CROWD),
    ):
        samples[name].n = stored
    figures = [sample.figure(name, of.get(name, "calls")) for name, sample in samples.items()]
    return figures, {name: statistics.median(values) for name, values in notes.items()}


def _round(bench: Bench, *, warming_up: bool) -> tuple[dict[str, tuple[float, int]], dict[str, float]]:
    seconds = 1.0 if warming_up else bench.pace.seconds
    empty_job = Job("empty", f"127.0.0.1:{bench.empty.greeting}", IN_FLIGHT, seconds)
    _, empty_cpu = _run(bench, empty_job, [bench.empty.pid])
    admit, admit_cpu = _run(
        bench, _admission(bench.suite, "admit", IN_FLIGHT, seconds), bench.suite.pids.values()
    )
    both, both_cpu = _run(
        bench, _admission(bench.suite, "admit_complete", IN_FLIGHT, seconds), bench.suite.pids.values()
    )
    traced, traced_cpu = _run(
        bench, _admission(bench.traced, "admit", IN_FLIGHT, seconds), bench.traced.pids.values()
    )
    empty_job.in_flight = 1
    alone, _ = _run(bench, empty_job, [bench.empty.pid])
    single, _ = _run(bench, _admission(bench.suite, "admit", 1, seconds), bench.suite.pids.values())
    batches = {
        kind: measured(bench, _batches(bench.suite, kind, service, seconds), [bench.suite.pids[service]])
        for kind, service, measured in (
            ("verify", "identity", _run),
            ("reserve", "quotas", _run_with_known_passports),
            ("decide", "governance", _run_with_known_passports),
            ("resolve", "agents", _run_with_known_passports),
        )
    }
    # The same keys, in a store a thousand times larger.
    large, large_cpu = _run(
        bench, _batches(bench.million, "verify", "identity", seconds), [bench.million.pids["identity"]]
    )
    found = {
        "admit_cpu_ratio": (admit_cpu / empty_cpu, admit.done),
        "admit_complete_cpu_ratio": (both_cpu / empty_cpu, both.done),
        "admit_latency_ratio": (single.median_ms / alone.median_ms, single.done),
        "tracing_cpu_ratio": (traced_cpu / admit_cpu, traced.done),
        "verify_growth_ratio": (large_cpu / batches["verify"][1], large.done),
    }
    for kind, growth_of in (("resolve", _resolve_one_workspace), ("list_agents", _list_agents)):
        few, many = (
            _run(bench, growth_of(suite, file, seconds), [suite.pids["agents"]])
            for suite, file in ((bench.suite, agents.FEW), (bench.crowded, agents.CROWDED))
        )
        found[f"{kind}_growth_ratio"] = (many[1] / few[1], many[0].done)
    for kind, (outcome, cpu) in batches.items():
        found[f"batch_{kind}_ratio"] = (empty_cpu / cpu, outcome.done)
    noted = {
        "empty_cpu_us": empty_cpu * 1e6,
        "admit_cpu_us": admit_cpu * 1e6,
        "admit_complete_cpu_us": both_cpu * 1e6,
        "empty_median_ms": alone.median_ms,
        "admit_median_ms": single.median_ms,
        "admits_per_second": admit.per_second,
        **{f"{kind}_items_per_cpu_second": 1 / cpu for kind, (_, cpu) in batches.items()},
    }
    return found, noted


def _run(bench: Bench, job: Job, pids: Iterable[int]) -> tuple[Outcome, float]:
    """Runs a load to its end; returns what came of it and the servers' CPU seconds per item."""
    pids = list(pids)
    before = cpu_seconds(pids)
    outcome = bench.load.run(job)
    if outcome.refused:
        raise RuntimeError(f"{job.kind} at {job.in_flight} in flight: refused {outcome.refused}")
    return outcome, (cpu_seconds(pids) - before) / outcome.done


def _run_with_known_passports(bench: Bench, job: Job, pids: Iterable[int]) -> tuple[Outcome, float]:
    """Runs a load whose passports the service has met before.

    A service checks the signature of a key's passport once in the 15 s for which identity signs no other. In
    a round of a few seconds that begins with a thousand new ones they would count several times as much, and
    the more, the slower the machine is in that second.
    """
    bench.load.run(replace(job, seconds=MEET_SECONDS))
    return _run(bench, job, pids)


def overload(bench: Bench) -> Figure:
    """Admits per second at ten times the calls in flight that saturate, against their peak."""
    samples = Samples()
    for _ in range(bench.pace.rounds):
        peak = bench.load.run(_admission(bench.suite, "admit", IN_FLIGHT, 2 * bench.pace.seconds))
        over = bench.load.run(_admission(bench.suite, "admit", OVERLOAD * IN_FLIGHT, 4 * bench.pace.seconds))
        stray = over.refused.keys() - {"RESOURCE_EXHAUSTED", "UNAVAILABLE"}
        if stray:
            raise RuntimeError(f"overload was answered {over.refused}")
        samples.add(over.per_second / peak.per_second, over.done)
    return samples.figure("overload_goodput_ratio", f"calls, {OVERLOAD * IN_FLIGHT:,} in flight")


def fairness(bench: Bench) -> Figure:
    """The median of one organization's Admits, while another keeps 2,000 in flight, against alone."""
    samples = Samples()
    job = _admission(bench.suite, "admit", IN_FLIGHT, 2 * bench.pace.seconds, secrets=tenants.ANOTHER)
    for _ in range(bench.pace.rounds):
        alone = bench.load.run(job)
        hog = _admission(bench.suite, "admit", HOG_IN_FLIGHT, 2 * bench.pace.seconds + 2, secrets=tenants.ONE)
        bench.second_load.begin(hog)
        time.sleep(1)
        beside = bench.load.run(job)
        bench.second_load.end()
        samples.add(beside.median_ms / alone.median_ms, beside.done)
    return samples.figure("fairness_ratio", f"calls, {IN_FLIGHT} in flight beside {HOG_IN_FLIGHT:,}")


def growth(bench: Bench) -> Figure:
    """Bytes that all stores grow by, per Admit and Complete without content."""
    before = stores.size(Path(bench.suite.folder))
    outcome = bench.load.run(_admission(bench.suite, "admit_complete", IN_FLIGHT, 4 * bench.pace.seconds))
    grown = stores.size(Path(bench.suite.folder)) - before
    return Figure("bytes_per_admit", grown / outcome.done, outcome.done, "admits and completes")


def _admission(
    suite: Suite, kind: str, in_flight: int, seconds: float, *, secrets: str = tenants.EVERYBODY
) -> Job:
    return Job(
        kind,
        suite.endpoints["admission"],
        in_flight,
        seconds,
        credential=suite.gateway_key,
        secrets_file=str(Path(suite.folder) / secrets),
    )


def _batches(suite: Suite, kind: str, service: str, seconds: float) -> Job:
    key = Path(suite.folder) / "keys" / "admission.key"
    return Job(
        kind,
        suite.endpoints[service],
        BATCHES_IN_FLIGHT,
        seconds,
        credential=key.read_text().strip(),
        secrets_file=str(Path(suite.folder) / tenants.EVERYBODY),
        identity_target=suite.endpoints["identity"],
        agents_file=str(Path(suite.folder) / agents.EVERYWHERE),
    )


def _resolve_one_workspace(suite: Suite, agents_file: str, seconds: float) -> Job:
    job = _batches(suite, "resolve", "agents", seconds)
    job.secrets_file = str(Path(suite.folder) / tenants.ONE_WORKSPACE)
    job.agents_file = str(Path(suite.folder) / agents_file)
    return job


def _list_agents(suite: Suite, _agents_file: str, seconds: float) -> Job:
    (place, *_) = json.loads((Path(suite.folder) / tenants.PLACES).read_text())
    return Job(
        "list_agents",
        suite.endpoints["agents"],
        BATCHES_IN_FLIGHT,
        seconds,
        credential=place["admin_secret"],
    )


def settings(*, tracing_to: str = "") -> Mapping[str, str]:
    """What the services of a suite are told: nothing sampled, or everything, exported to a collector."""
    ratio = "1" if tracing_to else "0"
    names = ("ADMISSION", "AGENTS", "IDENTITY", "QUOTAS", "GOVERNANCE")
    told = dict(stores.ENVIRONMENT) | {f"PERRON_{name}_TRACE_RATIO": ratio for name in names}
    if tracing_to:
        told |= {"OTEL_EXPORTER_OTLP_ENDPOINT": tracing_to, "OTEL_EXPORTER_OTLP_INSECURE": "true"}
    return told
