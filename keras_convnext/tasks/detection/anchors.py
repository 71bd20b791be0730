"""Where boxes are looked for: three forms around every cell of five maps."""

import numpy as np
from keras import ops

STRIDES = (4, 8, 16, 32, 64)
RATIOS = (0.5, 1.0, 2.0)  # height / width
SCALE = 8  # side of a square anchor in cells


def counts(height, width):
    """How many anchors each level has.

    Args:
        height, width: of the padded image in pixels, multiples of 32.

    Returns:
        List of five numbers.

    Examples:
        >>> counts(800, 1216)
        [182400, 45600, 11400, 2850, 741]
    """
    grids = [_grid(height, width, stride) for stride in STRIDES]
    return [rows * columns * len(RATIOS) for rows, columns in grids]


def anchors(height, width, dtype="float32"):
    """All anchors of an image, the levels of stride 4 to 64 in a row.

    The center of cell (i, j) is at pixel (i · stride, j · stride). Within a
    level come rows, then columns, then the three forms.

    Args:
        height, width: of the padded image in pixels, multiples of 32; ints,
            or on TensorFlow scalar tensors.
        dtype: `"float32"` or `"float64"`.

    Returns:
        A tensor `(n, 4)` of boxes x1, y1, x2, y2 in pixels.

    Source: `AnchorGenerator` of mmdet with `scales=[8]`.

    Examples:
        >>> [float(x) for x in anchors(32, 32)[1]]
        [-16.0, -16.0, 16.0, 16.0]
    """
    levels = [_level(height, width, stride, dtype) for stride in STRIDES]
    return ops.concatenate(levels, axis=0)


def _level(height, width, stride, dtype):
    rows, columns = _grid(height, width, stride)
    y, x = ops.meshgrid(
        ops.arange(rows, dtype="int32") * stride,
        ops.arange(columns, dtype="int32") * stride,
        indexing="ij",
    )
    centers = ops.cast(ops.stack([x, y, x, y], axis=-1), dtype)
    forms = ops.convert_to_tensor(around_zero(stride), dtype)
    return ops.reshape(centers[:, :, None] + forms, (-1, 4))


def around_zero(stride):
    """The anchors around (0, 0), an array `(3, 4)`."""
    heights = SCALE * stride * np.sqrt(RATIOS)
    widths = SCALE * stride / np.sqrt(RATIOS)
    corners = np.stack([widths, heights], axis=-1) / 2
    return np.concatenate([-corners, corners], axis=-1)


def _grid(height, width, stride):
    return -(-height // stride), -(-width // stride)
