"""Boxes as four numbers: how they overlap, and how one leads to another.

A box is `x1, y1, x2, y2` in pixels, where x2 − x1 is its width. All is computed
in float32 at least: a product of two sides overflows float16.
"""

import math

import keras
from keras import ops

from keras_convnext._util.annotations import ArrayLike
from keras_convnext._util.annotations import Tensor
from keras_convnext.layers.arithmetic import maximum
from keras_convnext.layers.arithmetic import minimum

# Of a logarithm of two sides: beyond it no box of one pixel has its target.
LIMIT = abs(math.log(16 / 1000))
# The least area that GIoU divides by.
EPSILON = 1e-6


def box_iou(a: ArrayLike | Tensor, b: ArrayLike | Tensor) -> Tensor:
    """Intersection over union of every box with every other.

    Args:
        a: float array `(…, n, 4)`, boxes as x1, y1, x2, y2 in pixels, with
            x1 <= x2 and y1 <= y2.
        b: float array `(…, m, 4)`, likewise.

    Returns:
        A tensor `(…, n, m)` of float32, or of float64 where both are, with
        values from 0 to 1. Two boxes without any area have 0.

    Examples:
        >>> a = np.array([[0.0, 0.0, 4.0, 2.0]])
        >>> b = np.array([[2.0, 0.0, 6.0, 2.0], [9.0, 9.0, 9.0, 9.0]])
        >>> iou = keras_convnext.detection.box_iou(a, b)
        >>> [round(float(x), 4) for x in iou[0]]
        [0.3333, 0.0]
    """
    a, b = as_boxes(a)[..., :, None, :], as_boxes(b)[..., None, :, :]
    shared = _shared_area(a, b)
    union = area(a) + area(b) - shared
    return shared / ops.where(union > 0, union, ops.ones_like(union))


def giou(a, b):
    """Generalized IoU of each box with the one in the same place.

    Args:
        a, b: float tensors `(…, 4)`.

    Returns:
        A tensor `(…)` with values from −1 to 1.

    Source: `bbox_overlaps(mode="giou", is_aligned=True)` of mmdet.

    Examples:
        >>> a = np.array([[0.0, 0.0, 1.0, 1.0]])
        >>> round(float(giou(a, a + 1)[0]), 4)
        -0.5
    """
    a, b = as_boxes(a), as_boxes(b)
    shared = _shared_area(a, b)
    union = maximum(area(a) + area(b) - shared, EPSILON)
    sides = maximum(a[..., 2:], b[..., 2:]) - minimum(a[..., :2], b[..., :2])
    hull = maximum(_product(sides), EPSILON)
    return shared / union - (hull - union) / hull


def encode(boxes, targets, stds):
    """What to add to boxes to reach their targets.

    Args:
        boxes, targets: float tensors `(…, 4)`.
        stds: four numbers that the result is divided by.

    Returns:
        A tensor `(…, 4)`: the shift of the center in widths and heights, and
        the logarithms of the growth of both. Boxes without area count as one
        pixel wide and high.

    Examples:
        >>> boxes = np.array([[0.0, 0.0, 2.0, 2.0]])
        >>> [float(x) for x in encode(boxes, boxes + 1, (0.5, 0.5, 1, 1))[0]]
        [1.0, 1.0, 0.0, 0.0]
    """
    (center, sides), (goal, goal_sides) = _middle(boxes), _middle(targets)
    sides, goal_sides = _not_flat(sides), _not_flat(goal_sides)
    deltas = ops.concatenate(
        [(goal - center) / sides, ops.log(goal_sides / sides)], axis=-1
    )
    return deltas / ops.convert_to_tensor(stds, deltas.dtype)


def decode(boxes, deltas, stds, size=None):
    """The boxes that deltas lead to; see `encode`.

    Args:
        boxes: float tensor `(…, 4)`.
        deltas: float tensor `(…, 4)`; the logarithms count up to `LIMIT`.
        stds: four numbers that deltas are multiplied with.
        size: int tensor `(batch, 2)` of heights and widths to clip to, where
            boxes are `(batch, …, 4)`; `None` clips nothing.

    Returns:
        A tensor `(…, 4)`.

    Examples:
        >>> boxes = np.array([[[0.0, 0.0, 2.0, 2.0]]])
        >>> deltas = np.array([[[0.5, 0.5, 0.0, 0.0]]])
        >>> moved = decode(boxes, deltas, (1, 1, 1, 1), size=np.array([[8, 2]]))
        >>> [float(x) for x in moved[0, 0]]
        [1.0, 1.0, 2.0, 3.0]
    """
    center, sides = _middle(boxes)
    stds = ops.convert_to_tensor(stds, sides.dtype)
    deltas = ops.cast(deltas, sides.dtype) * stds
    center = center + sides * deltas[..., :2]
    half = 0.5 * sides * ops.exp(ops.clip(deltas[..., 2:], -LIMIT, LIMIT))
    moved = ops.concatenate([center - half, center + half], axis=-1)
    return moved if size is None else clip(moved, size)


def clip(boxes, sizes):
    """Boxes cut off at the edges of their images.

    Args:
        boxes: float tensor `(batch, …, 4)`.
        sizes: tensor `(batch, 2)` of heights and widths.

    Returns:
        A tensor of the shape of `boxes`.

    Examples:
        >>> boxes = np.array([[[-1.0, -1.0, 9.0, 9.0]]])
        >>> [float(x) for x in clip(boxes, np.array([[4, 8]]))[0, 0]]
        [0.0, 0.0, 8.0, 4.0]
    """
    boxes = as_boxes(boxes)
    sizes = ops.cast(sizes, boxes.dtype)
    width_height = ops.stack([sizes[:, 1], sizes[:, 0]] * 2, axis=-1)
    places = (1,) * (len(boxes.shape) - 2)
    limits = ops.reshape(width_height, (-1, *places, 4))
    return minimum(maximum(boxes, 0.0), limits)


def area(boxes):
    """Width times height."""
    return _product(boxes[..., 2:] - boxes[..., :2])


def as_boxes(boxes):
    """A tensor of float32, or of float64 where it is of that already."""
    boxes = ops.convert_to_tensor(boxes)
    is_double = keras.backend.standardize_dtype(boxes.dtype) == "float64"
    return boxes if is_double else ops.cast(boxes, "float32")


def _shared_area(a, b):
    starts = maximum(a[..., :2], b[..., :2])
    ends = minimum(a[..., 2:], b[..., 2:])
    return _product(maximum(ends - starts, 0.0))


def _product(sides):
    return sides[..., 0] * sides[..., 1]


def _middle(boxes):
    """Center and sides."""
    boxes = as_boxes(boxes)
    starts, ends = boxes[..., :2], boxes[..., 2:]
    return (starts + ends) * 0.5, ends - starts


def _not_flat(sides):
    return ops.where(sides > 0, sides, ops.ones_like(sides))
