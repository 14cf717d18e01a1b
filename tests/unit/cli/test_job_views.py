import io
import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from perron.api.common.v1 import error_reason_pb2
from perron.api.finetuning.v1 import job_pb2
from perron.chassis.errors import SetupError
from perron.cli import job_runs, job_views, plotting
from perron.cli.job_runs import JobRun
from perron.cli.loss_curves import Curve, LossCurves

STATES = ("QUEUED", "VALIDATING", "VALIDATED", "STARTED", "RUNNING")
BRAILLE = re.compile("[\u2801-\u28ff]")


def recorded(*, end: str = "SUCCEEDED") -> list[job_pb2.JobEvent]:
    """The events of a job of 20 steps whose training loss is 1/step; its validation loss stands above."""
    found = [of_job(state) for state in STATES]
    found.append(measured(job_pb2.Metrics.SOURCE_VALIDATION, 0, 2.0))
    for step in range(1, 21):
        found.append(measured(job_pb2.Metrics.SOURCE_TRAINING, step, 1 / step))
        if step % 10 == 0:
            found.append(measured(job_pb2.Metrics.SOURCE_VALIDATION, step, 1 / step + 0.5))
            checkpoint = job_pb2.Checkpoint(step=step, model_id=f"mdl_{step}")
            found.append(job_pb2.JobEvent(checkpoint=checkpoint))
    overlap = job_pb2.JobWarning(kind=job_pb2.JobWarning.KIND_FILES_OVERLAP, count=3)
    found += [job_pb2.JobEvent(warning=overlap), of_job(end)]
    for number, event in enumerate(found, start=1):
        event.number = number
        event.create_time.FromSeconds(1_800_000_000 + number)
    return found


def of_job(state: str) -> job_pb2.JobEvent:
    job = job_pb2.Job(
        job_id="job_1",
        state=job_pb2.Job.State.Value(f"STATE_{state}"),
        base_model="tiny[bold]",
        method=job_pb2.TRAINING_METHOD_LORA,
        estimate={"steps": 20},
    )
    if state == "SUCCEEDED":
        job.model_id = "mdl_done"
    if state == "FAILED":
        job.failure.reason = job_pb2.JobFailure.REASON_DIVERGED
        job.failure.description = "The loss is [no] number."
    return job_pb2.JobEvent(job=job)


def measured(source: int, step: int, loss: float) -> job_pb2.JobEvent:
    metrics = job_pb2.Metrics(
        source=source, step=step, loss=loss, token_accuracy=0.5, learning_rate=2e-4, tokens_per_second=1234
    )
    return job_pb2.JobEvent(metrics=metrics)


def written(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def terminal(width: int = 100, height: int = 30) -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=width, height=height, soft_wrap=True)


def test_a_live_view_is_redrawn_while_events_come_and_its_last_picture_stays() -> None:
    console, run, pictures = terminal(), JobRun(), []

    def events() -> Iterator[job_pb2.JobEvent]:
        for event in recorded():
            yield event
            with console.capture() as captured:
                console.print(job_views.JobView(run))
            pictures.append(captured.get())

    job_views.show_live(events(), run, console)
    shown = written(console)

    assert not BRAILLE.search(pictures[3])
    assert BRAILLE.search(pictures[10])
    assert "step 5 of 20" in pictures[10]
    assert len(set(pictures)) > 20
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
    end = plain[plain.rindex("job_1") :]
    assert "lora on tiny[bold]" in end
    assert "step 20 of 20" in end
    assert "1,234 tokens/s" in end
    assert "checkpoint at 20" in end
    assert "training loss 0.05" in end
    assert "validation loss 0.55, lowest 0.55 at step 20" in end
    assert "warning: files-overlap, 3 examples" in end
    assert "succeeded  mdl_done" in end


@pytest.mark.parametrize(("width", "height"), [(100, 30), (40, 12), (20, 5), (10, 3)])
def test_a_view_is_never_wider_than_its_terminal(width: int, height: int) -> None:
    console, run = terminal(width, height), JobRun()
    for event in recorded(end="FAILED"):
        run.take(event)
    lines = console.render_lines(LossCurves((Curve(run.training, "cyan"),), run.steps, rows=4), pad=False)

    assert max(sum(segment.cell_length for segment in line) for line in lines) == width
    console.print(job_views.JobView(run))
    assert "failed: diverged: The loss is [no] number." in written(console).replace("\n", "")


def test_a_curve_falls_from_the_upper_left_to_the_lower_right_and_has_no_hole() -> None:
    console = Console(file=io.StringIO(), width=60)
    console.print(LossCurves((Curve([(step, 10 - step / 10) for step in range(0, 101, 25)], ""),), 100))
    rows = written(console).splitlines()

    drawn = [[at for at, character in enumerate(row) if BRAILLE.match(character)] for row in rows[:10]]
    assert drawn[0][0] == 9
    assert drawn[-1][-1] == 59
    assert sorted({at for row in drawn for at in row}) == list(range(9, 60))
    assert all(upper[0] <= lower[0] for upper, lower in itertools.pairwise(drawn))
    assert rows[0].strip().startswith("10 ┤")
    assert rows[-1].endswith("100")


@pytest.mark.parametrize("points", [[], [(0, 1.0)], [(7, 3.0), (7, 3.0)], [(1, 0.0), (2, 1e6)]])
def test_curves_without_extent_are_drawn_too(points: list[tuple[int, float]]) -> None:
    console = Console(file=io.StringIO(), width=60)
    console.print(LossCurves((Curve(points, "cyan", "●"),), 0))
    assert ("●" in written(console)) == bool(points)


def test_each_event_is_one_line_without_a_terminal() -> None:
    lines = [job_views.line(event) for event in recorded()]

    assert lines[0] == "2027-01-15 08:00:01 UTC  queued"
    assert lines[5].endswith("  step 0: validation loss 2.0000, accuracy 0.500")
    assert lines[6].endswith(
        "  step 1: training loss 1.0000, accuracy 0.500, learning rate 0.0002, 1234 tokens/s"
    )
    assert lines[-1].endswith("  succeeded  mdl_done")
    assert not any("\n" in line or "\x1b" in line for line in lines)


@pytest.mark.parametrize(
    ("state", "told", "is_over"),
    [
        ("PROMISED", "succeeded  mdl_done  its agent is being made", False),
        ("MADE", "succeeded  mdl_done  agt_made", True),
        ("NOT_MADE", "succeeded  mdl_done  no agent: name-taken: There is one of that name.", True),
    ],
)
def test_a_job_with_an_agent_is_over_when_it_is_known_what_became_of_it(
    state: str, told: str, *, is_over: bool
) -> None:
    job = of_job("SUCCEEDED").job
    job.agent.state = job_pb2.PromisedAgent.State.Value(f"STATE_{state}")
    if state == "NOT_MADE":
        job.agent.reason = error_reason_pb2.ERROR_REASON_NAME_TAKEN
        job.agent.description = "There is one of that name."
    if state == "MADE":
        job.agent_id = "agt_made"

    assert job_views.ended(job) == told
    assert job_runs.is_over(job) is is_over
    job.state = job_pb2.Job.STATE_CANCELLED
    assert job_runs.is_over(job)


def test_a_picture_holds_the_losses_of_the_job_and_nothing_else(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    run = JobRun()
    for event in recorded():
        run.take(event)
    (axes,) = plotting.figure(run).axes

    drawn = {line.get_label(): [tuple(point) for point in line.get_xydata()] for line in axes.lines}
    assert drawn == {
        "training loss": [(step, 1 / step) for step in range(1, 21)],
        "validation loss": [(0, 2.0), (10, 0.6), (20, 0.55)],
    }
    plotting.write(run, tmp_path / "loss")
    assert (tmp_path / "loss").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(SetupError, match=r"cannot be written \(FileNotFoundError\)"):
        plotting.write(run, tmp_path / "no" / "loss.png")


def test_without_matplotlib_a_picture_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    with pytest.raises(SetupError, match=r"^this needs the extra `plot`: pip install 'perron\[plot\]'$"):
        plotting.figure(JobRun())
