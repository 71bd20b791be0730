"""Checks of arguments: what was expected, what was received, what to do."""

import difflib
import numbers

import numpy as np


def one_of(name, value, allowed, listed_by=None):
    """Raises `ValueError` for a value that is not allowed.

    Args:
        name: of the argument.
        allowed: the values, which the message lists.
        listed_by: what lists them in the message's place, where there are
            many; such as "`keras_convnext.list_models()`".
    """
    if value not in allowed:
        names = f"one of {list(allowed)}"
        if listed_by:
            names = f"one of the {len(allowed)} names of {listed_by}"
        raise ValueError(
            f"{guess(value, allowed)}`{name}` must be {names}. Received: "
            f"{name}={value!r}"
        )


def guess(value, allowed):
    """The nearest of the allowed names, as a question to begin with.

    May be empty.
    """
    names = [name for name in allowed if isinstance(name, str)]
    folded = {name.lower(): name for name in names}
    matches = difflib.get_close_matches(str(value).lower(), folded, n=4)
    found = " or ".join(folded[x] for x in matches)
    return f"Did you mean {found}? " if found else ""


def did_you_mean(value, allowed):
    """`guess`, for the end of a message."""
    question = guess(value, allowed)
    return f". {question.rstrip()}" if question else ""


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
