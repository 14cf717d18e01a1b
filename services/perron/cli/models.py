"""Fine-tuned models and the base models that they begin from."""

from pathlib import Path
from typing import Annotated

import typer

from perron.cli import model_copies, model_transfers, output, training, tuned_models
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
    training.need()
    target = into or training.tiny_base(folder())
    with output.notes.status("making a tiny base model …"):
        parameters = training.TinyBase(target).made()
    output.show({"folder": str(target), "parameters": parameters}, as_json=as_json)


tuned_models.add_to(app)
model_copies.add_to(app)
model_transfers.add_to(app)
