"""The objects in one photograph: resized, detected, and put into a record."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_convnext._util.annotations import Array
from keras_convnext._util.annotations import Images
from keras_convnext._util.annotations import PathLike
from keras_convnext._util.limits import check_memory
from keras_convnext._util.progress import progress
from keras_convnext._util.ranges import Count
from keras_convnext._util.ranges import Part
from keras_convnext._util.ranges import Positive
from keras_convnext._util.ranges import in_range
from keras_convnext.images import resizing
from keras_convnext.images.reading import Photograph
from keras_convnext.tasks.detection import masks as mask_functions
from keras_convnext.tasks.detection.layers import MULTIPLE
from keras_convnext.tasks.detection.model import IMAGES
from keras_convnext.tasks.detection.model import ORIGINAL_SIZES
from keras_convnext.tasks.detection.model import SIZES
from keras_convnext.tasks.detection.model import DetectionModel
from keras_convnext.tasks.detection.model import check_detector
from keras_convnext.tasks.detection.suppression import non_max_suppression
from keras_convnext.tasks.views import checked_scales


@dataclass(frozen=True)
class Detections:
    """The objects that were found in an image, by falling score.

    Attributes:
        boxes: `float32` array `(n, 4)`, x1, y1, x2, y2 in pixels of the image.
        scores: `float32` array `(n,)`, from 0 to 1.
        classes: `int32` array `(n,)`, numbers of the classes.
        names: tuple of n names; numbers as text where the model knows none.
        rles: list of n masks in COCO's form, dicts of `size` and `counts`.
        size: height and width of the image.
    """

    boxes: Array
    scores: Array
    classes: Array
    names: tuple[str, ...]
    rles: list[dict[str, Any]]
    size: tuple[int, int]

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def masks(self) -> Array:
        """Booleans `(n, height, width)`, which are made anew at each call.

        Raises:
            ValueError: where they are too large for the memory; `rles` has
                them one by one.
        """
        shape = len(self), *self.size
        check_memory(math.prod(shape), f"Masks of shape {shape}")
        masks = np.zeros(shape, bool)
        for mask, rle in zip(masks, self.rles):
            mask[:] = mask_functions.decode(rle)
        return masks


@in_range
def detect(
    model: DetectionModel,
    image: PathLike | Images,
    score: Part = 0.05,
    scales: Sequence[Positive] = (1.0,),
    flip: bool = False,
    *,
    multiple: Count = MULTIPLE,
    verbose: bool = True,
) -> Detections:
    """Finds the objects in one image.

    The image is resized as the published detectors were evaluated, by
    OpenCV's rule. Its short side gets 800 pixels and its long one at most
    1333, or whatever `model.info.preprocessing.image_size` is. One call gives
    the same bits again.

    With several scales, or `flip`, all that is found in each view is joined,
    and of boxes of a class that overlap by more than half the best is kept.

    Args:
        model: a `DetectionModel`, such as `MaskRCNN` returns.
        image: path of a photograph, which is turned upright, or a `uint8`
            array `(height, width, 3)` of 0–255.
        score: from the model's own threshold, 0.05, to 1: what scores less is
            left out.
        scales: positive numbers, times the size.
        flip: whether to add the mirrored image at each scale.
        multiple: what the sides of the network's input are rounded up to, a
            multiple of 32. XLA compiles each size anew, half a minute on JAX
            for a Tiny: with 256 there are few. Results are those of the
            published figures with 32 alone; more of a margin is seen near the
            edges, and changes scores by some thousandths.
        verbose: whether to show progress on stderr, where that is a terminal.

    Returns:
        `Detections`, at most as many as the model was built for, 100.

    Raises:
        ValueError: for a model that is no detector or takes images of another
            size only. For an image that cannot be read or becomes too large
            for the memory, and for arguments out of range.

    Source: `object_detection/configs/_base_/datasets/coco_instance.py` of the
    official repository, and mmdet's `single_gpu_test`.

    Examples:
        >>> backbone = keras_convnext.ConvNeXtAtto(
        ...     weights=None, include_top=False
        ... )
        >>> model = keras_convnext.detection.MaskRCNN(
        ...     backbone, ["cat", "dog"], channels=16, units=32, short_side=64
        ... )
        >>> image = np.zeros((60, 80, 3), "uint8")
        >>> found = keras_convnext.detection.detect(model, image, score=0.9)
        >>> len(found), found.masks.shape
        (0, (0, 60, 80))
    """
    check_detector(model)
    _check_numbers(model, score, multiple)
    pixels = Photograph(image).pixels()
    sizes = [_size(model, pixels, scale) for scale in checked_scales(scales)]
    canvases = [_canvas(model, size, multiple) for size in sizes]
    flips = (False, True) if flip else (False,)
    found = []
    views = len(sizes) * len(flips)
    with progress("detecting", views, verbose=verbose and views > 1) as advance:
        for size, canvas in zip(sizes, canvases):
            resized = resizing.linear(pixels, *size)
            for is_flipped in flips:
                view = resized[:, ::-1] if is_flipped else resized
                one = _found(model, view, canvas, pixels.shape[:2])
                if is_flipped:
                    one = _mirrored(one, pixels.shape[1])
                found.append(one)
                advance()
    joined = found[0] if len(found) == 1 else _joined(model, found)
    names = model.info.class_names
    return as_record(names, joined, score, pixels.shape[:2])


def _check_numbers(model, score, multiple):
    threshold = model.get_layer(f"{model.prefix}detections").score_threshold
    if score < threshold:
        raise ValueError(
            f"`score` must be at least {threshold}, which the model leaves out "
            "itself: build it with `score_threshold=` for less. Received: "
            f"score={score}"
        )
    if multiple % MULTIPLE:
        raise ValueError(
            f"`multiple` must be a multiple of {MULTIPLE}. Received: "
            f"multiple={multiple}"
        )


def _size(model, pixels, scale):
    """Height and width to resize an image to."""
    short, long = model.info.preprocessing.image_size
    bounds = (max(int(x * scale), 1) for x in (long, short))
    size = resizing.fitted_size(*pixels.shape[:2], *bounds)
    # Pixels in float32, and the finest maps of the pyramid and its heads.
    check_memory(
        4 * size[0] * size[1] * (3 + 256),
        f"The image in {size[0]}x{size[1]} pixels, at scale {scale},",
    )
    return size


def _canvas(model, size, multiple):
    """The sides of the network's input."""
    canvas = tuple(-(-x // multiple) * multiple for x in size)
    taken = next(x for x in model.inputs if x.name == IMAGES).shape[1:3]
    if any(x not in (None, y) for x, y in zip(taken, canvas)):
        raise ValueError(
            f"The model {model.name!r} takes images of {taken[0]}x{taken[1]} "
            "pixels alone. Build its backbone with `input_shape=(None, None, "
            f"3)`, the default without top, for any. Received: {canvas[0]}x"
            f"{canvas[1]} pixels"
        )
    return canvas


def _found(model, view, canvas, size):
    """What the model returns for one image, without its batch."""
    images = np.zeros((1, *canvas, 3), "float32")
    images[0, : view.shape[0], : view.shape[1]] = view
    outputs = model.predict_on_batch(
        {
            IMAGES: images,
            SIZES: np.array([view.shape[:2]], "int32"),
            ORIGINAL_SIZES: np.array([size], "int32"),
        }
    )
    arrays = {k: keras.ops.convert_to_numpy(x)[0] for k, x in outputs.items()}
    is_there = arrays["classes"] >= 0
    return {name: x[is_there] for name, x in arrays.items()}


def _mirrored(found, width):
    """Boxes and masks of a mirrored image, as in the image itself."""
    x1, y1, x2, y2 = found["boxes"].T
    boxes = np.stack([width - x2, y1, width - x1, y2], axis=-1)
    masks = found["masks"][..., ::-1]
    return {**found, "boxes": boxes.astype("float32"), "masks": masks}


def _joined(model, found):
    """Of all views the best of what overlaps."""
    layer = model.get_layer(f"{model.prefix}detections")
    every = {key: np.concatenate([x[key] for x in found]) for key in found[0]}
    # Of one length whatever was found, or XLA would compile each time.
    missing = len(found) * layer.kept - len(every["scores"])
    boxes, scores, classes = (
        np.pad(every[key], [(0, missing)] + [(0, 0)] * (every[key].ndim - 1))
        for key in ("boxes", "scores", "classes")
    )
    kept = non_max_suppression(
        boxes, scores, layer.iou_threshold, layer.kept, classes
    )
    kept = keras.ops.convert_to_numpy(kept)
    kept = kept[(kept >= 0) & (kept < len(every["scores"]))]
    return {key: x[kept] for key, x in every.items()}


def as_record(names, found, score, size):
    """What is found in one image, as `Detections`.

    Args:
        names: of the classes, or `None`.
        found: dict of arrays: `boxes`, `scores`, `classes` and `masks`.
        score: what scores less is left out.
        size: height and width of the image.
    """
    chosen = found["scores"] >= score
    found = {name: x[chosen] for name, x in found.items()}
    return Detections(
        found["boxes"],
        found["scores"],
        found["classes"],
        tuple(names[x] if names else str(x) for x in found["classes"]),
        mask_functions.runs(found["masks"], found["boxes"], *size),
        tuple(size),
    )
