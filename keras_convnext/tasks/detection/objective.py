"""What detectors learn: the losses, and what divides each.

A loss is a sum over samples that count, divided by how many there are of some
kind, at least one: without any object it is 0.
"""

from keras import ops

from keras_convnext.tasks.detection import boxes as box_functions
from keras_convnext.tasks.detection.boxes import as_boxes
from keras_convnext.tasks.detection.roi_align import aligned_masks
from keras_convnext.training.distribution.replicas import ALONE

ANCHOR_STDS = (1.0, 1.0, 1.0, 1.0)
GIOU_WEIGHT = 10.0


def anchor_losses(
    scores, deltas, anchors, targets, samples, beta=0.0, replicas=ALONE
):
    """Whether there is an object, and how to move the anchor to it.

    Args:
        scores: float tensor `(batch, n)`, logits.
        deltas: float tensor `(batch, n, 4)`.
        anchors: float tensor `(batch, n, 4)`.
        targets: float tensor `(batch, n, 4)`, boxes of objects; any where a
            sample is not positive.
        samples: `matching.Samples`, n of each image.
        beta: number, see `smooth_l1`.
        replicas: the `Replicas` that share the batch.

    Returns:
        Two scalars.
    """
    scores = as_boxes(scores)
    counts = ops.cast(samples.valid, scores.dtype)
    is_object = ops.cast(samples.positive, scores.dtype)
    positives = ops.sum(is_object * counts, axis=1)
    negatives = ops.sum(counts, axis=1) - positives
    # Each image has one of both kinds, as mmdet counts.
    divisor = replicas.divisor(
        ops.sum(ops.maximum(positives, 1.0) + ops.maximum(negatives, 1.0))
    )
    of_class = cross_entropy_of_bits(is_object, scores)
    of_box = smooth_l1(
        as_boxes(deltas),
        box_functions.encode(anchors, targets, ANCHOR_STDS),
        beta,
    )
    return (
        _sum_of(of_class, samples.valid) / divisor,
        _sum_of(of_box, samples.positive) / divisor,
    )


def region_losses(
    logits,
    deltas,
    boxes,
    targets,
    labels,
    samples,
    stds,
    giou,
    replicas=ALONE,
):
    """The class of regions, and how to move their boxes.

    Args:
        logits: float tensor `(batch, n, classes + 1)`, the last of no class.
        deltas: float tensor `(batch, n, 4 · classes)`.
        boxes: float tensor `(batch, n, 4)`.
        targets: float tensor `(batch, n, 4)`, boxes of objects; any where a
            sample is not positive.
        labels: int tensor `(batch, n)`, classes of these objects.
        samples: `matching.Samples`, n of each image.
        stds: four numbers that deltas are multiplied with.
        giou: bool, whether moved boxes are compared, and not deltas.
        replicas: the `Replicas` that share the batch.

    Returns:
        Two scalars.
    """
    logits = as_boxes(logits)
    classes = logits.shape[-1] - 1
    labels = ops.where(samples.positive, labels, classes)
    of_class = ops.sparse_categorical_crossentropy(
        labels, logits, from_logits=True
    )
    deltas = class_deltas(deltas, labels)
    if giou:
        moved = box_functions.decode(boxes, deltas, stds)
        of_box = GIOU_WEIGHT * (1.0 - box_functions.giou(moved, targets))
    else:
        wanted = box_functions.encode(boxes, targets, stds)
        of_box = smooth_l1(deltas, wanted)
    divisor = replicas.divisor(ops.sum(ops.cast(samples.valid, logits.dtype)))
    return (
        _sum_of(of_class, samples.valid) / divisor,
        _sum_of(of_box, samples.positive) / divisor,
    )


def mask_loss(logits, masks, boxes, objects, labels, positive, replicas=ALONE):
    """How far the masks of positive regions are from those of their objects.

    Args:
        logits: float tensor `(batch · n, side, side, classes)`.
        masks: bool or uint8 tensor `(batch, g, height, width)`.
        boxes: float tensor `(batch, n, 4)`, pixels of the masks.
        objects: int tensor `(batch, n)` of numbers below g.
        labels: int tensor `(batch, n)`, classes of these objects.
        positive: bool tensor `(batch, n)`.
        replicas: the `Replicas` that share the batch.

    Returns:
        A scalar, the mean over all pixels of positive regions.
    """
    side = logits.shape[1]
    labels = ops.reshape(labels, (-1, 1, 1, 1))
    own = ops.take_along_axis(as_boxes(logits), labels, axis=3)[..., 0]
    wanted = mask_targets(masks, boxes, objects, side)
    of_pixel = cross_entropy_of_bits(ops.cast(wanted, own.dtype), own)
    positive = ops.reshape(positive, (-1,))
    count = replicas.divisor(ops.sum(ops.cast(positive, own.dtype)))
    return _sum_of(of_pixel, positive) / (count * side**2)


def mask_targets(masks, boxes, objects, side):
    """The part of an object's mask in each box, up to the edges of the image.

    Args:
        masks, boxes, objects: as for `mask_loss`.
        side: int, rows and columns.

    Returns:
        A bool tensor `(batch · n, side, side)`.

    Source: `BitmapMasks.crop_and_resize` of mmdet.
    """
    batch, count, height, width = ops.shape(masks)
    flat = ops.reshape(masks, (-1, height, width))
    images = ops.arange(batch, dtype="int32")[:, None]
    owners = ops.reshape(ops.add(images * count, objects), (-1,))
    boxes = box_functions.clip(boxes, ops.stack([[height, width]]))
    return aligned_masks(flat, ops.reshape(boxes, (-1, 4)), owners, side) >= 0.5


def class_deltas(deltas, labels):
    """Of all classes' deltas `(…, 4 · classes)` those of one class `(…, 4)`.

    A label behind the last class gives some deltas.
    """
    deltas = as_boxes(deltas)
    classes = deltas.shape[-1] // 4
    every = ops.reshape(deltas, (*ops.shape(deltas)[:-1], classes, 4))
    labels = ops.minimum(labels, classes - 1)[..., None, None]
    return ops.take_along_axis(every, labels, axis=-2)[..., 0, :]


def smooth_l1(x, target, beta=0.0):
    """Absolute differences, below `beta` rounded to a parabola."""
    difference = ops.abs(x - target)
    if not beta:
        return difference
    parabola = 0.5 / beta * difference * difference
    return ops.where(difference < beta, parabola, difference - 0.5 * beta)


def cross_entropy_of_bits(bits, logits):
    """Of each probability that a logit stands for."""
    return ops.binary_crossentropy(bits, as_boxes(logits), from_logits=True)


def _sum_of(x, counts):
    """The sum over what counts, in all further axes."""
    further = (1,) * (len(x.shape) - len(counts.shape))
    counts = ops.reshape(counts, (*ops.shape(counts), *further))
    return ops.sum(ops.where(counts, x, ops.zeros_like(x)))
