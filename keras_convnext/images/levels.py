"""Floats of 0–1 where pixels of 0–255 are expected, which no error tells."""

import warnings

import numpy as np

# Functions that have told it already.
told: set[str] = set()


def check_levels(images, where):
    """Warns, once for each function, of floats that are no pixels of 0–255.

    That is below 0 or of 1 at most, unless all are alike. Models called on
    arrays do not ask: what comes to them is theirs.

    Args:
        images: array of any shape.
        where: what takes them, the beginning of the message.
    """
    images = np.asarray(images)
    if images.dtype.kind != "f" or not images.size or where in told:
        return
    low, high = images.min(), images.max()
    if low < high and (low < 0 or high <= 1):
        told.add(where)
        warnings.warn(
            f"{where} takes images of 0–255. Received: floats of {low:.3g} to "
            f"{high:.3g}. Multiply those of 0–1 by 255, and leave out any "
            "normalization: the model has its own",
            stacklevel=3,
        )
