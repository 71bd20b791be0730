"""Files that are whole or not there."""

import contextlib
import os
from pathlib import Path


@contextlib.contextmanager
def written_aside(path):
    """A path beside `path` to write to, which then takes its place.

    If writing fails, what stood at `path` stays, and nothing else is left.

    Examples:
        >>> with written_aside("notes.txt") as unfinished:  # doctest: +SKIP
        ...     unfinished.write_text("all of it")
    """
    path = Path(path)
    unfinished = path.with_name(f"unfinished_{path.name}")
    try:
        yield unfinished
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
