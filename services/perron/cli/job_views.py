"""How a job looks: alive in a terminal, with a bar and its curves; as a line for each event elsewhere."""

from collections.abc import Iterable

from google.protobuf.timestamp_pb2 import Timestamp
from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from perron.api.common.v1 import error_reason_pb2
from perron.api.finetuning.v1 import job_pb2
from perron.cli import output
from perron.cli.job_runs import FINAL, JobRun, Point
from perron.cli.loss_curves import Curve, LossCurves

_TRAINING, _VALIDATION = "cyan", "magenta"
_MARK = "●"
_ROWS = 10
_AROUND_ROWS = 7
_STATE_STYLES = {
    job_pb2.Job.STATE_SUCCEEDED: "green",
    job_pb2.Job.STATE_FAILED: "red",
    job_pb2.Job.STATE_FAILED_VALIDATION: "red",
}


class JobView:
    """A run as a renderable, drawn anew from what the run has become whenever it is asked for."""

    def __init__(self, run: JobRun) -> None:
        self._run = run

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        run = self._run
        yield self._heading()
        yield self._bar()
        if run.training or run.validation:
            curves = (Curve(run.training, _TRAINING), Curve(run.validation, _VALIDATION, _MARK))
            rows = max(min(_ROWS, (options.height or console.height) - _AROUND_ROWS), 2)
            yield LossCurves(curves, max(run.steps, run.step), rows)
            yield self._legend()
        for warning in run.warnings:
            yield Text(f"warning: {_warned(warning)}", style="yellow")
        if run.job.state in FINAL:
            yield Text(ended(run.job), style=_STATE_STYLES.get(run.job.state, ""))

    def _heading(self) -> Text:
        job = self._run.job
        method = output.enum_word(job_pb2.TrainingMethod.DESCRIPTOR, job.method)
        return Text.assemble(
            job.job_id,
            "  ",
            (_state(job), _STATE_STYLES.get(job.state, "bold")),
            f"  {method} on {job.base_model}",
        )

    def _bar(self) -> Table:
        run, latest = self._run, self._run.latest
        row = Table.grid(padding=(0, 2))
        row.add_row(
            ProgressBar(total=max(run.steps, 1), completed=run.step, width=40),
            f"step {run.step} of {run.steps}",
            f"{latest.tokens_per_second:,.0f} tokens/s" if latest else "",
            f"learning rate {latest.learning_rate:.2g}" if latest else "",
            f"checkpoint at {run.checkpoint.step}" if run.checkpoint else "",
        )
        return row

    def _legend(self) -> Text:
        run, legend = self._run, Text(" " * 9)
        if run.training:
            legend.append(f"━ training loss {run.training[-1][1]:.4g}   ", _TRAINING)
        if run.validation:
            step, least = lowest(run.validation)
            last = run.validation[-1][1]
            legend.append(
                f"{_MARK} validation loss {last:.4g}, lowest {least:.4g} at step {step}", _VALIDATION
            )
        return legend


def show_live(events: Iterable[job_pb2.JobEvent], run: JobRun, console: Console) -> None:
    """Draws a run while its events come; what stands there at the end stays."""
    with Live(JobView(run), console=console, refresh_per_second=8):
        for event in events:
            run.take(event)
    if not console.is_terminal:
        console.line()  # which a terminal gets from Live


def line(event: job_pb2.JobEvent) -> str:
    """One event in a line of plain text."""
    match event.WhichOneof("kind"):
        case "job":
            told = ended(event.job)
        case "metrics":
            told = _measured(event.metrics)
        case "checkpoint":
            told = f"checkpoint at step {event.checkpoint.step}: {event.checkpoint.model_id}"
        case "warning":
            told = f"warning: {_warned(event.warning)}"
        case _:
            told = "something that this version does not know"
    return f"{_time(event.create_time)}  {told}"


def ended(job: job_pb2.Job) -> str:
    """A job's state, with what it made or why it made nothing."""
    if job.HasField("failure"):
        reason = output.enum_word(job_pb2.JobFailure.Reason.DESCRIPTOR, job.failure.reason)
        return ": ".join(part for part in (_state(job), reason, job.failure.description) if part)
    return "  ".join(part for part in (_state(job), job.model_id, job.agent_id or _promised(job)) if part)


def estimate(job: job_pb2.Job) -> dict[str, object]:
    """What a job is expected to take, in words."""
    found = job.estimate
    duration = found.duration.ToTimedelta() if found.HasField("duration") else None
    cost = f"{found.cost_micros / 1_000_000:.6f}".rstrip("0").rstrip(".")
    return {
        "tokens": f"{found.tokens:,}",
        "steps": f"{found.steps:,}",
        "duration": str(duration).partition(".")[0]
        if duration is not None
        else "no worker has measured its rate",
        "cost": f"{cost} {found.currency}" if found.currency else "no price",
    }


def shown(job: job_pb2.Job) -> dict[str, object]:
    """A job for people: its fields in their order, its numbers in words."""
    fields = output.readable(job)
    if job.HasField("estimate"):
        fields["estimate"] = estimate(job)
    if job.HasField("progress"):
        fields["progress"] = f"step {job.progress.step} of {job.progress.steps}"
    if job.HasField("failure"):
        fields["failure"] = ended(job).partition(": ")[2]
    if job.warnings:
        fields["warnings"] = [_warned(one) for one in job.warnings]
    return fields


def lowest(points: Iterable[Point]) -> Point:
    """The point whose value is least; the first of several."""
    return min(points, key=lambda point: point[1])


def _measured(metrics: job_pb2.Metrics) -> str:
    source = output.enum_word(job_pb2.Metrics.Source.DESCRIPTOR, metrics.source)
    told = f"step {metrics.step}: {source} loss {metrics.loss:.4f}, accuracy {metrics.token_accuracy:.3f}"
    if metrics.source == job_pb2.Metrics.SOURCE_TRAINING:
        told += f", learning rate {metrics.learning_rate:.3g}, {metrics.tokens_per_second:.0f} tokens/s"
    return told


def _warned(warning: job_pb2.JobWarning) -> str:
    return f"{output.enum_word(job_pb2.JobWarning.Kind.DESCRIPTOR, warning.kind)}, {warning.count} examples"


def _promised(job: job_pb2.Job) -> str:
    """What stands in the way of the agent that a job with a model is to make; nothing where nothing does."""
    if job.state != job_pb2.Job.STATE_SUCCEEDED:
        return ""
    match job.agent.state:
        case job_pb2.PromisedAgent.STATE_PROMISED:
            return "its agent is being made"
        case job_pb2.PromisedAgent.STATE_NOT_MADE:
            reason = output.enum_word(error_reason_pb2.ErrorReason.DESCRIPTOR, job.agent.reason)
            return f"no agent: {reason}: {job.agent.description}"
        case _:
            return ""


def _state(job: job_pb2.Job) -> str:
    return output.enum_word(job_pb2.Job.State.DESCRIPTOR, job.state)


def _time(stamp: Timestamp) -> str:
    return stamp.ToDatetime().strftime("%Y-%m-%d %H:%M:%S UTC")
