"""A job's losses as a picture; needs the extra `plot`."""

from pathlib import Path
from typing import TYPE_CHECKING

from perron.chassis.errors import SetupError
from perron.cli.job_runs import JobRun

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def figure(run: JobRun) -> "Figure":
    """The training and the validation loss over the steps; SetupError where the extra is not installed."""
    try:
        from matplotlib.figure import Figure  # a second that no other command needs
    except ImportError:
        raise SetupError("this needs the extra `plot`: pip install 'perron[plot]'") from None
    drawn = Figure(figsize=(8, 5), layout="constrained")
    axes = drawn.subplots()
    for label, points, style in (
        ("training loss", run.training, "-"),
        ("validation loss", run.validation, "o-"),
    ):
        if points:
            axes.plot([step for step, _ in points], [loss for _, loss in points], style, label=label)
    axes.set_title(run.job.job_id)
    axes.set_xlabel("step")
    axes.set_ylabel("loss")
    axes.grid(alpha=0.3)
    axes.legend()
    return drawn


def write(run: JobRun, path: Path) -> None:
    """Writes the picture as PNG; SetupError where that is not possible."""
    drawn = figure(run)
    try:
        drawn.savefig(path, format="png", dpi=150)
    except OSError as broken:
        raise SetupError(f"{path} cannot be written ({type(broken).__name__})") from None
