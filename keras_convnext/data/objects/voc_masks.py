"""Pascal VOC's pictures of masks: a number for each object of an image."""

import itertools
import warnings

import numpy as np
from PIL import Image

from keras_convnext._util.limits import check_file
from keras_convnext._util.limits import check_memory
from keras_convnext.data.threads import in_order
from keras_convnext.images import rle
from keras_convnext.images.reading import Unreadable

FOLDER = "SegmentationObject"
# Background, and the border around objects, which may be of either.
NO_OBJECT = (0, 255)
# How much likelier a mask is that of the object of its number: VOC counts both
# in one order, other programs may not.
OWN = 0.2
# Bits of red, green and blue that no color of VOC's map has.
UNUSED = np.array([31, 31, 63], "uint8")


def outlines_of(pictures, boxes, sizes):
    """The masks of all objects, as `outlines.rle_of` takes them.

    Args:
        pictures: for each image the path of its PNG, or `None`.
        boxes: for each image its objects' boxes, x1, y1, x2, y2 in pixels.
        sizes: for each image height and width, pixels.

    Returns:
        For each image a list with COCO's dict of runs for each object, or
        `None` for one without a mask.

    Raises:
        Unreadable: for what is no such PNG, or of another size.

    Warns:
        If PNGs have masks that are no object's, or lack some.
    """
    jobs = zip(pictures, boxes, sizes)
    found = [*in_order(_outlines, jobs)]
    lonely = [
        (path, outlines.count(None), surplus)
        for path, (outlines, surplus) in zip(pictures, found)
        if path and (surplus or None in outlines)
    ]
    if lonely:
        path, objects, masks = lonely[0]
        warnings.warn(
            "Objects without a mask keep their box alone, and masks without an "
            f"object are left out. There are such in {len(lonely)} pictures; "
            f"in {str(path)!r} {objects} such objects and {masks} such masks",
            stacklevel=4,
        )
    return [outlines for outlines, _ in found]


def _outlines(job):
    """Of one image; and how many masks are nobody's."""
    path, boxes, size = job
    if path is None:
        return [None] * len(boxes), 0
    numbers = _numbers(path, tuple(size))
    masks = {
        int(x): numbers == x for x in np.unique(numbers) if x not in NO_OBJECT
    }
    extents = {number: _extent(mask) for number, mask in masks.items()}
    likeness = {
        (number, i): overlap + OWN * (number == i + 1)
        for (number, extent), (i, box) in itertools.product(
            extents.items(), enumerate(boxes)
        )
        if (overlap := _overlap(extent, box)) > 0
    }
    outlines = [None] * len(boxes)
    for number, i in sorted(likeness, key=likeness.get, reverse=True):
        if number in masks and outlines[i] is None:
            outlines[i] = rle.encode(masks.pop(number))
    return outlines, len(masks)


def _numbers(path, size):
    """`uint8` array `(height, width)`."""
    try:
        check_file(path)
        with Image.open(path) as image:
            if (image.height, image.width) != size:
                raise ValueError(
                    f"which has {image.height}×{image.width} pixels, and the "
                    f"photograph {'×'.join(map(str, size))}"
                )
            check_memory(3 * image.height * image.width, "The picture of masks")
            if image.mode in ("L", "P"):
                return np.asarray(image)
            return _by_color(np.asarray(image.convert("RGB")))
    # Broken files end in anything.
    except Exception as error:
        raise Unreadable(repr(str(path)), error) from error


def _by_color(pixels):
    """The numbers that VOC's color map shows in these colors: its bits are,
    from the lowest on, the highest of red, green, blue, the next of red …"""
    if (pixels & UNUSED).any():
        color = pixels[(pixels & UNUSED).any(axis=2)][0].tolist()
        raise ValueError(
            f"which has the color {color}, and VOC's color map has not. Save "
            "the numbers of the objects, with a palette or in gray"
        )
    bits = [pixels[..., i % 3] >> (7 - i // 3) & 1 for i in range(8)]
    return np.packbits(np.stack(bits, -1), axis=-1, bitorder="little")[..., 0]


def _extent(mask):
    """The box around a mask."""
    rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    return columns[0], rows[0], columns[-1] + 1, rows[-1] + 1


def _overlap(a, b):
    """Common area by the area of both together."""
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    common = np.maximum(sides, 0).prod()
    areas = sum(np.subtract(x[2:], x[:2]).prod() for x in (a, b))
    return common / max(areas - common, 1)
