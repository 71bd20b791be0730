"""Engines in turn on one batch: which are right, and which of those is soonest.

Each meets the best so far. The two run in blocks, by turns, with a pause before
each: the threads of one who has run spin for a while, in the other's way.
"""

import time
from collections.abc import Callable
from dataclasses import asdict
from dataclasses import dataclass
from typing import Any

from keras_convnext._util.progress import progress
from keras_convnext._util.tables import new_console

ROUNDS, BLOCK_SECONDS, PAUSE_SECONDS = 5, 0.2, 0.1
# Of one meeting; its first round is always whole.
SECONDS = 4.0
# Who takes so many times as long in the first calls is not called again.
HOPELESS, TRIALS = 2.0, 2


@dataclass
class Row:
    """How one engine did.

    Attributes:
        engine: its name.
        quantization: what it computed in; `None` is float32.
        ready_seconds: until it was open and had run once.
        seconds: of a batch, in the fastest block; `None` of one that is out.
        difference: largest from the model's outputs, or `None`.
        note: why it is out, or `""`.
    """

    engine: str
    quantization: str | None = None
    ready_seconds: float | None = None
    seconds: float | None = None
    difference: float | None = None
    note: str = ""


@dataclass
class Runner:
    """An engine that is open and right."""

    row: Row
    run: Callable[[Any], Any]


def race(entrants, images, clock=None, verbose=True):
    """Lets engines run.

    Args:
        entrants: dict from names to functions that open one: they return its
            function, its quantization, and the `Report` of its outputs.
        images: the batch.
        clock: function that tells seconds; `time.perf_counter` if `None`.
        verbose: whether to show progress.

    Returns:
        A list of `Row`, and the `Runner` that won, or `None` if all failed.
    """
    clock = clock or time.perf_counter
    rows, best = [], None
    with progress("engines", len(entrants), verbose=verbose) as advance:
        for name, enter in entrants.items():
            row = Row(name)
            rows.append(row)
            runner = _entered(row, enter, clock)
            if runner is not None:
                best = _better(best, runner, images, clock)
            advance()
    return rows, best


def _entered(row, enter, clock):
    """The `Runner` of an engine that opens and is right, or `None`."""
    start = clock()
    try:
        run, row.quantization, report = enter()
    except Exception as error:  # each engine has its own
        said = " ".join(str(error).split())
        row.note = f"{type(error).__name__}: {said[:200]}"
        return None
    row.ready_seconds = clock() - start
    row.difference, row.note = report.difference, report.problem
    return None if row.note else Runner(row, run)


def _better(best, runner, images, clock):
    """The faster of two in one meeting, by their fastest blocks: whatever else
    the machine does only adds to a time."""
    once = min(_timed(runner.run, images, 1, clock) for _ in range(TRIALS))
    runner.row.seconds = once
    if best is None:
        return runner
    if once > HOPELESS * best.row.seconds:
        return best
    sides = (best, runner)
    calls = [round(BLOCK_SECONDS / max(x.row.seconds, 1e-9)) for x in sides]
    seconds: tuple[list[float], list[float]] = ([], [])
    start = clock()
    for number in range(ROUNDS):
        if number and clock() - start > SECONDS:
            break
        for side in (0, 1) if number % 2 == 0 else (1, 0):
            time.sleep(PAUSE_SECONDS)
            count = max(1, calls[side])
            taken = _timed(sides[side].run, images, count, clock)
            seconds[side].append(taken)
    for side, taken in zip(sides, seconds):
        side.row.seconds = min(side.row.seconds, *taken)
    return best if min(seconds[0]) <= min(seconds[1]) else runner


def _timed(run, images, calls, clock):
    """Seconds of a call."""
    start = clock()
    for _ in range(calls):
        run(images)
    return (clock() - start) / calls


def show(rows, winner, title):
    """Prints the table on stderr."""
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for name in ("engine", "precision", "ms", "ready, s", "difference", ""):
        is_text = name in ("engine", "precision", "")
        table.add_column(name, justify="left" if is_text else "right")
    for row in rows:
        table.add_row(
            row.engine,
            row.quantization or "float32",
            _text(row.seconds and 1000 * row.seconds, ".1f"),
            _text(row.ready_seconds, ".1f"),
            _text(row.difference, ".1e"),
            "chosen" if row.engine == winner else row.note,
        )
    new_console(is_aside=True).print(table)


def _text(value, form):
    return "–" if value is None else format(value, form)


def as_records(rows):
    """Rows as JSON's types."""
    return [asdict(row) for row in rows]
