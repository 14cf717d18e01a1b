"""What a chapter plays on: the running suite, a console to tell on, and the list of findings."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from perron.cli.connection import Connection, Credential
from perron.cli.suite import Suite


@dataclass(frozen=True, slots=True)
class Finding:
    """One clause, what was shown of it, and whether it held."""

    chapter: str
    clause: str
    shown: str
    ok: bool


class Row(NamedTuple):
    """A clause and what is to be shown of it, said before it is played."""

    clause: str
    shown: str


class Stage:
    """The suite that a chapter plays on.

    What a chapter leaves with `after_stop` is called once the suite has ended and every buffer of it is on
    disk.
    """

    def __init__(self, suite: Suite, console: Console) -> None:
        self.suite = suite
        self.console = console
        self.findings: list[Finding] = []
        self.left_out: list[Row] = []
        self.afterwards: list[Callable[[], None]] = []
        self.chapter = ""

    def tell(self, text: RenderableType) -> None:
        """Says what is being played."""
        self.console.print(text)

    def step(self, number: int, title: str) -> None:
        """Opens a step of the chapter."""
        self.console.print(f"\n[bold]{number}. {title}[/bold]")

    def find(self, clause: str, shown: str, *, ok: bool) -> None:
        """Puts down what was shown of a clause; `ok` is what was compared, not what was hoped."""
        self.findings.append(Finding(self.chapter, clause, shown, ok))
        mark = "[green]ok[/green]" if ok else "[red]FAILED[/red]"
        self.console.print(f"  {mark}  [cyan]{clause}[/cyan]  {shown}")

    def leave_out(self, row: Row) -> None:
        """Says that something cannot be shown here; that is no finding, neither good nor bad."""
        self.left_out.append(row)
        self.console.print(f"  [yellow]not shown[/yellow]  [cyan]{row.clause}[/cyan]  {row.shown}")

    def after_stop(self, check: Callable[[], None]) -> None:
        """Leaves a check for when the suite has ended; what it finds is this chapter's."""
        chapter = self.chapter

        def of_chapter() -> None:
            self.chapter = chapter
            check()

        self.afterwards.append(of_chapter)

    def connect(self, secret: str, origin: str) -> Connection:
        """A connection with one key."""
        return Connection(Credential(secret, origin), self.suite.endpoints)

    @contextmanager
    def progress(self, title: str, total: int) -> Iterator[Callable[[], None]]:
        """A progress bar; the callable that it gives moves it by one."""
        columns = (TextColumn("  {task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=self.console) as bar:
            task = bar.add_task(title, total=total)
            yield lambda: bar.advance(task)


def listed(fields: Mapping[str, object]) -> Table:
    """Names and values, a line each."""
    drawn = Table.grid(padding=(0, 2))
    for name, value in fields.items():
        drawn.add_row(Text(f"  {name}", style="dim"), str(value))
    return drawn


def table(findings: Iterable[Finding], left_out: Iterable[Row]) -> Table:
    """The findings as the table that closes the demo, and after them what was not shown."""
    drawn = Table(box=None, header_style="dim", pad_edge=False)
    drawn.add_column("clause", style="cyan", no_wrap=True)
    drawn.add_column("what was shown", overflow="fold")
    drawn.add_column("", no_wrap=True)
    for finding in findings:
        drawn.add_row(
            finding.clause, finding.shown, "[green]ok[/green]" if finding.ok else "[red]FAILED[/red]"
        )
    for row in left_out:
        drawn.add_row(row.clause, row.shown, "[yellow]not shown[/yellow]")
    return drawn


def write(findings: Iterable[Finding], path: Path) -> None:
    """Writes the findings as a JSON list."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps([asdict(finding) for finding in findings], indent=2, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")
