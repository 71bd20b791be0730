"""How large an image becomes before the crop, whatever resizes it."""

import math

from keras_convnext._util.checks import is_positive_int
from keras_convnext._util.checks import one_of
from keras_convnext._util.ranges import PartAboveZero
from keras_convnext._util.ranges import check

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
MODES = ("center", "squash", "border")
INTERPOLATIONS = ("bicubic", "bilinear")


def official_crop(image_size):
    """`crop_pct` and `crop_mode` of the official evaluation at a size.

    Below 384 pixels: resize the short side, crop the center. From there on:
    resize both sides, losing the aspect ratio.
    """
    return (1.0, "squash") if min(image_size) >= 384 else (0.875, "center")


def checked(size, crop_pct, mode, interpolation, mean):
    """The arguments, with the official rule for those that are `None`.

    Returns:
        `(size, crop_pct, mode, fill)`: the size as a pair, and the color of
        the padding.
    """
    size = pair_of(size)
    if crop_pct is None and mode is None:
        crop_pct, mode = official_crop(size)
    mode = mode or "center"
    if crop_pct is None:
        crop_pct = 1.0 if mode == "squash" else 0.875
    one_of("mode", mode, MODES)
    one_of("interpolation", interpolation, INTERPOLATIONS)
    check("crop_pct", crop_pct, PartAboveZero)
    if mode != "border":  # the others never pad
        return size, crop_pct, mode, (0, 0, 0)
    if len(mean) != 3 or not all(0 <= value <= 1 for value in mean):
        raise ValueError(
            "`mean` must hold three numbers of 0–1, the color of the border. "
            f"Received: mean={mean!r}"
        )
    return size, crop_pct, mode, tuple(round(255 * value) for value in mean)


def pair_of(size):
    """Height and width, by both or by one for both."""
    pair = tuple(size) if isinstance(size, (tuple, list)) else (size, size)
    if len(pair) != 2 or not all(map(is_positive_int, pair)):
        raise ValueError(
            "`size` must be a positive int or two of them, (height, width). "
            f"Received: size={size!r}"
        )
    return pair


def resized_shape(ops, height, width, size, crop_pct, mode):
    """Height and width before the crop; `ops` is numpy or tensorflow.

    In float64 both round as Python does: halves to even.
    """
    goal_height, goal_width = (math.floor(side / crop_pct) for side in size)
    if mode == "squash":
        return goal_height, goal_width
    if mode == "center" and goal_height == goal_width:
        short = ops.minimum(height, width)
        return (
            ops.floor(goal_height * height / short),
            ops.floor(goal_width * width / short),
        )
    nearest = ops.minimum if mode == "center" else ops.maximum
    ratio = nearest(height / goal_height, width / goal_width)
    # One pixel is left of the thinnest image.
    return tuple(
        ops.maximum(ops.round(side / ratio), 1.0) for side in (height, width)
    )
