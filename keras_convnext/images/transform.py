"""Images as the published evaluations saw them, bit for bit."""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from keras_convnext._util.annotations import Array
from keras_convnext._util.annotations import Images
from keras_convnext._util.annotations import PathLike
from keras_convnext._util.ranges import Count
from keras_convnext._util.ranges import Finite
from keras_convnext._util.ranges import PartAboveZero
from keras_convnext._util.ranges import in_range
from keras_convnext.images.geometry import IMAGENET_MEAN
from keras_convnext.images.geometry import checked
from keras_convnext.images.geometry import resized_shape
from keras_convnext.images.reading import Photograph

RESAMPLING = {
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
}


@in_range
def load_image(
    source: PathLike | bytes | Image.Image | Array | Photograph,
    size: Count | tuple[Count, Count] = 224,
    crop_pct: PartAboveZero | None = None,
    mode: str | None = None,
    interpolation: str = "bicubic",
    apply_exif: bool = True,
    mean: Sequence[Finite] = IMAGENET_MEAN,
) -> Images:
    """Reads, resizes and crops one image: the official evaluation transform.

    Args:
        source: path, encoded bytes, `PIL.Image`, or `uint8` array
            `(height, width, 3)` or `(height, width)` of 0–255; or a
            `Photograph` of them.
        size: side of the result, or `(height, width)`.
        crop_pct: above 0 and at most 1: the image is resized to
            `floor(size / crop_pct)` before the crop. `None` is the official
            rule: below 384 pixels 0.875 and `"center"`, from there on 1 and
            `"squash"`.
        mode: `"center"` (resize the short side, crop the center), `"squash"`
            (resize both sides, losing the aspect ratio) or `"border"` (resize
            the long side, pad).
        interpolation: `"bicubic"` or `"bilinear"`, antialiased.
        apply_exif: whether to turn photographs upright. Published results
            ignore the orientation: pass `False` to repeat them.
        mean: three numbers of 0–1, the color of the padding of `"border"`.

    Returns:
        `uint8` array `(height, width, 3)` of 0–255, RGB. Other kinds of
        images are converted as by PIL's `convert("RGB")`: alpha is dropped,
        and ICC profiles are ignored, as timm does. Levels of 16 bits keep
        their upper byte; of animations the first image is read.

    Raises:
        ValueError: if the image cannot be read, with its name, and for
            arguments out of range.

    Source: equal to timm's `create_transform` before normalization, which for
    `"center"` is the ConvNeXt repository's below 384 pixels and for
    `"squash"` with `crop_pct=1.0` the one from there on.

    Examples:
        >>> keras_convnext.load_image(np.zeros((480, 640), "uint8")).shape
        (224, 224, 3)
    """
    image, goal, fill = _resized(
        source, size, crop_pct, mode, interpolation, apply_exif, mean
    )
    left, top = map(_start, image.size, goal[::-1])
    return _cropped(image, goal, left, top, fill)


def load_crops(
    source,
    size=224,
    crop_pct=None,
    mode=None,
    interpolation="bicubic",
    apply_exif=True,
    mean=IMAGENET_MEAN,
):
    """Five crops of one image: the one of `load_image`, and the corners.

    Args:
        source, size, crop_pct, mode, interpolation, apply_exif, mean: as for
            `load_image`; the resized image must hold the crops.

    Returns:
        `uint8` array `(5, height, width, 3)`: the center, then top left, top
        right, bottom left and bottom right.

    Source: equal to torchvision's `FiveCrop`, but for the order.
    """
    image, goal, fill = _resized(
        source, size, crop_pct, mode, interpolation, apply_exif, mean
    )
    right, bottom = image.width - goal[1], image.height - goal[0]
    left, top = map(_start, image.size, goal[::-1])
    corners = ((0, 0), (-right, 0), (0, -bottom), (-right, -bottom))
    return np.stack(
        [_cropped(image, goal, *x, fill) for x in ((left, top), *corners)]
    )


def _resized(source, size, crop_pct, mode, interpolation, apply_exif, mean):
    """A `PIL.Image` before the crop, the size after it, and the padding."""
    goal, crop_pct, mode, fill = checked(
        size, crop_pct, mode, interpolation, mean
    )
    if not isinstance(source, Photograph):
        source = Photograph(source, apply_exif)
    height, width = resized_shape(
        np, source.height, source.width, goal, crop_pct, mode
    )
    image = source.whole_resized(
        int(width), int(height), RESAMPLING[interpolation]
    )
    return image, goal, fill


def _cropped(image, size, left, top, fill):
    """The part of an image in a frame whose corner it begins at."""
    result = Image.new("RGB", size[::-1], fill)
    result.paste(image, (left, top))  # what lies outside is left out
    return np.array(result)


def _start(length, goal):
    """Where an image begins in the middle of another, along one axis."""
    if length < goal:
        return (goal - length) // 2
    return -round((length - goal) / 2)
