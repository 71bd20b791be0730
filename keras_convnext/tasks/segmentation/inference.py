"""Every pixel's class: by whole images or windows, at several scales."""

import math
from collections.abc import Sequence

import numpy as np
from keras import ops

from keras_convnext._util.annotations import Array
from keras_convnext._util.annotations import Images
from keras_convnext._util.annotations import PathLike
from keras_convnext._util.checks import one_of
from keras_convnext._util.limits import check_memory
from keras_convnext._util.progress import progress
from keras_convnext._util.ranges import Count
from keras_convnext._util.ranges import Positive
from keras_convnext._util.ranges import in_range
from keras_convnext.artifacts.running import Artifact
from keras_convnext.images.reading import Photograph
from keras_convnext.tasks.segmentation.exported import segmenter_of
from keras_convnext.tasks.segmentation.model import SegmentationModel
from keras_convnext.tasks.segmentation.resampling import resized
from keras_convnext.tasks.views import checked_scales

MODES = ("slide", "whole")
# The ratios of the published multi-scale figures.
MULTI_SCALE = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)
# The long side may have so many crops, the short side one.
LONG_SIDE = 4
SMALLEST = 32
# So many probabilities at once, 64 MB.
STRIP_ELEMENTS = 2**24


@in_range
def segment(
    model: SegmentationModel | Artifact,
    image: PathLike | Images,
    mode: str = "slide",
    scales: Sequence[Positive] = (1.0,),
    flip: bool = False,
    *,
    crop: Count | None = None,
    stride: Count | None = None,
    verbose: bool = True,
) -> Array:
    """The class of every pixel of one image.

    The image is resized so that its short side has `crop` pixels and its long
    side at most four times as many, times each of the scales. The
    probabilities are resized back and averaged.

    The published single-scale figures are those of `mode="slide"`, the
    multi-scale ones of `mode="whole", scales=MULTI_SCALE, flip=True`.

    Args:
        model: a `SegmentationModel`, such as `UperNet` returns, or an exported
            one, as `open_artifact` returns it.
        image: path of a photograph, which is turned upright, or a `uint8`
            array `(height, width, 3)` of 0–255.
        mode: `"slide"`: windows of `crop` pixels, logits averaged where they
            overlap; `"whole"`: all of the image at once.
        scales: positive numbers.
        flip: whether to add the mirrored image at each scale.
        crop: side of the windows in pixels; `None` for that of the training,
            512 or 640 for the published weights.
        stride: pixels from one window to the next; `None` for two thirds of
            `crop`: 341 or 426.
        verbose: whether to show progress on stderr, where that is a terminal.

    Returns:
        `int32` array `(height, width)` of class numbers, in the size of the
        image.

    Raises:
        ValueError: for a model that is no segmenter or takes images of
            another size only. For an image that cannot be read or becomes
            smaller than 32 pixels or too large for the memory. For arguments
            out of range.

    Source: official `semantic_segmentation/configs`, `*_ss.py` and `*_ms.py`,
    and mmseg's `slide_inference` and `aug_test`.

    Examples:
        >>> backbone = keras_convnext.ConvNeXtAtto(
        ...     weights=None, include_top=False
        ... )
        >>> model = keras_convnext.segmentation.UperNet(
        ...     backbone, 5, channels=16
        ... )
        >>> image = np.zeros((60, 80, 3), "uint8")
        >>> keras_convnext.segmentation.segment(model, image, crop=64).shape
        (60, 80)
    """
    pixels = read_pixels(image)
    segmenter = segmenter_of(model)
    views = _views(segmenter, pixels, mode, scales, flip, crop, stride)
    if len(views) > 1:
        shares = _mean(segmenter, pixels, views, verbose)
        return shares.argmax(axis=-1).astype("int32")
    labels = np.empty(pixels.shape[:2], "int32")
    for rows, shares in _strips(segmenter, pixels, views, verbose):
        labels[rows] = shares.argmax(axis=-1)
    return labels


@in_range
def class_probabilities(
    model: SegmentationModel | Artifact,
    image: PathLike | Images,
    mode: str = "slide",
    scales: Sequence[Positive] = (1.0,),
    flip: bool = False,
    *,
    crop: Count | None = None,
    stride: Count | None = None,
    verbose: bool = True,
) -> Array:
    """The probabilities of all classes, of which `segment` takes the largest.

    Args:
        model, …, verbose: as for `segment`.

    Returns:
        `float32` array `(height, width, classes)`; each pixel sums to 1.

    Raises:
        ValueError: as `segment`.
    """
    pixels = read_pixels(image)
    segmenter = segmenter_of(model)
    views = _views(segmenter, pixels, mode, scales, flip, crop, stride)
    return _mean(segmenter, pixels, views, verbose)


def _views(segmenter, pixels, mode, scales, flip, crop, stride):
    """Of each way to look at an image its size, windows, and if mirrored."""
    one_of("mode", mode, MODES)
    if crop is None:
        crop = segmenter.crop
    if stride is None:
        stride = max(crop * 2 // 3, 1)
    if stride > crop:
        raise ValueError(
            "`stride` must be at most `crop`, or pixels between windows "
            f"are left out. Received: stride={stride}, crop={crop}"
        )
    classes = segmenter.classes
    views = []
    for scale in checked_scales(scales):
        size = scaled_size(pixels.shape[:2], crop, scale)
        # In float32 the image, and the logits of all classes.
        check_memory(
            4 * math.prod(size) * (pixels.shape[-1] + classes),
            f"The image in {size[0]}x{size[1]} pixels, at scale {scale}, with "
            f"{classes} classes",
        )
        boxes = windows(size, crop if mode == "slide" else max(size), stride)
        _check_fit(segmenter, size, boxes[0], scale)
        flips = (False, True) if flip else (False,)
        views += [(size, boxes, is_flipped) for is_flipped in flips]
    return views


def _mean(segmenter, pixels, views, verbose):
    shape = *pixels.shape[:2], segmenter.classes
    check_memory(
        4 * math.prod(shape), f"Probabilities of shape {shape} for an image"
    )
    total = np.zeros(shape, "float32")
    for rows, shares in _strips(segmenter, pixels, views, verbose):
        total[rows] += shares
    return np.divide(total, len(views), out=total)


def _strips(segmenter, pixels, views, verbose):
    """Yields a slice of rows and their probabilities, view by view.

    A photograph's worth of all classes at once would take gigabytes.
    """
    height, width, _ = pixels.shape
    count = sum(len(boxes) for _, boxes, _ in views)
    with progress("segmenting", count, verbose=verbose) as advance:
        for size, boxes, is_flipped in views:
            view = ops.convert_to_numpy(resized(_batch(pixels), *size))[0]
            if is_flipped:
                view = view[:, ::-1]
            logits = _logits(segmenter, view, boxes, advance)
            logits = _batch(logits[:, ::-1] if is_flipped else logits)
            step = max(STRIP_ELEMENTS // (width * logits.shape[-1]), 1)
            for start in range(0, height, step):
                rows = slice(start, min(start + step, height))
                part = resized(logits, height, width, rows)
                shares = ops.softmax(part, axis=-1)
                yield rows, ops.convert_to_numpy(shares)[0]


def scaled_size(size, crop, scale):
    """Height and width under mmcv's rule: as large as both sides allow."""
    long, short = int(LONG_SIDE * crop * scale), int(crop * scale)
    factor = min(long / max(size), short / min(size))
    return tuple(int(side * factor + 0.5) for side in size)


def windows(size, crop, stride):
    """The boxes that cover an image: `(top, left, bottom, right)`.

    All have `crop` pixels on each side, or all that there are. The last ones
    in each direction are moved back to end with the image.
    """
    tops, lefts = (
        [*range(0, length - crop, stride), max(length - crop, 0)]
        for length in size
    )
    height, width = size
    return [
        (top, left, min(top + crop, height), min(left + crop, width))
        for top in tops
        for left in lefts
    ]


def read_pixels(image: PathLike | Images) -> Images:
    """A photograph or an array as `uint8` array `(height, width, 3)`."""
    return Photograph(image).pixels()


def _logits(segmenter, view, boxes, advance):
    """Logits of a whole view, averaged where its windows overlap."""
    total, counts = 0.0, np.zeros((*view.shape[:2], 1), "float32")
    for top, left, bottom, right in boxes:
        window = np.ascontiguousarray(view[top:bottom, left:right])
        outputs = segmenter.logits(window[None])
        if not np.ndim(total):
            total = np.zeros((*view.shape[:2], outputs.shape[-1]), "float32")
        total[top:bottom, left:right] += outputs[0]
        counts[top:bottom, left:right] += 1
        advance()
    return np.divide(total, counts, out=total)


def _batch(x):
    return ops.convert_to_tensor(np.ascontiguousarray(x)[None], "float32")


def _check_fit(segmenter, size, box, scale):
    """Whether the model takes windows as large as this box."""
    if min(size) < SMALLEST:
        raise ValueError(
            f"The image must have at least {SMALLEST} pixels on each side "
            "when it is resized; its long side is limited. Choose a larger "
            f"`crop` or scale, or cut the image. Received: {size[0]}x{size[1]} "
            f"pixels at scale {scale}"
        )
    height, width = box[2] - box[0], box[3] - box[1]
    taken = segmenter.size
    if any(x not in (None, y) for x, y in zip(taken, (height, width))):
        raise ValueError(
            f"The model {segmenter.name} takes images of {taken[0]}x{taken[1]} "
            f"pixels alone. {segmenter.remedy}. Received: windows of "
            f"{height}x{width} pixels at scale {scale}"
        )
