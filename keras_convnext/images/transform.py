"""Images as the published evaluations saw them, bit for bit."""

import io
import os
from collections.abc import Sequence

import numpy as np
from PIL import Image
from PIL import ImageOps
from PIL import UnidentifiedImageError

from keras_convnext._util.annotations import Array
from keras_convnext._util.annotations import Images
from keras_convnext._util.annotations import PathLike
from keras_convnext.images.geometry import IMAGENET_MEAN
from keras_convnext.images.geometry import checked
from keras_convnext.images.geometry import resized_shape

RESAMPLING = {
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
}
SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")


def load_image(
    source: PathLike | bytes | Image.Image | Array,
    size: int | tuple[int, int] = 224,
    crop_pct: float | None = None,
    mode: str | None = None,
    interpolation: str = "bicubic",
    apply_exif: bool = True,
    mean: Sequence[float] = IMAGENET_MEAN,
) -> Images:
    """Reads, resizes and crops one image: the official evaluation transform.

    Args:
        source: path, encoded bytes, `PIL.Image`, or `uint8` array
            `(height, width, 3)` or `(height, width)` of 0–255.
        size: side of the result, or `(height, width)`.
        crop_pct: above 0 and at most 1: the image is resized to
            `floor(size / crop_pct)` before the crop. `None` is the official
            rule: below 384 pixels 0.875 and `"center"`, from there on 1 and
            `"squash"`.
        mode: `"center"` (resize the short side, crop the centre), `"squash"`
            (resize both sides, losing the aspect ratio) or `"border"` (resize
            the long side, pad).
        interpolation: `"bicubic"` or `"bilinear"`, antialiased.
        apply_exif: whether to turn photographs upright. Published results
            ignore the orientation: pass `False` to repeat them.
        mean: three numbers of 0–1, the colour of the padding of `"border"`.

    Returns:
        `uint8` array `(height, width, 3)` of 0–255, RGB. Other kinds of
        images are converted as by PIL's `convert("RGB")`: alpha is dropped.

    Raises:
        ValueError: if the image cannot be read, with its name, and for
            arguments out of range.

    Source: equal to timm's `create_transform` before normalisation, which for
    `"center"` is the ConvNeXt repository's below 384 pixels and for
    `"squash"` with `crop_pct=1.0` the one from there on.

    Examples:
        >>> keras_convnext.load_image(np.zeros((480, 640), "uint8")).shape
        (224, 224, 3)
    """
    size, crop_pct, mode, fill = checked(
        size, crop_pct, mode, interpolation, mean
    )
    image = _read(source, apply_exif)
    height, width = resized_shape(
        np, image.height, image.width, size, crop_pct, mode
    )
    image = image.resize((int(width), int(height)), RESAMPLING[interpolation])
    return _crop_or_pad(np.asarray(image), size, fill)


def _crop_or_pad(image, size, fill):
    result = np.empty((*size, 3), "uint8")
    result[:] = fill
    (rows, to_rows), (columns, to_columns) = (
        _overlap(length, goal) for length, goal in zip(image.shape, size)
    )
    result[to_rows, to_columns] = image[rows, columns]
    return result


def _overlap(length, goal):
    """Which pixels to take, and where to put them, along one axis."""
    if length < goal:
        start = (goal - length) // 2
        return slice(length), slice(start, start + length)
    start = round((length - goal) / 2)
    return slice(start, start + goal), slice(goal)


def _read(source, apply_exif):
    """A `PIL.Image` in RGB; whatever is wrong with it is a `ValueError`."""
    if isinstance(source, np.ndarray):
        return Image.fromarray(_checked_array(source)).convert("RGB")
    try:
        if isinstance(source, Image.Image):
            return _rgb(source, apply_exif)
        is_encoded = isinstance(source, bytes)
        file = io.BytesIO(source) if is_encoded else os.fspath(source)
        with Image.open(file) as image:
            return _rgb(image, apply_exif)
    # Broken files end in anything: SyntaxError, EOFError, struct.error …
    except Exception as error:
        raise ValueError(
            "Expected a path, bytes, PIL image or uint8 array that holds an "
            f"image. Received: {_description(source)}, "
            f"{why_unreadable(error)}. Check that it is there, whole, and of "
            "a format that Pillow reads"
        ) from error


def _rgb(image, apply_exif):
    if apply_exif:
        image = ImageOps.exif_transpose(image)
    if 0 in image.size:
        raise ValueError("which has no pixels")
    return image.convert("RGB")


def _checked_array(array):
    is_image = array.ndim >= 2 and array.shape[2:] in ((), (3,))
    if array.dtype != "uint8" or not is_image or 0 in array.shape:
        raise ValueError(
            "Expected a uint8 array of shape (height, width, 3) or (height, "
            f"width). Received: {array.dtype} array of shape {array.shape}. "
            "Scale it to 0–255, convert it, and drop any alpha"
        )
    return array


def _description(source):
    if isinstance(source, bytes):
        return f"bytes of length {len(source)}"
    if isinstance(source, (str, os.PathLike)):
        return repr(os.fspath(source))
    return f"source of type {type(source).__name__}"


def why_unreadable(error):
    """What a message says of a file after its name and a comma."""
    if isinstance(error, FileNotFoundError):
        return "which does not exist"
    # Its message would name a buffer by its address.
    if isinstance(error, UnidentifiedImageError):
        return "which is not an image"
    return f"which cannot be read ({error})"


def images_below(path):
    """Paths of all images in a folder and below it, sorted; a file is one."""
    if not path.is_dir():
        return [path]
    return sorted(
        below
        for below in path.rglob("*")
        if below.suffix.lower() in SUFFIXES and below.is_file()
    )
