"""Images as the published evaluations saw them, bit for bit."""

import io
import math
import numbers
import os

import numpy as np
from PIL import Image
from PIL import ImageOps
from PIL import UnidentifiedImageError

from keras_convnext.arguments import one_of
from keras_convnext.preprocessing import IMAGENET_MEAN

MODES = ("center", "squash", "border")
INTERPOLATIONS = {
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
}


def load_image(
    source,
    size=224,
    crop_pct=0.875,
    mode="center",
    interpolation="bicubic",
    apply_exif=True,
    mean=IMAGENET_MEAN,
):
    """Reads, resizes and crops one image: the official evaluation transform.

    Args:
        source: path, encoded bytes, `PIL.Image`, or `uint8` array
            `(height, width, 3)` or `(height, width)` of 0–255.
        size: side of the result, or `(height, width)`.
        crop_pct: above 0 and at most 1: the image is resized to
            `floor(size / crop_pct)` before the crop.
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

    Example:

    >>> keras_convnext.load_image(np.zeros((480, 640), "uint8")).shape
    (224, 224, 3)
    """
    size, fill = _checked(size, crop_pct, mode, interpolation, mean)
    image = _read(source, apply_exif)
    height, width = _resized_shape(
        np, image.height, image.width, size, crop_pct, mode
    )
    image = image.resize(
        (int(width), int(height)), INTERPOLATIONS[interpolation]
    )
    return _crop_or_pad(np.asarray(image), size, fill)


def load_image_for(preprocessing, source, apply_exif=True):
    """Reads one image as `model.preprocessing` asks for.

    Args:
        preprocessing: a `Preprocessing`, for three channels.
        source, apply_exif: as for `load_image`.

    Returns:
        `uint8` array `(height, width, 3)` of 0–255: an input of the model,
        which normalises it, once it has a batch axis.

    Raises:
        ValueError: as `load_image`, and for other than three channels.

    Example:

    >>> image = keras_convnext.load_image_for(
    ...     model.preprocessing, "photograph.jpg"
    ... )  # doctest: +SKIP
    >>> model.predict(image[None])  # doctest: +SKIP
    """
    arguments = transform_arguments(preprocessing)
    return load_image(source, apply_exif=apply_exif, **arguments)


def tf_load_image(
    image,
    size=224,
    crop_pct=0.875,
    mode="center",
    interpolation="bicubic",
    mean=IMAGENET_MEAN,
):
    """`load_image` in TensorFlow operations, for `tf.data` and `tf.function`.

    Args:
        image: scalar string tensor, an encoded JPEG or PNG, whose EXIF
            orientation is ignored; or `uint8` tensor `(height, width, 3)` or
            `(height, width, 1)`, of static or dynamic size.
        size, crop_pct, mode, interpolation, mean: as for `load_image`.

    Returns:
        `uint8` tensor of static shape `(height, width, 3)`. Photographs differ
        from `load_image` by less than one grey level in the mean.

    Raises:
        ImportError: if TensorFlow is not installed.
        ValueError: for arguments out of range and tensors of other types.
            What cannot be decoded raises TensorFlow's `InvalidArgumentError`.

    Example:

    >>> files = tf.data.Dataset.list_files("*.jpg")  # doctest: +SKIP
    >>> images = files.map(tf.io.read_file).map(
    ...     keras_convnext.tf_load_image
    ... )  # doctest: +SKIP
    """
    tf = _tensorflow()
    size, fill = _checked(size, crop_pct, mode, interpolation, mean)
    image = tf.cast(_tf_decoded(tf, image), "float32")
    height, width = tf.unstack(tf.cast(tf.shape(image)[:2], "float64"))
    shape = _resized_shape(tf, height, width, size, crop_pct, mode)
    shape = [tf.cast(side, "int32") for side in shape]
    image = tf.image.resize(image, shape, interpolation, antialias=True)
    image = _tf_crop_or_pad(tf, image, size, fill)
    # Bicubic interpolation overshoots at edges.
    return tf.saturate_cast(tf.round(image), "uint8")


def transform_arguments(preprocessing):
    """Arguments of `load_image` and `tf_load_image` for a `Preprocessing`.

    Example:

    >>> arguments = keras_convnext.images.transform_arguments(
    ...     model.preprocessing
    ... )  # doctest: +SKIP
    >>> images = files.map(
    ...     lambda file: keras_convnext.tf_load_image(file, **arguments)
    ... )  # doctest: +SKIP
    """
    if len(preprocessing.mean) != 3:
        raise ValueError(
            "Images are loaded in RGB: expected the preprocessing of a model "
            "of three channels. Received: "
            f"mean={preprocessing.mean}. Load the images yourself"
        )
    return {
        "size": preprocessing.image_size,
        "crop_pct": preprocessing.crop_pct,
        "mode": preprocessing.crop_mode,
        "interpolation": preprocessing.interpolation,
        "mean": preprocessing.mean,
    }


def _checked(size, crop_pct, mode, interpolation, mean):
    """The size as a pair, and the colour of the padding."""
    one_of("mode", mode, MODES)
    one_of("interpolation", interpolation, INTERPOLATIONS)
    if not isinstance(crop_pct, numbers.Real) or not 0 < crop_pct <= 1:
        raise ValueError(
            "`crop_pct` must be a number above 0 and at most 1. Received: "
            f"crop_pct={crop_pct!r}"
        )
    pair = tuple(size) if isinstance(size, (tuple, list)) else (size, size)
    if len(pair) != 2 or not all(
        isinstance(side, numbers.Integral) and side > 0 for side in pair
    ):
        raise ValueError(
            "`size` must be a positive int or two of them, (height, width). "
            f"Received: size={size!r}"
        )
    if mode != "border":  # the others never pad
        return pair, (0, 0, 0)
    if len(mean) != 3 or not all(0 <= value <= 1 for value in mean):
        raise ValueError(
            "`mean` must hold three numbers of 0–1, the colour of the border. "
            f"Received: mean={mean!r}"
        )
    return pair, tuple(round(255 * value) for value in mean)


def _resized_shape(ops, height, width, size, crop_pct, mode):
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


def _tf_crop_or_pad(tf, image, size, fill):
    missing = tf.maximum(size - tf.shape(image)[:2], 0)
    before = missing // 2
    (top, left), (bottom, right) = (
        tf.unstack(side) for side in (before, missing - before)
    )
    # `tf.pad` knows one number for all channels only.
    image = tf.pad(image - fill, [[top, bottom], [left, right], [0, 0]]) + fill
    start = tf.cast(tf.round((tf.shape(image)[:2] - size) / 2), "int32")
    return tf.ensure_shape(
        tf.slice(image, [start[0], start[1], 0], [*size, 3]), (*size, 3)
    )


def _tf_decoded(tf, image):
    image = tf.convert_to_tensor(image)
    if image.dtype == tf.string:
        # Reads PNG too. The default DCT is faster, and not that of PIL.
        return tf.io.decode_jpeg(
            image, channels=3, dct_method="INTEGER_ACCURATE"
        )
    rank = image.shape.rank
    if image.dtype != tf.uint8 or rank not in (None, 3):
        raise ValueError(
            "Expected a string tensor or a uint8 tensor of shape (height, "
            f"width, 3). Received: {image.dtype.name} tensor of shape "
            f"{image.shape}. Convert the image, or `map` before `batch`"
        )
    if rank == 3 and image.shape[-1] == 1:
        return tf.repeat(image, 3, axis=-1)
    return tf.ensure_shape(image, (None, None, 3))


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
            f"image. Received: {_description(source)}, {_reason(error)}. Check "
            "that it is there, whole, and of a format that Pillow reads"
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


def _reason(error):
    if isinstance(error, FileNotFoundError):
        return "which does not exist"
    # Its message would name a buffer by its address.
    if isinstance(error, UnidentifiedImageError):
        return "which is not an image"
    return f"which cannot be read ({error})"


def _tensorflow():
    try:
        import tensorflow
    except ImportError as error:
        raise ImportError(
            "`tf_load_image` needs TensorFlow, which is not installed. Run "
            '`pip install "keras-convnext[tensorflow]"`, or use `load_image`.'
        ) from error
    return tensorflow
