"""Measures the budgets, prints them as a table and writes var/bench.json: `python -m tests.bench`.

QUICK=1 takes fewer and shorter rounds of the same sizes. Names of figures as arguments measure those alone,
by group: `python -m tests.bench overload`.
"""

import os
import sys
import time
from contextlib import ExitStack

from perron.cli.suite import Suite
from tests.bench import budgets, files, measures, stores
from tests.bench.processes import Child, LoadProcess

GROUPS = ("memory", "ratios", "growth", "overload", "fairness", "files")
FULL, QUICK = measures.Pace(rounds=5, seconds=5.0), measures.Pace(rounds=3, seconds=2.0)


def main(wanted: list[str]) -> int:
    """Runs the groups that are wanted (none named: all); the exit code says whether every budget is met."""
    begin = time.monotonic()
    groups = wanted or list(GROUPS)
    pace = QUICK if os.environ.get("QUICK") else FULL
    stores.prepare()
    figures: list[budgets.Figure] = []
    notes: dict[str, float] = {}
    with ExitStack() as stack:
        bench = _started(stack, pace)
        if "memory" in groups:
            figures.append(measures.idle_memory(bench))
        if "ratios" in groups:
            ratios, notes = measures.interleaved(bench, _say)
            figures.extend(ratios)
        for name, measure in (
            ("growth", measures.growth),
            ("overload", measures.overload),
            ("fairness", measures.fairness),
        ):
            if name in groups:
                _say(name)
                figures.append(measure(bench))
        if "files" in groups:
            _say("files")
            figures.extend(files.measure(bench.suite, pace.rounds))
    print(f"\n{'figure':26} {'value':>10}   budget")
    for figure in sorted(figures, key=lambda figure: list(budgets.BUDGETS).index(figure.name)):
        print(figure.line())
    print()
    for name, value in notes.items():
        print(f"{name:26} {value:10.2f}")
    budgets.write(figures, notes, stores.ROOT / "var" / "bench.json")
    missed = [figure.name for figure in figures if not figure.is_met]
    took = time.monotonic() - begin
    print(f"\n{len(figures)} measured, {len(missed)} missed, in {took:.0f} s; var/bench.json has them")
    return 1 if missed else 0


def _started(stack: ExitStack, pace: measures.Pace) -> measures.Bench:
    _say("starting")
    collector = stack.enter_context(Child("tests.bench.collector"))
    endpoint = f"http://127.0.0.1:{collector.greeting}"
    return measures.Bench(
        pace=pace,
        empty=stack.enter_context(Child("tests.bench.empty_server")),
        load=stack.enter_context(LoadProcess()),
        second_load=stack.enter_context(LoadProcess()),
        suite=stack.enter_context(Suite(stores.copy_of_base("run"), environment=measures.settings())),
        traced=stack.enter_context(
            Suite(stores.copy_of_base("traced"), environment=measures.settings(tracing_to=endpoint))
        ),
        million=stack.enter_context(
            Suite(stores.FOLDER / "million", environment=measures.settings(), services=("identity",))
        ),
        crowded=stack.enter_context(
            Suite(
                stores.FOLDER / "crowded",
                environment=measures.settings(),
                services=("identity", "governance", "agents"),
            )
        ),
        collector=collector,
    )


def _say(step: str) -> None:
    print(f"{step} …", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
