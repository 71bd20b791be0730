"""Which object each box is to find, and which boxes learn in a step.

All counts are fixed: what there is less of is filled up and marked.
"""

from typing import NamedTuple

from keras import ops

from keras_convnext._util.annotations import Tensor
from keras_convnext.tasks.detection.boxes import as_boxes
from keras_convnext.tasks.detection.boxes import box_iou
from keras_convnext.tasks.detection.draws import draws
from keras_convnext.tasks.detection.loops import compiled_loops

# In the place of an object's number.
BACKGROUND, NEITHER = -1, -2
# Of an object's best IoU: what is so near to it is as good. XLA may round one
# box's IoU in two ways.
TIE = 1e-6


class Thresholds(NamedTuple):
    """By which intersection over union boxes are assigned to objects.

    Attributes:
        positive: from here on a box belongs to the object that it overlaps
            most.
        negative: below, it is background.
        low_quality: from here on an object's best boxes belong to it, also
            where they overlap another one more; `None` for never.
    """

    positive: float
    negative: float
    low_quality: float | None


ANCHORS = Thresholds(0.7, 0.3, 0.3)
REGIONS = Thresholds(0.5, 0.5, 0.5)
STAGES = tuple(Thresholds(iou, iou, None) for iou in (0.5, 0.6, 0.7))


class Samples(NamedTuple):
    """The boxes that learn, positive ones first.

    Attributes:
        index: int32 tensor `(batch, count)`, which of the boxes.
        positive: bool tensor `(batch, count)`, whether it has an object.
        valid: bool tensor `(batch, count)`, whether there is one.
    """

    index: Tensor
    positive: Tensor
    valid: Tensor


@compiled_loops("thresholds")
def assigned(boxes, valid, objects, present, thresholds):
    """The object of each box.

    Args:
        boxes: float tensor `(batch, n, 4)`, or `(1, n, 4)` for all images.
        valid: bool tensor `(batch, n)`: other boxes take no part.
        objects: float tensor `(batch, g, 4)`, g of at least 1.
        present: bool tensor `(batch, g)`: other objects take no part.
        thresholds: a `Thresholds`.

    Returns:
        An int32 tensor `(batch, n)` of numbers below g, `BACKGROUND`, or
        `NEITHER`.

    Source: `MaxIoUAssigner` of mmdet. All boxes that tie for an object's best
    are its own, and of two such objects the later one counts.

    Examples:
        >>> boxes = np.array([[[0, 0, 4, 4], [0, 0, 4, 2], [9, 9, 12, 12]]])
        >>> objects, there = np.array([[[0, 0, 4, 4]]]), np.ones((1, 1), bool)
        >>> valid = np.ones((1, 3), bool)
        >>> found = assigned(boxes, valid, objects, there, ANCHORS)
        >>> [int(x) for x in found[0]]
        [0, -2, -1]
    """
    boxes, objects = as_boxes(boxes), as_boxes(objects)
    valid, present = (ops.convert_to_tensor(x) for x in (valid, present))
    count = objects.shape[1]
    numbers = ops.arange(1, count + 1, dtype="int32")
    last = ops.max(ops.where(present, numbers, 0))

    def look_at(number, largest, best, low):
        one = ops.take(objects, number, axis=1)[:, None]
        there = ops.take(present, number, axis=1)[:, None]
        iou = box_iou(boxes, one)[..., 0]
        iou = ops.where(valid & there, iou, -1.0)
        best = ops.where(iou > largest, number, best)
        largest = ops.maximum(iou, largest)
        if thresholds.low_quality is not None:
            top = ops.max(iou, axis=1, keepdims=True)
            ties = (iou >= top * (1.0 - TIE)) & (top >= thresholds.low_quality)
            low = ops.where(ties, number, low)
        return number + 1, largest, best, low

    nothing = ops.full_like(valid, BACKGROUND, dtype="int32")
    start = (
        ops.zeros((), dtype="int32"),
        ops.full_like(nothing, -1.0, dtype=objects.dtype),
        nothing,
        nothing,
    )
    _, largest, best, low = ops.while_loop(
        lambda number, *_: number < last, look_at, start
    )
    result = ops.where(largest < thresholds.negative, BACKGROUND, NEITHER)
    result = ops.where(largest >= thresholds.positive, best, result)
    result = ops.where(low >= 0, low, result)
    return ops.cast(ops.where(valid, result, NEITHER), "int32")


def sampled(found, count, positives, seed, images):
    """Draws boxes: positive ones up to a number, and background.

    Args:
        found: int32 tensor `(batch, n)`, as `assigned` returns it.
        count: int, rows of the result; n where there are fewer boxes.
        positives: int, the most that have an object. Background takes the
            place of those that are missing.
        seed: int tensor `(2,)`, see `draws`.
        images: int32 tensor `(batch,)`, see `draws`.

    Returns:
        `Samples`.

    Source: `RandomSampler` of mmdet, but for the draws.
    """
    total = found.shape[1]
    if total is not None:  # as TensorFlow has it for images of any size
        count, positives = min(count, total), min(positives, total)
    keys = draws(seed, images, ops.shape(found)[1])
    of_positives, number = _drawn(found >= 0, keys, positives)
    of_negatives, most = _drawn(found == BACKGROUND, keys, count)
    places = ops.arange(count, dtype="int32")[None]
    behind = places - number
    index = ops.where(
        behind < 0,
        _at_place(of_positives, places),
        _at_place(of_negatives, behind),
    )
    return Samples(index, behind < 0, behind < most)


def _drawn(candidates, keys, most):
    """Numbers of candidates in drawn order, and how many there are."""
    keys = ops.where(candidates, keys, -1)
    largest, index = ops.top_k(keys, most)
    count = ops.sum(ops.cast(largest >= 0, "int32"), axis=1, keepdims=True)
    return ops.cast(index, "int32"), count


def _at_place(index, places):
    places = ops.clip(places, 0, index.shape[1] - 1)
    places = ops.broadcast_to(places, (ops.shape(index)[0], places.shape[1]))
    return ops.take_along_axis(index, places, axis=1)
