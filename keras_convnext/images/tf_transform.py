"""The evaluation transform in TensorFlow operations, for `tf.data`."""

from collections.abc import Sequence

from keras_convnext._util.annotations import Tensor
from keras_convnext._util.ranges import Count
from keras_convnext._util.ranges import Finite
from keras_convnext._util.ranges import PartAboveZero
from keras_convnext._util.ranges import in_range
from keras_convnext._util.requirements import require
from keras_convnext.images.geometry import IMAGENET_MEAN
from keras_convnext.images.geometry import checked
from keras_convnext.images.geometry import resized_shape


@in_range
def tf_load_image(
    image: Tensor,
    size: Count | tuple[Count, Count] = 224,
    crop_pct: PartAboveZero | None = None,
    mode: str | None = None,
    interpolation: str = "bicubic",
    mean: Sequence[Finite] = IMAGENET_MEAN,
) -> Tensor:
    """`load_image` in TensorFlow operations, for `tf.data` and `tf.function`.

    Args:
        image: scalar string tensor, an encoded JPEG or PNG, whose EXIF
            orientation is ignored; or `uint8` tensor `(height, width, 3)` or
            `(height, width, 1)`, of static or dynamic size.
        size, crop_pct, mode, interpolation, mean: as for `load_image`.

    Returns:
        `uint8` tensor of static shape `(height, width, 3)`. Photographs differ
        from `load_image` by less than one gray level in the mean.

    Raises:
        ImportError: if TensorFlow is not installed.
        ValueError: for arguments out of range and tensors of other types.
            An image that cannot be decoded raises TensorFlow's
            `InvalidArgumentError`.

    Examples:
        >>> files = tf.data.Dataset.list_files("*.jpg")  # doctest: +SKIP
        >>> images = files.map(tf.io.read_file).map(
        ...     keras_convnext.tf_load_image
        ... )  # doctest: +SKIP
    """
    tf = require("tensorflow", "`tf_load_image`", "use `load_image`")
    size, crop_pct, mode, fill = checked(
        size, crop_pct, mode, interpolation, mean
    )
    image = tf.cast(_tf_decoded(tf, image), "float32")
    height, width = tf.unstack(tf.cast(tf.shape(image)[:2], "float64"))
    shape = resized_shape(tf, height, width, size, crop_pct, mode)
    shape = [tf.cast(side, "int32") for side in shape]
    image = tf.image.resize(image, shape, interpolation, antialias=True)
    image = _tf_crop_or_pad(tf, image, size, fill)
    # Bicubic interpolation overshoots at edges.
    return tf.saturate_cast(tf.round(image), "uint8")


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
        # Reads PNG too, in all modes and depths as PIL does. WebP it reads
        # with an axis more, which no resize takes. The default DCT is faster,
        # and not that of PIL.
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
