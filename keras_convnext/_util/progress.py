"""What takes long says so on stderr: a bar in terminals, a line elsewhere.

`rich` is imported where a bar is made: `import keras_convnext` does without.
"""

import contextlib
import sys
import threading
import time

from keras_convnext._util.telling import is_quiet

# Seconds until what has no bar says what it does, and between its lines.
FIRST_LINE = 5.0
LINES = 30.0


class Lines:
    """Says now and then on stderr how far something is.

    Args:
        wait: seconds before the first line; `FIRST_LINE` if `None`.

    Attributes:
        said_at: when the last line was printed, by `time.monotonic`.
    """

    def __init__(self, wait=None):
        wait = FIRST_LINE if wait is None else wait
        self.said_at = time.monotonic() - LINES + wait

    def say(self, text):
        """Prints a line, unless the last one is too new.

        Args:
            text: function without arguments, called if there is a line.
        """
        is_due = time.monotonic() - self.said_at >= LINES
        if is_due and not is_quiet():
            self.said_at = time.monotonic()
            print(text(), file=sys.stderr, flush=True)


def new_bar(has_total=True, unit=None, units_per_step=1, verbose=True):
    """A `rich` bar that stays hidden unless stderr is a terminal.

    A task's field `note` stands between the counts and the time that is left.

    Args:
        has_total: whether it is known how much there is to do.
        unit: what is counted a second, such as `"images"` or `"bytes"`.
        units_per_step: int, how many of them each step of the bar is.
        verbose: whether to show it at all.
    """
    from rich import progress as rich_progress
    from rich.console import Console

    console = Console(stderr=True)
    return rich_progress.Progress(
        rich_progress.TextColumn("{task.description}", markup=False),
        rich_progress.BarColumn(),
        *_counts(has_total, unit, units_per_step),
        rich_progress.TextColumn("{task.fields[note]}", markup=False),
        rich_progress.TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not (verbose and console.is_terminal) or is_quiet(),
    )


def _counts(has_total, unit, units_per_step):
    """The columns that tell how much is done, and how fast."""
    from rich import progress as rich_progress
    from rich.text import Text

    class Rate(rich_progress.ProgressColumn):
        def render(self, task):
            rate = (task.speed or 0.0) * units_per_step
            return Text(f"{rate:.1f} {unit}/s")

    if unit == "bytes":
        return (
            rich_progress.DownloadColumn(),
            rich_progress.TransferSpeedColumn(),
        )
    counts = [rich_progress.MofNCompleteColumn()] if has_total else []
    return [*counts, Rate()] if unit else counts


@contextlib.contextmanager
def progress(title, total, unit=None, verbose=True):
    """A bar for as long as the context lasts; without a terminal, lines.

    Args:
        title: what is done.
        total: int, how often, or how many things it is done to; `None` if
            nobody knows.
        unit: what is counted a second, such as `"images"` or `"bytes"`.
        verbose: whether to show it at all.

    Yields:
        `advance(count=1)`.
    """
    with new_bar(total is not None, unit, verbose=verbose) as bar:
        task = bar.add_task(title, total=total, note="")

        def advance(count=1):
            bar.advance(task, count)

        if bar.disable and verbose:
            with _in_lines(title, total, unit) as advance:
                yield advance
        else:
            yield advance


@contextlib.contextmanager
def _in_lines(title, total, unit):
    """The same as `progress`, in a line after a while and then now and again.

    The first comes by a clock of its own: a single step may be what takes
    long.
    """
    lines, done = Lines(), 0

    def text():
        counts = f": {done} of {total} {unit or ''}".rstrip() if total else ""
        return f"{title}{counts if done else ' …'}"

    def advance(count=1):
        nonlocal done
        done += count
        lines.say(text)

    clock = threading.Timer(FIRST_LINE, lines.say, [text])
    clock.daemon = True
    clock.start()
    try:
        yield advance
    finally:
        clock.cancel()
