"""Bars on stderr for what takes long."""

import contextlib


@contextlib.contextmanager
def progress(title, total, unit=None, verbose=True):
    """A bar, where stderr is a terminal and `verbose`.

    Args:
        title: what is done.
        total: int, how often, or how many things it is done to.
        unit: what is counted a second, such as `"images"`.

    Yields:
        `advance(count=1)`.
    """
    from rich import progress as rich_progress
    from rich.console import Console

    console = Console(stderr=True)
    columns = [
        rich_progress.TextColumn(title),
        rich_progress.BarColumn(),
        rich_progress.MofNCompleteColumn(),
        rich_progress.TimeRemainingColumn(),
    ]
    if unit:
        text = "{task.fields[speed]:.0f} " + f"{unit}/s"
        columns.insert(3, rich_progress.TextColumn(text))
    bar = rich_progress.Progress(
        *columns,
        console=console,
        transient=True,
        disable=not (verbose and console.is_terminal),
    )
    with bar:
        task = bar.add_task("", total=total, speed=0.0)

        def advance(count=1):
            speed = bar.tasks[0].speed or 0.0
            bar.update(task, advance=count, speed=speed)

        yield advance
