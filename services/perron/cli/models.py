"""Fine-tuned models and the base models that they begin from."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from perron.chassis.errors import SetupError
from perron.cli import output
from perron.cli.connection import folder
from perron.cli.output import AsJson

app = typer.Typer(no_args_is_help=True, help="Fine-tuned models, and the base models they begin from.")


@app.command("make-tiny")
def make_tiny(
    into: Annotated[
        Path | None, typer.Argument(metavar="FOLDER", help="Where to write it; default: models/tiny in var.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write a base model of random weights, small enough to be fine-tuned on a laptop in seconds.

    Needs the extra `trainer`. The same versions of its libraries write the same bytes every time.
    """
    target = into or folder() / "models" / "tiny"
    need_trainer()
    with output.notes.status("making a tiny base model …"):
        made = subprocess.run(
            [sys.executable, "-m", "perron.trainer.tiny", str(target)],
            capture_output=True,
            text=True,
            check=False,
        )
    if made.returncode:
        raise SetupError(f"{target}: {(made.stderr.strip().splitlines() or ['it could not be made'])[-1]}")
    output.show({"folder": str(target), "parameters": int(made.stdout)}, as_json=as_json)


def need_trainer() -> None:
    """Raises SetupError where the extra `trainer` is not installed."""
    if find_spec("torch") is None:
        raise SetupError("this needs the extra `trainer`: make trainer, or pip install 'perron[trainer]'")
