"""Fine-tuning jobs: created, watched, drawn, listed, started and cancelled."""

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from perron.api.finetuning.v1 import job_pb2, job_service_pb2, job_service_pb2_grpc
from perron.cli import agent_files, hyperparameters, job_runs, options, output
from perron.cli.connection import Connection, RefusedError, connect
from perron.cli.job_runs import JobRun
from perron.cli.output import AsJson

app = typer.Typer(no_args_is_help=True, help="Fine-tuning jobs: from files and a base model to a model.")

_COLUMNS = ("job_id", "state", "base_model", "method", "suffix", "progress", "model_id", "create_time")
Job = Annotated[str, typer.Argument(metavar="JOB", help="The job, by id (job_…).")]
Watch = Annotated[bool, typer.Option("--watch", help="Stay and watch it until it has ended.")]


def _stub(connection: Connection) -> job_service_pb2_grpc.JobServiceStub:
    return connection.stub(job_service_pb2_grpc.JobServiceStub)


@app.command()
def create(
    base: Annotated[str, typer.Option(help="The base model; `perron models bases` lists them.")],
    training_file: Annotated[
        list[str], typer.Option(metavar="FILE", help="A file to train on, by id; may be repeated.")
    ],
    validation_file: Annotated[
        list[str], typer.Option(metavar="FILE", help="A file that is only evaluated, by id; may be repeated.")
    ] = [],  # noqa: B006 (typer copies it)
    method: Annotated[str, typer.Option(help="lora, or full for all weights.")] = "lora",
    assignments: Annotated[
        list[str],
        typer.Option(
            hyperparameters.OPTION,
            metavar="NAME=VALUE",
            help=f"A hyperparameter; may be repeated. There are {', '.join(hyperparameters.names())}.",
        ),
    ] = [],  # noqa: B006 (as above)
    suffix: Annotated[str, typer.Option(help="Part of the model's name; default: model.")] = "",
    agent: Annotated[
        Path | None,
        typer.Option(
            metavar="AGENT", help="An agent to make of the model, as a document without a model; - is stdin."
        ),
    ] = None,
    attest_name: options.Attested = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Create nothing; say what it would take, or why it is refused.")
    ] = False,
    start: Annotated[
        bool, typer.Option("--start/--no-start", help="Start once it is validated, or wait for `start`.")
    ] = True,
    watch_it: Watch = False,
    print_id: options.PrintId = False,
    caller: options.As = "",
    as_json: AsJson = False,
) -> None:
    """Create a job, or with --dry-run say what it would take."""
    document = agent_files.read(agent, has_model=False) if agent is not None else None
    request = job_service_pb2.CreateJobRequest(
        base_model=base,
        method=cast("Any", options.enum_value(job_pb2.TrainingMethod.DESCRIPTOR, method, "--method")),
        hyperparameters=hyperparameters.read(assignments),
        training_file_ids=training_file,
        validation_file_ids=validation_file,
        suffix=suffix,
        dry_run=dry_run,
        auto_start=start,
    )
    if document is not None:
        request.agent.display_name = document.document.display_name
        request.agent.name_attested = attest_name
        request.agent.configuration.CopyFrom(document.document.configuration)
    with connect(caller) as connection:
        try:
            job = connection.ask(_stub(connection).CreateJob, request).job
        except RefusedError as refused:
            for fault in document.faults(refused.error, "agent.") if document is not None else ():
                output.note(fault)
            raise
        if dry_run:
            _show_estimate(job, as_json=as_json)
        elif print_id:
            sys.stdout.write(job.job_id + "\n")
        elif not watch_it:
            _show(job, as_json=as_json)
        if watch_it and not dry_run:
            _watch(connection, job.job_id, as_json=as_json)


@app.command()
def watch(job: Job, caller: options.As = "", as_json: AsJson = False) -> None:
    """Watch a job from its beginning to its end: a bar and its losses, or a line for each event in a pipe.

    With --json each event is an object on a line of its own. Ends with 1 where the job ends without a model.
    """
    with connect(caller) as connection:
        _watch(connection, job, as_json=as_json)


@app.command()
def plot(
    job: Job,
    into: Annotated[Path, typer.Option("--output", "-o", metavar="PNG", help="Where to write the picture.")],
    caller: options.As = "",
    as_json: AsJson = False,
) -> None:
    """Draw the losses of a job, as far as it is, into a picture. Needs the extra `plot`."""
    from perron.cli import plotting

    run = JobRun()
    with connect(caller) as connection:
        for event in job_runs.watch(connection, job, follow=False):
            run.take(event)
    if not run.training and not run.validation:
        output.note(f"{job} has measured no loss yet")
        raise typer.Exit(output.REFUSED)
    plotting.write(run, into)
    points = {"training_points": len(run.training), "validation_points": len(run.validation)}
    output.show({"path": str(into), **points}, as_json=as_json)


@app.command("list")
def list_jobs(
    count: Annotated[int, typer.Option(min=1, max=1000, help="How many, newest first.")] = 100,
    caller: options.As = "",
    as_json: AsJson = False,
) -> None:
    """List the jobs of the workspace, newest first."""
    with connect(caller) as connection:
        answer = connection.ask(_stub(connection).ListJobs, job_service_pb2.ListJobsRequest(page_size=count))
    rows: list[Any] = list(answer.jobs)
    if not as_json:
        from perron.cli import job_views

        rows = [job_views.shown(one) for one in answer.jobs]
    output.show_list(rows, _COLUMNS, as_json=as_json, empty="no job yet: perron jobs create --help")
    if answer.next_page_token:
        output.note(f"there are more than {count}")


@app.command()
def show(job: Job, caller: options.As = "", as_json: AsJson = False) -> None:
    """Show a job."""
    with connect(caller) as connection:
        found = connection.ask(_stub(connection).GetJob, job_service_pb2.GetJobRequest(job_id=job)).job
    _show(found, as_json=as_json)


@app.command()
def start(job: Job, watch_it: Watch = False, caller: options.As = "", as_json: AsJson = False) -> None:
    """Start a job that was created with --no-start."""
    with connect(caller) as connection:
        request = job_service_pb2.StartJobRequest(job_id=job)
        found = connection.ask(_stub(connection).StartJob, request).job
        if watch_it:
            _watch(connection, job, as_json=as_json)
        else:
            _show(found, as_json=as_json)


@app.command()
def cancel(job: Job, caller: options.As = "", as_json: AsJson = False) -> None:
    """Cancel a job, whatever it is doing; its checkpoints stay."""
    with connect(caller) as connection:
        request = job_service_pb2.CancelJobRequest(job_id=job)
        _show(connection.ask(_stub(connection).CancelJob, request).job, as_json=as_json)


@app.command()
def checkpoints(job: Job, caller: options.As = "", as_json: AsJson = False) -> None:
    """List the checkpoints of a job, latest first; each is a model."""
    columns = ("checkpoint_id", "step", "validation_loss", "bytes", "model_id", "create_time")
    with connect(caller) as connection:
        request = job_service_pb2.ListCheckpointsRequest(job_id=job, page_size=1000)
        found = connection.ask(_stub(connection).ListCheckpoints, request).checkpoints
    output.show_list(found, columns, as_json=as_json, empty="no checkpoint yet")


def _watch(connection: Connection, job_id: str, *, as_json: bool) -> None:
    run, events = JobRun(), job_runs.watch(connection, job_id)
    try:
        if output.answers.is_terminal and not as_json:
            from perron.cli import job_views

            job_views.show_live(events, run, output.answers)
        else:
            _write_lines(events, run, as_json=as_json)
    except KeyboardInterrupt:
        output.note(f"the job goes on: perron jobs watch {job_id}")
        raise
    if run.job.state != job_pb2.Job.STATE_SUCCEEDED:
        raise typer.Exit(output.REFUSED)


def _write_lines(events: Iterable[job_pb2.JobEvent], run: JobRun, *, as_json: bool) -> None:
    from perron.cli import job_views

    for event in events:
        run.take(event)
        line = json.dumps(output.plain(event), ensure_ascii=False) if as_json else job_views.line(event)
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


def _show(job: job_pb2.Job, *, as_json: bool) -> None:
    from perron.cli import job_views

    output.show(job if as_json else job_views.shown(job), as_json=as_json)


def _show_estimate(job: job_pb2.Job, *, as_json: bool) -> None:
    from perron.cli import job_views

    output.show(job if as_json else job_views.estimate(job), as_json=as_json)
