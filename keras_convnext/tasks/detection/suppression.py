"""Non-maximum suppression with fixed shapes, one form for every backend.

Candidates come in blocks by falling score. What a box that was kept before
overlaps falls; within the block, whatever a better kept box overlaps falls,
again and again until nothing changes, which is what taking box after box gives.
The loop ends as soon as enough are kept: most candidates are never looked at.
"""

from keras import ops

from keras_convnext._util.annotations import ArrayLike
from keras_convnext._util.annotations import Tensor
from keras_convnext._util.ranges import Count
from keras_convnext._util.ranges import Part
from keras_convnext._util.ranges import in_range
from keras_convnext.tasks.detection.boxes import as_boxes
from keras_convnext.tasks.detection.boxes import box_iou
from keras_convnext.tasks.detection.loops import compiled_loops

# Candidates of a block, at most and at least. All pairs in it are compared, so
# it has twice as many as are to be kept.
BLOCK, LEAST = 512, 64


@in_range
def non_max_suppression(
    boxes: ArrayLike | Tensor,
    scores: ArrayLike | Tensor,
    iou_threshold: Part,
    max_outputs: Count,
    classes: ArrayLike | Tensor | None = None,
) -> Tensor:
    """The best of the boxes that overlap one another.

    By falling score a box is kept unless it overlaps one that was kept, with
    an intersection over union above the threshold. Of equal scores the first
    comes first. Boxes whose score is NaN are never kept.

    Args:
        boxes: float array `(n, 4)`, x1, y1, x2, y2 in pixels. Boxes without
            area overlap nothing.
        scores: float array `(n,)`.
        iou_threshold: number from 0 to 1.
        max_outputs: int, the most boxes to keep.
        classes: int array `(n,)`: only boxes of one class suppress each
            other. `None`: all boxes do.

    Returns:
        An int32 tensor `(max_outputs,)` of indices by falling score, then −1.

    Raises:
        ValueError: for arrays of other shapes.

    Source: the operator `NonMaxSuppression` of ONNX, `nms` of torchvision.

    Examples:
        >>> boxes = np.array([[0, 0, 9, 9], [0, 0, 9, 8], [5, 5, 9, 9]])
        >>> kept = keras_convnext.detection.non_max_suppression(
        ...     boxes, np.array([0.5, 0.9, 0.7]), 0.5, 3
        ... )
        >>> [int(x) for x in kept]
        [1, 2, -1]
    """
    arrays = [as_boxes(boxes), as_boxes(scores)]
    if classes is not None:
        arrays.append(ops.cast(ops.convert_to_tensor(classes), "int32"))
    shapes = [tuple(x.shape) for x in arrays]
    count = shapes[1][:1]
    if shapes != [(*count, 4), *[count] * (len(shapes) - 1)]:
        raise ValueError(
            "Expected `boxes` of shape (n, 4), and `scores` and `classes` of "
            f"shape (n,). Received: {', '.join(map(str, shapes))}"
        )
    if classes is None:
        arrays.append(ops.zeros(count, dtype="int32"))
    arrays.append(ops.equal(arrays[1], arrays[1]))  # NaN equals nothing
    arrays = [x[None] for x in arrays]
    return suppressed(*arrays, iou_threshold, max_outputs)[0]


@compiled_loops("iou_threshold", "max_outputs")
def suppressed(boxes, scores, groups, valid, iou_threshold, max_outputs):
    """`non_max_suppression` of several images, and with groups.

    Args:
        boxes: float tensor `(batch, n, 4)`.
        scores: float tensor `(batch, n)`, without NaN where valid.
        groups: int tensor `(batch, n)`: classes, or levels.
        valid: bool tensor `(batch, n)`: what else is as if not there.
        iou_threshold: number; above it a box falls.
        max_outputs: int.

    Returns:
        An int32 tensor `(batch, max_outputs)` of indices into n, then −1.
    """
    # Which boxes are kept has no gradient, and JAX could not give one.
    boxes = ops.stop_gradient(as_boxes(boxes))
    scores = ops.stop_gradient(as_boxes(scores))
    batch, total = ops.shape(scores)
    if scores.shape[1] == 0:
        return ops.full((batch, max_outputs), -1, dtype="int32")
    keys = ops.where(valid, -scores, float("inf"))
    # In float64 JAX counts in int64.
    order = ops.cast(ops.argsort(keys, axis=1), "int32")
    ends = _ends(valid, order)
    size = min(BLOCK, max(LEAST, 2 * max_outputs))

    def candidates(block):
        places = block * size + ops.arange(size, dtype="int32")
        indices = ops.take(order, ops.minimum(places, total - 1), axis=1)
        is_there = _at(valid, indices) & (places < total)[None]
        return indices, is_there

    def goes_on(block, kept, counts):
        return ops.any((counts < max_outputs) & (block * size < ends))

    def take_block(block, kept, counts):
        indices, alive = candidates(block)
        before = ops.maximum(kept[:, :max_outputs], 0)
        is_kept = ops.arange(max_outputs, dtype="int32") < counts[:, None]
        falls = _overlap(boxes, groups, indices, before, iou_threshold)
        alive = alive & ~ops.any(falls & is_kept[:, None], axis=2)
        falls = _overlap(boxes, groups, indices, indices, iou_threshold)
        keep = _greedy(alive, falls)
        places = counts[:, None] + ops.cumsum(ops.cast(keep, "int32"), 1) - 1
        # One place more, for those that do not stay.
        places = ops.where(keep, ops.minimum(places, max_outputs), max_outputs)
        kept = _scattered(kept, places, indices)
        counts = counts + ops.sum(ops.cast(keep, "int32"), axis=1)
        counts = ops.cast(ops.minimum(counts, max_outputs), "int32")
        return block + 1, kept, counts

    start = (
        ops.zeros((), dtype="int32"),
        ops.full((batch, max_outputs + 1), -1, dtype="int32"),
        ops.zeros((batch,), dtype="int32"),
    )
    _, kept, _ = ops.while_loop(goes_on, take_block, start)
    return kept[:, :max_outputs]


def _ends(valid, order):
    """The place behind the last valid candidate of each image."""
    places = ops.arange(1, ops.shape(order)[1] + 1, dtype="int32")
    return ops.max(ops.where(_at(valid, order), places[None], 0), axis=1)


def _at(x, indices):
    """Rows of `(batch, n, …)` by indices `(batch, k)`."""
    if len(x.shape) == 3:
        indices = indices[:, :, None]
    return ops.take_along_axis(x, indices, axis=1)


def _overlap(boxes, groups, a, b, iou_threshold):
    """Which of the boxes `a` overlaps which of `b`: `(batch, a, b)`."""
    over = box_iou(_at(boxes, a), _at(boxes, b)) > iou_threshold
    same = _at(groups, a)[:, :, None] == _at(groups, b)[:, None]
    return over & same


def _greedy(alive, falls):
    """What is left when each box that stays takes away those behind it."""
    numbers = ops.arange(falls.shape[1], dtype="int32")
    falls = falls & (numbers[None, :] < numbers[:, None])

    def changes(keep, last):
        return ops.any(keep != last)

    def again(keep, last):
        return alive & ~ops.any(falls & keep[:, None], axis=2), keep

    keep, _ = ops.while_loop(changes, again, again(alive, alive))
    return keep


def _scattered(kept, places, indices):
    rows = ops.arange(ops.shape(kept)[0], dtype="int32")[:, None]
    rows = ops.broadcast_to(rows, ops.shape(places))
    where = ops.reshape(ops.stack([rows, places], axis=-1), (-1, 2))
    return ops.scatter_update(kept, where, ops.reshape(indices, (-1,)))
