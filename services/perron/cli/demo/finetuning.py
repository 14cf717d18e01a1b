"""The third chapter: recorded exchanges become a model that serves its owner alone, an agent, and nothing."""

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from perron.cli import training
from perron.cli.demo import learning, owning, tuning_rows
from perron.cli.demo.customer import enrol
from perron.cli.demo.stage import Stage
from perron.cli.demo.workshop import Workshop

NAME = "finetuning"


def settings(_folder: Path) -> Mapping[str, str]:
    """What the suite is told for this chapter: nothing beyond its defaults."""
    return {}


def play(stage: Stage) -> None:
    """Plays the seven steps; without a trainer, says of each row that it is not shown."""
    if not training.wanted():
        stage.tell(
            "  nothing is trained here: TRAINER=0 is set, or the extra `trainer` is not there (make trainer)"
        )
        for row in tuning_rows.ALL:
            stage.leave_out(row)
        return
    with ExitStack() as opened:
        workshop = Workshop(enrol(stage, opened, "Acme Tutors", "ada@tutors.example"))
        files = learning.gather(stage, workshop)
        learning.estimate(stage, workshop, files)
        job, model = learning.train(stage, workshop, files)
        owning.use(stage, workshop, model)
        agent_id = owning.become_agent(stage, workshop, job, model)
        owning.downgrade(stage, workshop, files, model, agent_id)
        owning.delete(stage, workshop, model, agent_id)
