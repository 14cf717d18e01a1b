"""`demo`: starts a suite of its own, plays the chapters on it and says what was shown."""

import shutil
import tempfile
import time
from pathlib import Path
from types import ModuleType
from typing import Annotated

import typer
from rich.markup import escape

from perron.chassis.errors import SetupError
from perron.cli import output, training
from perron.cli.connection import RefusedError, folder
from perron.cli.demo import agents, finetuning, foundation, stage
from perron.cli.demo.stage import Finding, Stage
from perron.cli.output import AsJson
from perron.cli.suite import Suite

CHAPTERS: tuple[ModuleType, ...] = (foundation, agents, finetuning)
NEXT = (
    "Next: `perron up` (or `make up`) starts it to stay; its first start prints four lines to a first Admit."
)


def demo(
    keep: Annotated[
        bool,
        typer.Option("--keep", envvar="KEEP", help="Leave the folder with stores, logs and traces behind."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Play the platform from end to end on recorded exchanges, and check each clause of the terms on the way.

    Starts its own services on free ports in a temporary folder, and a trainer where the extra `trainer` is
    installed; without it, what needs training is told as not shown. The findings also go to var/demo.json.
    """
    import importlib.metadata  # a hundredth of a second, which is felt at every other command

    console = output.notes if as_json else output.answers
    start = time.monotonic()
    where = Path(tempfile.mkdtemp(prefix="perron-demo-"))
    console.print(f"[bold]Perron {importlib.metadata.version('perron')}[/bold], played in {where}")
    environment = {name: value for chapter in CHAPTERS for name, value in chapter.settings(where).items()}
    suite = Suite(where, environment=environment, trainer=training.wanted())
    played = Stage(suite, console)
    try:
        _play(played)
        for check in played.afterwards:
            check()
    finally:
        if keep:
            console.print(f"left behind: {where}")
        else:
            shutil.rmtree(where, ignore_errors=True)
    failed = _conclude(played, console_is_json=as_json)
    counted = f"{len(played.findings)} shown, {failed} failed"
    if played.left_out:
        counted += f", {len(played.left_out)} not shown"
    console.print(f"{counted}  [dim]({time.monotonic() - start:.0f} s)[/dim]")
    console.print(NEXT, markup=False)
    if failed:
        raise typer.Exit(output.REFUSED)


def _play(played: Stage) -> None:
    with output.notes.status("starting the services"):
        played.suite.start()
    try:
        played.tell("  ".join(f"{name} {target}" for name, target in played.suite.endpoints.items()))
        for chapter in CHAPTERS:
            played.chapter = chapter.NAME
            played.tell(f"\n[bold]Chapter: {chapter.NAME}[/bold]")
            try:
                chapter.play(played)
            except (RefusedError, SetupError) as unexpected:
                reason = unexpected.error.reason if isinstance(unexpected, RefusedError) else "set-up"
                played.find("all", f"the chapter broke off: {escape(str(unexpected))} ({reason})", ok=False)
            except Exception as defect:  # noqa: BLE001 (whatever breaks a chapter, the table is still owed)
                output.notes.print_exception()
                played.find("all", f"the chapter broke off: {type(defect).__name__}", ok=False)
    finally:
        with output.notes.status("ending the services"):
            played.suite.stop()


def _conclude(played: Stage, *, console_is_json: bool) -> int:
    findings: list[Finding] = played.findings
    stage.write(findings, folder() / "demo.json")
    if console_is_json:
        output.show_list(
            [
                {"chapter": one.chapter, "clause": one.clause, "shown": one.shown, "ok": one.ok}
                for one in findings
            ],
            (),
            as_json=True,
            empty="",
        )
    played.console.print()
    played.console.print(stage.table(findings, played.left_out))
    played.console.print()
    return sum(not finding.ok for finding in findings) or int(not findings)
