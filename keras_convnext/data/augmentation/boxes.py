"""Where to crop, erase and cut.

Random numbers come as uniform draws of 0–1, so that other libraries can be
held to the same boxes.
"""

import math

import numpy as np

TRIES = 10
ERASED_AREA = (0.02, 1 / 3)
ERASED_RATIO = (0.3, 1 / 0.3)


def crop_box(draws, height, width, scale, ratio):
    """The first of ten random boxes that fits, else the largest in ratio.

    Args:
        draws: `(10, 4)`, for area, aspect, top and left.
        height, width: ints, pixels of the image.

    Returns:
        Top, left, height and width, as ints.
    """
    widths, heights = _sides(draws, scale, ratio, height * width)
    fits = (heights > 0) & (heights <= height)
    fits = fits & (widths > 0) & (widths <= width)
    box = _first(fits, heights, widths, draws, height, width)
    return box or _largest(height, width, ratio)


def erased_box(draws, height, width):
    """The first of ten random boxes that is smaller than the image.

    Returns:
        Top, left, height and width as ints, or `None` if there is none.
    """
    area = height * width
    heights, widths = _sides(draws, ERASED_AREA, ERASED_RATIO, area)
    fits = (heights < height) & (widths < width)
    return _first(fits, heights, widths, draws, height, width)


def cut_box(draws, weight, height, width):
    """The box of CutMix that leaves about `weight` of the image.

    Args:
        draws: `(2,)`, for the row and the column of its center.

    Returns:
        Top, left, height and width within the image, as ints.
    """
    part = math.sqrt(1 - weight)
    top, height = _span(draws[0], part, height)
    left, width = _span(draws[1], part, width)
    return top, left, height, width


def area_of(box):
    """The rows and the columns of a box, as slices."""
    top, left, height, width = box
    return slice(top, top + height), slice(left, left + width)


def _sides(draws, scale, ratio, area):
    """Two sides for each row: a part of the area, and their ratio."""
    low, high = (math.log(value) for value in ratio)
    aspect = np.exp(low + (high - low) * draws[:, 1])
    area = area * (scale[0] + (scale[1] - scale[0]) * draws[:, 0])
    return np.round(np.sqrt(area * aspect)), np.round(np.sqrt(area / aspect))


def _first(fits, heights, widths, draws, height, width):
    if not fits.any():
        return None
    first = fits.argmax()
    box_height, box_width = int(heights[first]), int(widths[first])
    top = math.floor(draws[first, 2] * (height - box_height + 1))
    left = math.floor(draws[first, 3] * (width - box_width + 1))
    return top, left, box_height, box_width


def _largest(height, width, ratio):
    """In the center, with the nearest ratio to the image's."""
    box_height = min(height, round(width / ratio[0]))
    box_width = min(width, round(height * ratio[1]))
    top = (height - box_height) // 2
    left = (width - box_width) // 2
    return top, left, box_height, box_width


def _span(draw, part, length):
    cut = math.floor(length * part)
    center = math.floor(draw * length)
    start = max(center - cut // 2, 0)
    stop = min(center + (cut + 1) // 2, length)
    return start, stop - start
