"""Where to crop, erase and cut: the same formulas for NumPy and TensorFlow.

`ops` is either of the two modules. Random numbers come as uniform draws of
0–1 in float64, so that both libraries can be held to the same boxes.
"""

import math

TRIES = 10
ERASED_AREA = (0.02, 1 / 3)
ERASED_RATIO = (0.3, 1 / 0.3)


def tf_crop_box(seed, height, width, scale=(0.08, 1.0), ratio=(3 / 4, 4 / 3)):
    """Draws the box of a random resized crop, before the image is decoded.

    Args:
        seed: pair of ints, or tensor `(2,)` of them.
        height, width: ints or scalar tensors, pixels of the image.
        scale: the least and greatest part of the image's area.
        ratio: the least and greatest width by height.

    Returns:
        `int32` tensor `(4,)`: top, left, height and width, as
        `tf.image.decode_and_crop_jpeg` takes them.

    Source: torchvision's `RandomResizedCrop`, which the official code uses.

    Examples:
        >>> keras_convnext.data.augmentation.boxes.tf_crop_box(
        ...     (0, 1), 480, 640
        ... ).shape
        TensorShape([4])
    """
    import tensorflow as tf

    draws = tf.random.stateless_uniform((TRIES, 4), seed, dtype=tf.float64)
    height, width = (tf.cast(side, tf.float64) for side in (height, width))
    box = crop_box(tf, draws, height, width, scale, ratio)
    return tf.cast(tf.stack(box), tf.int32)


def crop_box(ops, draws, height, width, scale, ratio):
    """The first of ten random boxes that fits, else the largest in ratio.

    Args:
        draws: `(10, 4)`, for area, aspect, top and left.
        height, width: floats, pixels of the image.

    Returns:
        Top, left, height and width, as floats.
    """
    area, aspect = _area_and_aspect(ops, draws, scale, ratio, height * width)
    heights = ops.round(ops.sqrt(area / aspect))
    widths = ops.round(ops.sqrt(area * aspect))
    fits = (heights > 0) & (heights <= height)
    fits = fits & (widths > 0) & (widths <= width)
    found, box = _first(ops, fits, heights, widths, draws, height, width)
    full = _largest(ops, height, width, ratio)
    return tuple(ops.where(found, a, b) for a, b in zip(box, full))


def erased_box(ops, draws, height, width):
    """The first of ten random boxes that is smaller than the image.

    Returns:
        Whether there is one; and its top, left, height and width as floats.
    """
    area, aspect = _area_and_aspect(
        ops, draws, ERASED_AREA, ERASED_RATIO, height * width
    )
    heights = ops.round(ops.sqrt(area * aspect))
    widths = ops.round(ops.sqrt(area / aspect))
    fits = (heights < height) & (widths < width)
    return _first(ops, fits, heights, widths, draws, height, width)


def cut_box(ops, draws, weight, height, width):
    """The box of CutMix that leaves about `weight` of the image.

    Args:
        draws: `(2,)`, for the row and the column of its centre.

    Returns:
        Top, left, height and width within the image, as floats.
    """
    part = ops.sqrt(1 - weight)
    spans = (
        _span(ops, draw, part, length)
        for draw, length in zip((draws[0], draws[1]), (height, width))
    )
    (top, height), (left, width) = spans
    return top, left, height, width


def _area_and_aspect(ops, draws, scale, ratio, area):
    low, high = (math.log(value) for value in ratio)
    part = scale[0] + (scale[1] - scale[0]) * draws[:, 0]
    return area * part, ops.exp(low + (high - low) * draws[:, 1])


def _first(ops, fits, heights, widths, draws, height, width):
    first = ops.argmax(ops.where(fits, 1.0, 0.0))
    box_height, box_width = heights[first], widths[first]
    top = ops.floor(draws[first, 2] * (height - box_height + 1))
    left = ops.floor(draws[first, 3] * (width - box_width + 1))
    return fits[first], (top, left, box_height, box_width)


def _largest(ops, height, width, ratio):
    """In the centre, with the nearest ratio to the image's."""
    box_height = ops.minimum(height, ops.round(width / ratio[0]))
    box_width = ops.minimum(width, ops.round(height * ratio[1]))
    top = (height - box_height) // 2
    left = (width - box_width) // 2
    return top, left, box_height, box_width


def _span(ops, draw, part, length):
    cut = ops.floor(length * part)
    centre = ops.floor(draw * length)
    start = ops.maximum(centre - cut // 2, 0.0)
    stop = ops.minimum(centre + (cut + 1) // 2, length)
    return start, stop - start
