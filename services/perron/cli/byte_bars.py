"""A bar for bytes on their way: how many of how many, how fast, how much longer; on stderr, for people."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from perron.cli import output


@contextmanager
def byte_bar(label: str, total: int) -> Iterator[Callable[[int], None]]:
    """Shows a bar while the block runs, and yields what moves it to a place, forwards or back.

    Where stderr is no terminal nothing is shown.
    """
    from rich.progress import (  # a twentieth of a second that few commands need
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with Progress(
        *columns,
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=output.notes,
        disable=not output.notes.is_terminal,
    ) as bar:
        task = bar.add_task(label, total=total)
        yield lambda place: bar.update(task, completed=place)
