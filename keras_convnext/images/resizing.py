"""Resizing as OpenCV computes it, which the published detectors have seen.

Neither Pillow nor any backend gives these pixels: OpenCV counts in whole
numbers, and where an image becomes smaller it leaves pixels out.
"""

import numpy as np

from keras_convnext._util.annotations import Array
from keras_convnext._util.ranges import Count
from keras_convnext._util.ranges import in_range

# Steps of a weight. Of their product with a gray level 4 bits are dropped
# before the second weight, 16 after it, and 2 at last.
ONE = 2048
# Numbers that are worked on at a time: strips stay in the cache.
STRIP = 2**18


@in_range
def fitted_size(
    height: Count, width: Count, longest: Count = 1333, shortest: Count = 800
) -> tuple[int, int]:
    """How large an image becomes: as large as two bounds allow.

    Args:
        height, width: ints, pixels of the image.
        longest, shortest: ints, pixels that its long and its short side may
            have. Published detectors take 1333 and 800.

    Returns:
        `(height, width)`: ints of at least 1, rounded half up.

    Examples:
        >>> from keras_convnext.images import resizing
        >>> resizing.fitted_size(480, 640)
        (800, 1067)
    """
    long, short = max(height, width), min(height, width)
    scale = min(longest / long, shortest / short)
    new_height, new_width = (int(x * scale + 0.5) for x in (height, width))
    return max(new_height, 1), max(new_width, 1)


@in_range
def linear(image: Array, height: Count, width: Count) -> Array:
    """`cv2.resize` with `INTER_LINEAR`, to the bit.

    Args:
        image: `uint8` array `(height, width, channels)`, of 1, 3 or 4
            channels: of 2, OpenCV halves the sides in another way.
        height, width: ints, pixels of the result.

    Returns:
        `uint8` array `(height, width, channels)`.

    Raises:
        ValueError: for other arrays.

    Examples:
        >>> from keras_convnext.images import resizing
        >>> resizing.linear(np.array([[[0], [255]]], "uint8"), 1, 4).ravel()
        array([  0,  64, 191, 255], dtype=uint8)
    """
    is_image = image.ndim == 3 and image.shape[2] in (1, 3, 4)
    if image.dtype != "uint8" or not is_image or 0 in image.shape:
        raise ValueError(
            "Expected a uint8 array (height, width, channels) of 1, 3 or 4 "
            f"channels. Received: {image.dtype} array of shape {image.shape}. "
            "Resize before anything that makes floats"
        )
    rows, columns, channels = image.shape
    above, below = _neighbors(rows, height)
    left, right = _neighbors(columns, width)
    # Beyond the first and the last center OpenCV takes one column alone, but
    # one row twice, by both weights.
    is_inside = (left[0] >= 0) & (left[0] < columns - 1)
    lefts = np.where(is_inside, left[1], ONE)[:, None]
    rights = np.where(is_inside, right[1], 0)[:, None]
    left, right = (np.clip(x[0], 0, columns - 1) for x in (left, right))
    result = np.empty((height, width, channels), "uint8")
    step = max(STRIP // (width * channels), 1)
    for start in range(0, height, step):
        strip = slice(start, start + step)
        pair = [np.clip(x[0][strip], 0, rows - 1) for x in (above, below)]
        used, places = np.unique(pair, return_inverse=True)
        lines = image[used]
        parts = (np.take(lines, x, 1) for x in (left, right))
        lines = sum(x * y for x, y in zip(parts, (lefts, rights))) >> 4
        total = 2
        for place, (_, weights) in zip(places, (above, below)):
            part = lines[place]
            part *= weights[strip, None, None]
            part >>= 16
            total = part + total
        result[strip] = total >> 2
    return result


@in_range
def nearest(masks: Array, height: Count, width: Count) -> Array:
    """`cv2.resize` with `INTER_NEAREST`, to the bit.

    Args:
        masks: array `(…, height, width)`.
        height, width: ints, pixels of the result.

    Returns:
        An array `(…, height, width)` of the same dtype.

    Examples:
        >>> from keras_convnext.images import resizing
        >>> resizing.nearest(np.array([[1, 2, 3]]), 1, 5).ravel()
        array([1, 1, 2, 2, 3])
    """
    rows, columns = map(nearest_pixels, masks.shape[-2:], (height, width))
    return masks[..., rows[:, None], columns]


def nearest_pixels(size, goal):
    """Along one axis, which pixel each new one takes."""
    places = np.arange(goal) * (1 / (goal / size))
    return np.minimum(places.astype(int), size - 1)


def _neighbors(size, goal):
    """Along one axis, the pixels before and after each new one.

    Returns:
        Twice `(numbers, weights)`, of which the numbers may lie outside.
    """
    centers = (np.arange(goal) + 0.5) * (1 / (goal / size)) - 0.5
    centers = centers.astype("float32")
    first = np.floor(centers)
    part = centers - first
    numbers = first.astype(int)
    return (
        (numbers, np.rint((1 - part) * ONE).astype("int32")),
        (numbers + 1, np.rint(part * ONE).astype("int32")),
    )
