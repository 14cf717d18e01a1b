"""`up`, `serve` and `migrate`: from an empty folder to running services."""

import contextlib
import importlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.markup import escape

from perron.cli import output, training
from perron.cli.connection import folder
from perron.cli.listening import SERVICES
from perron.cli.output import AsJson
from perron.cli.suite import STORES, Suite
from perron.cli.training import TRAINER

PORT_BASE = 7400

FIRST_STEPS = (
    "export PERRON_API_KEY=$(perron orgs create Acme --email ada@acme.example --accept-terms --print-key)",
    'perron admit "What does json.dumps do?" --answer "It serializes an object to JSON."',
    "perron trace last",
    "perron decisions explain last",
)

Service = Annotated[str, typer.Argument(help=f"One of {', '.join(SERVICES)}.")]


def up(
    port_base: Annotated[
        int, typer.Option(min=0, max=65000, help="Port of admission; the others follow. 0 draws free ports.")
    ] = PORT_BASE,
    var: Annotated[
        Path | None, typer.Option(help="Folder of stores, keys and logs; default: PERRON_VAR or var.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Start every service on this machine, with its data in var/, until Ctrl-C.

    Stores are migrated, and operator and service keys made, at the first start. Where the extra `trainer` is
    installed, a trainer runs too, with a tiny base model to try it with; TRAINER=0 leaves it out.
    """
    stop = threading.Event()
    with _signals(stop), output.notes.status("starting") as status:
        suite = Suite(
            var or folder(),
            ports=port_base,
            environment=_traced(),
            trainer=training.wanted(),
            progress=lambda step: status.update(f"{step} …"),
        )
        with suite:
            status.stop()
            _announce(suite, as_json=as_json)
            untrained = False
            while not stop.wait(0.5):
                died = suite.died()
                if TRAINER in died and not untrained:  # killed for its memory, say: the services need none
                    untrained = True
                    output.note(f"{died[TRAINER]}; jobs wait for another: perron trainer")
                for service in died.keys() - {TRAINER}:
                    _fail(died[service])
            output.note("draining")
    output.note("stopped")


def _traced() -> dict[str, str]:
    """Here every call is traced, unless the environment says otherwise: the files are capped and at hand."""
    ratios = {f"PERRON_{name.upper()}_TRACE_RATIO": "1" for name in SERVICES}
    return {name: os.environ.get(name, ratio) for name, ratio in ratios.items()}


def serve(service: Service) -> None:
    """Run one service in this process, configured by its environment: the way to run it in production."""
    _known(service)
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", f"perron.{service}"])  # noqa: S606 (the point of the command)


def trainer(
    server: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Where finetuning listens; default: as configured.")
    ] = "",
    key_file: Annotated[str, typer.Option(help="File of a service key that was minted as `trainer`.")] = "",
    models: Annotated[str, typer.Option(help="The operator's base models, YAML.")] = "",
    scratch: Annotated[str, typer.Option(help="Folder for one job's files, this worker's alone.")] = "",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "",
) -> None:
    """Run a worker that trains what finetuning lends it, until Ctrl-C; anywhere, also without the services.

    Every option is also a setting, PERRON_TRAINER_…; needs the extra `trainer`.
    """
    given = {
        "FINETUNING_TARGET": server,
        "KEY_FILE": key_file,
        "MODELS_FILE": models,
        "SCRATCH_FOLDER": scratch,
        "DEVICE": device,
    }
    environment = os.environ | {f"PERRON_TRAINER_{name}": value for name, value in given.items() if value}
    sys.stdout.flush()
    os.execve(sys.executable, [sys.executable, "-m", "perron.trainer"], environment)  # noqa: S606 (as `serve`)


def migrate(
    service: Annotated[str, typer.Argument(help=f"One of {', '.join(STORES)}; default: all of them.")] = "",
    as_json: AsJson = False,
) -> None:
    """Bring stores to the newest revision, each at its PERRON_<SERVICE>_DATABASE_URL, before an upgrade."""
    if service and service not in STORES:
        raise typer.BadParameter(f"{service!r} has no store; {', '.join(STORES)} have", param_hint="SERVICE")
    from perron.chassis.migrations import runner  # alembic is a fifth of a second that few commands need

    rows = []
    for name in (service,) if service else STORES:
        settings = importlib.import_module(f"perron.{name}.settings").Settings.load()
        with output.notes.status(f"migrating {name}"):
            done = runner.migrate(name, settings.database_url)
        rows.append({"service": name, "before": done.before or "empty", "now": done.after})
    output.show_list(rows, ("service", "before", "now"), as_json=as_json, empty="")


def _announce(suite: Suite, *, as_json: bool) -> None:
    if as_json:
        output.show(
            {"endpoints": suite.endpoints, "pids": suite.pids, "folder": str(suite.folder)}, as_json=True
        )
        sys.stdout.flush()
        return
    rows = [
        {"service": name, "address": suite.endpoints.get(name, "none: it asks finetuning"), "process": pid}
        for name, pid in sorted(suite.pids.items(), key=lambda one: (*suite.endpoints, TRAINER).index(one[0]))
    ]
    output.show_list(rows, ("service", "address", "process"), as_json=False, empty="")
    output.note(f"data, keys and logs are in {suite.folder}; Ctrl-C ends it")
    if suite.first_start:
        output.answers.print("\nIn another terminal, four lines lead to a first Admit:\n")
        for step in FIRST_STEPS:
            output.answers.print(f"  {step}", markup=False)


@contextlib.contextmanager
def _signals(stop: threading.Event) -> Iterator[None]:
    """The first Ctrl-C or SIGTERM drains; during the start, and a second time, it interrupts."""

    def asked(_number: int, _frame: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    before = {
        number: signal.signal(number, asked) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _known(service: str) -> None:
    if service not in SERVICES:
        raise typer.BadParameter(f"{service!r} is none of {', '.join(SERVICES)}", param_hint="SERVICE")


def _fail(line: str) -> NoReturn:
    output.notes.print(f"[red]{escape(line)}[/red]")
    raise typer.Exit(output.REFUSED)
