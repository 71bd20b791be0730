"""Masks as pictures: a color for every class, laid over the image."""

import numpy as np
from PIL import Image

from keras_convnext._util.annotations import ArrayLike
from keras_convnext._util.annotations import Images
from keras_convnext._util.annotations import PathLike
from keras_convnext._util.ranges import Count
from keras_convnext._util.ranges import Part
from keras_convnext._util.ranges import in_range
from keras_convnext._util.writing import written_aside
from keras_convnext.tasks.segmentation.inference import read_pixels


@in_range
def palette(classes: Count) -> Images:
    """A color for every class, by the bits of its number.

    The three lowest bits are the highest of red, green and blue, the next
    three the next ones, as in PASCAL VOC's color map, whose black is left
    out. 255 classes are all different.

    Args:
        classes: int.

    Returns:
        `uint8` array `(classes, 3)`, RGB.

    Examples:
        >>> keras_convnext.segmentation.palette(3).tolist()
        [[128, 0, 0], [0, 128, 0], [128, 128, 0]]
    """
    numbers = np.arange(1, classes + 1)[:, None]
    colors = np.zeros((classes, 3), "int64")
    for bit in range(8):
        lowest = numbers >> (3 * bit + np.arange(3)) & 1
        colors |= lowest << (7 - bit)
    return colors.astype("uint8")


@in_range
def overlaid(
    image: PathLike | Images,
    labels: ArrayLike,
    classes: Count,
    opacity: Part = 0.5,
) -> Images:
    """An image with every class in a color of its own.

    Args:
        image: path, or `uint8` array `(height, width, 3)` of 0–255.
        labels: int array `(height, width)`, as `segment` returns it; pixels
            of other numbers than the classes', such as 255, stay as they are.
        classes: int, of the model.
        opacity: of the colors, from 0 to 1.

    Returns:
        `uint8` array `(height, width, 3)` of 0–255.

    Raises:
        ValueError: for shapes or an opacity that do not fit.

    Examples:
        >>> image = np.full((1, 2, 3), 200, "uint8")
        >>> labels = np.array([[0, 255]])
        >>> overlaid(image, labels, classes=2, opacity=1.0).tolist()
        [[[128, 0, 0], [200, 200, 200]]]
    """
    pixels, labels = read_pixels(image), np.asarray(labels)
    if labels.shape != pixels.shape[:2]:
        raise ValueError(
            "`labels` must have one number for each pixel of the image. "
            f"Received: shape {labels.shape} for an image of shape "
            f"{pixels.shape}"
        )
    is_class = (labels >= 0) & (labels < classes)
    colors = palette(classes)[np.where(is_class, labels, 0)]
    mixed = np.round(pixels * (1 - opacity) + colors * opacity)
    return np.where(is_class[..., None], mixed, pixels).astype("uint8")


@in_range
def write_overlay(
    path: PathLike,
    image: PathLike | Images,
    labels: ArrayLike,
    classes: Count,
    opacity: Part = 0.5,
) -> None:
    """Writes `overlaid` as an image file, whole or not at all.

    Args:
        path: to write, such as `"out.png"`.
        image, labels, classes, opacity: as for `overlaid`.
    """
    picture = Image.fromarray(overlaid(image, labels, classes, opacity))
    with written_aside(path) as unfinished:
        picture.save(unfinished)
