"""Bars on stderr for what takes long, where stderr is a terminal."""

import contextlib

from rich import progress as rich_progress
from rich.console import Console
from rich.text import Text


class Rate(rich_progress.ProgressColumn):
    """How many units pass a second.

    Args:
        unit: what is counted, such as `"images"`.
        units_per_step: int, how many of them each step of the bar is.
    """

    def __init__(self, unit, units_per_step=1):
        super().__init__()
        self.unit, self.units_per_step = unit, units_per_step

    def render(self, task):
        rate = (task.speed or 0.0) * self.units_per_step
        return Text(f"{rate:.1f} {self.unit}/s")


def new_bar(counts, verbose=True):
    """A `rich` bar that stays hidden unless stderr is a terminal.

    A task's field `note` stands between the counts and the time that is left.

    Args:
        counts: list of `rich` columns that tell how much is done.
        verbose: whether to show it at all.
    """
    console = Console(stderr=True)
    return rich_progress.Progress(
        rich_progress.TextColumn("{task.description}", markup=False),
        rich_progress.BarColumn(),
        *counts,
        rich_progress.TextColumn("{task.fields[note]}", markup=False),
        rich_progress.TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not (verbose and console.is_terminal),
    )


@contextlib.contextmanager
def progress(title, total, unit=None, verbose=True):
    """A bar for as long as the context lasts.

    Args:
        title: what is done.
        total: int, how often, or how many things it is done to; `None` if
            nobody knows.
        unit: what is counted a second, such as `"images"` or `"bytes"`.
        verbose: whether to show it at all.

    Yields:
        `advance(count=1)`.
    """
    if unit == "bytes":
        counts = [
            rich_progress.DownloadColumn(),
            rich_progress.TransferSpeedColumn(),
        ]
    else:
        counts = [rich_progress.MofNCompleteColumn()] if total else []
        counts += [Rate(unit)] if unit else []
    with new_bar(counts, verbose) as bar:
        task = bar.add_task(title, total=total, note="")

        def advance(count=1):
            bar.advance(task, count)

        yield advance
