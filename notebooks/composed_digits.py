"""Several digits in one picture, where boxes and masks are known exactly.

The notebooks on detection, segmentation and Grad-CAM train on them.
"""

from typing import NamedTuple

import numpy as np

from keras_convnext.data import load_digits

# Scans of 8×8 pixels are enlarged three or four times.
ZOOMS = (3, 4)
# Where a digit's corner lies in a field of this chessboard decides whether
# the place is one to train on or a held out one. Pixels.
FIELD = 4


class Compositions(NamedTuple):
    """Pictures of digits, and what is to be found in them.

    Attributes:
        images: `uint8` RGB, `(n, size, size, 3)`.
        boxes: `float32`, `(n, digits, 4)`: left, top, right and bottom edge
            of each digit's scan, pixels (`"xyxy"` in keras-cv).
        classes: `int32`, `(n, digits)`: the digits, 0–9.
        masks: `int32`, `(n, size, size)`: 0 for the ground, and one more than
            the digit all over its scan.
    """

    images: np.ndarray
    boxes: np.ndarray
    classes: np.ndarray
    masks: np.ndarray


def compose_digits(
    train_count: int = 2400,
    test_count: int = 200,
    image_size: int = 96,
    digits: int = 4,
    seed: int = 0,
) -> tuple[Compositions, Compositions]:
    """Composes pictures of several handwritten digits on a ground of noise.

    Scans are 24 or 32 pixels wide and do not overlap. Both the scans and the
    places of the second set are held out: none occurs in the first. The same
    arguments give the same pictures.

    Args:
        train_count, test_count: numbers of pictures.
        image_size: their width and height, pixels: 96 or more, or 48 or more
            for one digit.
        digits: how many there are in each, 1–4.
        seed: any integer.

    Returns:
        `Compositions` to train on, and held out ones.

    Raises:
        ValueError: if `image_size` or `digits` is out of range.
        ImportError: if scikit-learn is not installed.

    Examples:
        >>> train, test = compose_digits(8, 4)
        >>> train.images.shape, train.boxes.shape, test.masks.shape
        ((8, 96, 96, 3), (8, 4, 4), (4, 96, 96))
    """
    smallest = 48 if digits == 1 else 96
    if digits not in range(1, 5) or image_size < smallest:
        raise ValueError(
            "One to four digits are composed in images of 96 pixels or more, "
            "one of them also from 48 pixels on. Received: image_size="
            f"{image_size!r}, digits={digits!r}"
        )
    sets = zip(load_digits(), (train_count, test_count))
    return tuple(
        _compose(*scans, count, image_size, digits, [seed, part], part)
        for part, (scans, count) in enumerate(sets)
    )


def _compose(scans, labels, count, size, digits, seed, parity):
    generator = np.random.default_rng(seed)
    images = generator.integers(40, 120, (count, size, size, 3)).astype("uint8")
    masks = np.zeros((count, size, size), "int32")
    boxes = np.zeros((count, digits, 4), "float32")
    classes = np.zeros((count, digits), "int32")
    for i in range(count):
        for j in range(digits):
            number = generator.integers(len(scans))
            zoom, top, left = _free_place(masks[i], parity, generator)
            width = 8 * zoom
            area = (i, slice(top, top + width), slice(left, left + width))
            images[area] = scans[number].repeat(zoom, 0).repeat(zoom, 1)
            masks[area] = labels[number] + 1
            boxes[i, j] = left, top, left + width, top + width
            classes[i, j] = labels[number]
    return Compositions(images, boxes, classes, masks)


def _free_place(mask, parity, generator):
    """An empty square for a scan, with its corner in fields of one parity.

    There is one: of the four corners of a picture of 96 pixels each digit
    that is there already takes at most one.
    """
    while True:
        zoom = generator.choice(ZOOMS)
        top, left = generator.integers(0, len(mask) + 1 - 8 * zoom, 2)
        is_of_the_set = (top // FIELD + left // FIELD) % 2 == parity
        area = mask[top : top + 8 * zoom, left : left + 8 * zoom]
        if is_of_the_set and not area.any():
            return zoom, top, left
