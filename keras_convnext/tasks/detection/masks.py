"""A detector's small maps of probabilities as masks of whole images."""

import math
from typing import Any

import numpy as np

from keras_convnext._util.annotations import Array
from keras_convnext._util.annotations import ArrayLike
from keras_convnext._util.ranges import Count
from keras_convnext._util.ranges import Part
from keras_convnext._util.ranges import in_range
from keras_convnext.images.rle import decode
from keras_convnext.images.rle import encode

__all__ = ["decode", "encode", "paste", "runs"]


@in_range
def paste(
    maps: ArrayLike, boxes: ArrayLike, height: Count, width: Count
) -> Array:
    """Maps over boxes, sampled at the centers of an image's pixels.

    Bilinear, with 0 around each map, as mmdetection's `_do_paste_mask` on a
    CPU: pixels more than one from the box are 0, and a box without a width or
    a height takes the middle of its map.

    Args:
        maps: float array `(n, rows, columns)`, of a detector 28×28.
        boxes: float array `(n, 4)` of x1, y1, x2, y2 in pixels of the image.
        height, width: ints, pixels of the image.

    Returns:
        `float32` array `(n, height, width)`.

    Examples:
        >>> from keras_convnext.tasks.detection import masks
        >>> masks.paste([[[1, 1], [1, 1]]], [[0.5, 0, 2.5, 1]], 1, 4)[0]
        array([[0.5, 1. , 0.5, 0. ]], dtype=float32)
    """
    maps, boxes = (np.asarray(x, "float32") for x in (maps, boxes))
    pasted = np.zeros((len(maps), height, width), "float32")
    for image, values, box in zip(pasted, maps, boxes):
        window = _window(box, height, width)
        image[window] = _sampled(values, box, *window)
    return pasted


@in_range
def runs(
    maps: ArrayLike,
    boxes: ArrayLike,
    height: Count,
    width: Count,
    threshold: Part = 0.5,
) -> list[dict[str, Any]]:
    """Masks of detections in COCO's form, without an image of each in memory.

    Args:
        maps, boxes, height, width: see `paste`.
        threshold: float of 0–1, the least probability inside of a mask.

    Returns:
        A list of dicts for `decode`, or for pycocotools.

    Examples:
        >>> from keras_convnext.tasks.detection import masks
        >>> masks.runs([[[1, 1], [1, 1]]], [[0, 0, 2, 2]], 2, 4)
        [{'size': [2, 4], 'counts': '044'}]
    """
    maps, boxes = (np.asarray(x, "float32") for x in (maps, boxes))
    found = []
    mask = np.zeros((height, width), bool)
    for values, box in zip(maps, boxes):
        window = _window(box, height, width)
        mask[window] = _sampled(values, box, *window) >= threshold
        found.append(encode(mask))
        mask[window] = False
    return found


def _window(box, height, width):
    """The rows and the columns within one pixel of a box, as slices."""
    left, top, right, bottom = (float(x) for x in box)

    def inside(low, high, size):
        start = min(max(math.floor(low) - 1, 0), size)
        return slice(start, min(max(math.ceil(high) + 1, start), size))

    return inside(top, bottom, height), inside(left, right, width)


def _sampled(values, box, rows, columns):
    """The map at the pixels of a window: the same for all rows and columns."""
    left, top, right, bottom = box
    down = _weights(rows, top, bottom, values.shape[0])
    across = _weights(columns, left, right, values.shape[1])
    return down @ values @ across.T


def _weights(pixels, low, high, size):
    """A matrix `(pixels, size)`: what each pixel takes of each cell."""
    centers = np.arange(pixels.start, pixels.stop, dtype="float32") + 0.5
    # In the order in which mmdetection and PyTorch's `grid_sample` round.
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        places = (centers - low) / (high - low) * 2 - 1
    places = np.where(np.isfinite(places), places, np.float32(0))
    places = ((places + 1) * size - 1) / 2
    distances = np.abs(places[:, None] - np.arange(size, dtype="float32"))
    return np.maximum(1 - distances, 0)
