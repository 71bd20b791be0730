"""What stands on stderr while others are timed."""

from rich import progress
from rich.console import Console


class Progress:
    """A bar over all runs, where stderr is a terminal, and a line for each
    result; a context.

    Args:
        total: runs to come.
    """

    def __init__(self, total, verbose=True):
        self.console = Console(
            stderr=True, quiet=not verbose, markup=False, highlight=False
        )
        self.bar = progress.Progress(
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TimeRemainingColumn(),
            console=self.console,
            transient=True,
            # Drawn between the runs alone, which it would slow down.
            auto_refresh=False,
            disable=not (verbose and self.console.is_terminal),
        )
        self.task = self.bar.add_task("", total=total)

    def __enter__(self):
        self.bar.start()
        return self

    def __exit__(self, *_):
        self.bar.stop()

    def expect(self, runs):
        """Adds runs to come."""
        self.bar.update(self.task, total=self.bar.tasks[0].total + runs)

    def begin(self, what):
        """Names what runs now."""
        self.bar.update(self.task, description=what, refresh=True)

    def advance(self, runs=1):
        """Counts runs that are done, or will not be."""
        self.bar.update(self.task, advance=runs, refresh=True)

    def say(self, line):
        """Prints a line above the bar."""
        self.console.print(line, soft_wrap=True)
