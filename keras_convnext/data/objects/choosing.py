"""Which images and objects the published detectors have been trained on."""

import numpy as np

from keras_convnext._util.ranges import CountOrZero
from keras_convnext._util.ranges import in_range
from keras_convnext.data.objects.source import ObjectSource
from keras_convnext.data.objects.source import ObjectSubset


@in_range
def trainable(
    source: ObjectSource | ObjectSubset, shortest: CountOrZero = 32
) -> ObjectSubset:
    """The images that training takes.

    Args:
        source: an `ObjectSource`.
        shortest: int, pixels that the short side must have.

    Returns:
        A subset: images with an annotation, of which a crowd is one, and with
        sides that are long enough.

    Raises:
        ValueError: if there are none.

    Examples:
        >>> source = keras_convnext.data.read_coco(
        ...     "coco/annotations/instances_train2017.json"
        ... )  # doctest: +SKIP
        >>> len(source), len(trainable(source))  # doctest: +SKIP
        (118287, 117266)
    """
    is_large = source.sizes.min(axis=1, initial=2**31 - 1) >= shortest
    numbers = np.flatnonzero(is_large & (source.labels > 0))
    if not len(numbers):
        raise ValueError(
            "To train a detector takes images with objects, whose short side "
            f"is at least {shortest} pixels. Received: {len(source)} images, "
            f"{int((source.labels > 0).sum())} with objects and "
            f"{int(is_large.sum())} large enough, in {str(source.path)!r}"
        )
    return ObjectSubset(source, numbers)


def why_dropped(boxes, areas, heights, widths):
    """What objects are left out of training for.

    Args:
        boxes: array `(n, 4)`.
        areas: array `(n,)`.
        heights, widths: ints, or int arrays `(n,)`, pixels of the image.

    Returns:
        A dict from reasons to boolean arrays `(n,)`; an object may have
        several.
    """
    left, top, right, bottom = np.asarray(boxes, "float64").T
    across = np.minimum(right, widths) - np.maximum(left, 0)
    down = np.minimum(bottom, heights) - np.maximum(top, 0)
    return {
        "outside of the image": (across <= 0) | (down <= 0),
        "without area": np.asarray(areas) <= 0,
        "narrower than a pixel": (right - left < 1) | (bottom - top < 1),
    }


def counted(objects):
    """The `Objects` that training looks for: neither crowds nor dropped.

    A crowd is background, as there.
    """
    reasons = why_dropped(
        objects.boxes, objects.areas, objects.height, objects.width
    )
    dropped = np.any([*reasons.values()], axis=0)
    return objects.only(~(dropped | objects.is_crowd))
