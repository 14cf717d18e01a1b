"""The commands of `perron`, by name, and what an error of each becomes: a line on stderr and an exit code."""

from collections.abc import Sequence
from typing import Annotated

import typer
from rich.markup import escape

from perron.chassis.errors import SetupError
from perron.cli import (
    admit,
    agents,
    check,
    decisions,
    files,
    jobs,
    keys,
    limits,
    models,
    orgs,
    output,
    sampling,
    serving,
    tracing,
)
from perron.cli.connection import RefusedError
from perron.cli.demo import playing

_HELP = """The control plane of an AI developer platform: who calls, how much, what becomes of the data.

[bold]perron up[/bold] starts it here, [bold]perron demo[/bold] plays it from end to end.

Exit codes: 0 done, 1 refused or failed, 2 wrong usage or set-up.
"""


def _print_version(wanted: bool) -> None:
    if wanted:
        import importlib.metadata  # a hundredth of a second, which is felt at every other command

        output.answers.print(f"perron {importlib.metadata.version('perron')}")
        raise typer.Exit


def build() -> typer.Typer:
    """Puts the commands together."""
    app = typer.Typer(
        name="perron",
        help=_HELP,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_options)
    run, ask = "Run", "Ask"
    app.command(rich_help_panel=run)(serving.up)
    app.command(rich_help_panel=run)(serving.serve)
    app.command(rich_help_panel=run)(serving.migrate)
    app.command(rich_help_panel=run)(serving.trainer)
    app.command(rich_help_panel=run)(check.check)
    app.command(rich_help_panel=run)(playing.demo)
    app.add_typer(orgs.app, name="orgs", rich_help_panel=ask)
    app.add_typer(keys.app, name="keys", rich_help_panel=ask)
    app.add_typer(agents.app, name="agents", rich_help_panel=ask)
    app.add_typer(limits.app, name="limits", rich_help_panel=ask)
    app.command(rich_help_panel=ask)(limits.usage)
    app.add_typer(files.app, name="files", rich_help_panel=ask)
    app.add_typer(jobs.app, name="jobs", rich_help_panel=ask)
    app.add_typer(models.app, name="models", rich_help_panel=ask)
    app.add_typer(decisions.app, name="decisions", rich_help_panel=ask)
    app.command(rich_help_panel=ask)(admit.admit)
    app.command(rich_help_panel=ask)(tracing.trace)
    app.command("samples", rich_help_panel=ask)(sampling.print_samples)
    return app


def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """What stands before every command."""


def run(arguments: Sequence[str]) -> int:
    """Runs one command line and returns its exit code; only a defect of ours leaves as an exception."""
    as_json = "--json" in arguments
    try:
        build()(args=list(arguments), prog_name="perron")
    except SetupError as fault:
        output.notes.print(f"[red]perron:[/red] {escape(str(fault))}")
        return output.USAGE
    except RefusedError as refused:
        output.show_error(refused.error, as_json=as_json, trace_id=refused.trace_id)
        return output.REFUSED
    except SystemExit as ended:  # the way in which typer ends every command line, also a good one
        return ended.code if isinstance(ended.code, int) else output.REFUSED
    return output.OK
