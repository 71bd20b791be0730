"""Checks of arguments: what was expected, what was received, what to do."""

import difflib
import numbers

import numpy as np


class ArgumentError(ValueError):
    """Of arguments by their names, which a command spells as its options.

    Args:
        message: has each name in backticks, or followed by `=` and a value.
        *names: of the arguments.
    """

    def __init__(self, message: str, *names: str):
        super().__init__(message)
        self.names = names


def one_of(name, value, allowed):
    if value not in allowed:
        raise ValueError(
            f"`{name}` must be one of {list(allowed)}. Received: "
            f"{name}={value!r}{did_you_mean(value, allowed)}"
        )


def did_you_mean(value, allowed):
    """The nearest of the allowed names, as a question; may be empty."""
    matches = difflib.get_close_matches(
        str(value), [name for name in allowed if isinstance(name, str)], n=4
    )
    return f". Did you mean {' or '.join(matches)}?" if matches else ""


def some(names, count=5):
    """The first of several names, and how many more there are."""
    shown = ", ".join(map(repr, names[:count]))
    more = len(names) - count
    return f"{shown} and {more} more" if more > 0 else shown


def is_positive_int(value):
    integral = isinstance(value, numbers.Integral)
    return integral and not isinstance(value, bool) and value > 0


def check_process(index, count):
    """Raises `ValueError` for a process that is none of so many."""
    if not 0 <= index < count:
        raise ValueError(
            "`process_index` counts from 0 and must be below `process_count`. "
            f"Received: process_index={index}, process_count={count}"
        )


def all_numbers(name, array):
    """Raises `ValueError` for an array with NaN or infinity."""
    if array.dtype.name == "bfloat16":
        array = array.astype("float32")
    if array.size and array.dtype.kind == "f":
        # The extremes are NaN where any value is.
        extremes = np.asarray([array.min(), array.max()], "float64")
        if not np.isfinite(extremes).all():
            raise ValueError(
                f"{name} has values that are no numbers (NaN or infinity). "
                "The training that wrote it diverged, or the file is damaged"
            )
