"""Of which sizes images are looked at, by segmenters and detectors."""

import numbers

import numpy as np

LARGEST_SCALE = 10**6  # far beyond any memory, and within floats


def checked_scales(scales):
    """A tuple of positive numbers.

    Raises:
        ValueError: for anything else.
    """
    scales = tuple(np.atleast_1d(scales).tolist())
    are_numbers = all(
        isinstance(x, numbers.Real) and 0 < x <= LARGEST_SCALE for x in scales
    )
    if not scales or not are_numbers:
        raise ValueError(
            "`scales` must hold positive numbers, such as (0.5, 1.0). "
            f"Received: scales={scales}"
        )
    return scales
