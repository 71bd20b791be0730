"""The operations of RandAugment in TensorFlow, equal to Pillow's.

Imported when a TensorFlow tensor is to be worked on, and not before.
"""

import tensorflow as tf

from keras_convnext.data.augmentation import tf_geometry
from keras_convnext.data.augmentation.operations import MAXIMUM
from keras_convnext.data.augmentation.operations import OPERATIONS


def apply_operation(image, name, magnitude, sign=1, fill=(124, 116, 104)):
    """One operation at one magnitude.

    Args:
        image: `uint8` tensor `(height, width, 3)` or `(height, width, 1)`, of
            static or dynamic size.
        name: a key of `OPERATIONS`.
        magnitude: float or tensor of 0–10.
        sign: 1 or -1, for operations that have a direction.
        fill: one grey level per channel, for what comes from outside.

    Returns:
        `uint8` tensor of the same shape: that of timm's operation.

    Examples:
        >>> image = tf.zeros((2, 2, 1), "uint8")
        >>> keras_convnext.data.augmentation.tf_operations.apply_operation(
        ...     image, "Invert", 9
        ... ).numpy()[0, 0]
        array([255], dtype=uint8)
    """
    level, sign = _float64(magnitude) / MAXIMUM, _float64(sign)
    argument = OPERATIONS[name](level, sign)
    result = FUNCTIONS[name](image, argument, tf.constant(fill, tf.uint8))
    return tf.ensure_shape(result, image.shape)


def _float64(value):
    # A cast alone would make a float32 of a Python float.
    tensor = tf.convert_to_tensor(value, dtype_hint=tf.float64)
    return tf.cast(tensor, tf.float64)


# Point operations: a table of the 256 grey levels.


def _levels(dtype):
    return tf.range(256, dtype=dtype)


def _mapped(image, table):
    """Looks up `table` of 256 numbers, or of `(channels, 256)`."""
    # Casts of what is out of range are undefined, and PIL clips.
    table = tf.cast(tf.clip_by_value(table, 0, 255), tf.uint8)
    index = tf.cast(image, tf.int32)
    if table.shape.rank == 2:
        index += 256 * tf.range(image.shape[-1])
    return tf.gather(tf.reshape(table, (-1,)), index)


def _auto_contrast(image, _, fill):
    low = tf.cast(tf.reduce_min(image, (0, 1)), tf.float64)[:, None]
    high = tf.cast(tf.reduce_max(image, (0, 1)), tf.float64)[:, None]
    levels = _levels(tf.float64)
    scale = 255.0 / tf.maximum(high - low, 1)
    table = levels * scale + -low * scale
    return _mapped(image, tf.where(high > low, table, levels))


def _equalize(image, _, fill):
    channels = image.shape[-1]
    index = tf.cast(image, tf.int32) + 256 * tf.range(channels)
    size = 256 * channels
    histogram = tf.math.bincount(index, minlength=size, maxlength=size)
    histogram = tf.reshape(histogram, (channels, 256))
    levels = _levels(tf.int32)
    last = tf.reduce_max(tf.where(histogram > 0, levels, 0), 1)[:, None]
    below = tf.where(levels < last, histogram, 0)
    step = tf.reduce_sum(below, 1, keepdims=True) // 255
    before = tf.cumsum(histogram, axis=1, exclusive=True)
    table = (step // 2 + before) // tf.maximum(step, 1)
    return _mapped(image, tf.where(step > 0, table, levels))


def _posterize(image, bits, fill):
    step = tf.cast(2.0 ** (8.0 - bits), tf.int32)
    levels = _levels(tf.int32)
    return _mapped(image, levels - levels % step)


def _solarize(image, threshold, fill):
    levels = _levels(tf.int32)
    kept = levels < tf.cast(threshold, tf.int32)
    return _mapped(image, tf.where(kept, levels, 255 - levels))


def _solarize_add(image, amount, fill):
    levels = _levels(tf.int32)
    added = levels + tf.cast(amount, tf.int32)
    return _mapped(image, tf.where(levels < 128, added, levels))


# Enhancements: the image, blended with a degenerate one.


def _blend(degenerate, image, factor):
    factor = tf.cast(factor, tf.float32)
    return degenerate + factor * (image - degenerate)


def _truncated(image):
    return tf.cast(tf.clip_by_value(image, 0.0, 255.0), tf.uint8)


def _grey(image):
    """PIL's luma, `(height, width, 1)` of int32."""
    image = tf.cast(image, tf.int32)
    if image.shape[-1] == 1:
        return image
    weighted = tf.reduce_sum(image * (19595, 38470, 7471), -1, keepdims=True)
    return (weighted + 32768) // 65536


def _color(image, factor, fill):
    grey = tf.cast(_grey(image), tf.float32)
    return _truncated(_blend(grey, tf.cast(image, tf.float32), factor))


def _contrast(image, factor, fill):
    mean = tf.reduce_mean(tf.cast(_grey(image), tf.float64))
    mean = tf.cast(tf.floor(mean + 0.5), tf.float32)
    return _mapped(image, _blend(mean, _levels(tf.float32), factor))


def _brightness(image, factor, fill):
    return _mapped(image, _blend(0.0, _levels(tf.float32), factor))


def _sharpness(image, factor, fill):
    pixels = tf.cast(image, tf.int32)
    height, width = tf.unstack(tf.shape(image)[:2])
    rows = tf.pad(pixels, [[1, 1], [0, 0], [0, 0]])
    rows = rows[:-2] + rows[1:-1] + rows[2:]
    sums = tf.pad(rows, [[0, 0], [1, 1], [0, 0]])
    sums = sums[:, :-2] + sums[:, 1:-1] + sums[:, 2:] + 4 * pixels
    # A thirteenth, rounded.
    smooth = (2 * sums + 13) // 26
    is_inner = _inner(height)[:, None] & _inner(width)
    smooth = tf.where(is_inner[..., None], smooth, pixels)
    blended = _blend(
        tf.cast(smooth, tf.float32), tf.cast(pixels, tf.float32), factor
    )
    return _truncated(blended)


def _inner(length):
    positions = tf.range(length)
    return (positions > 0) & (positions < length - 1)


FUNCTIONS = {
    "AutoContrast": _auto_contrast,
    "Equalize": _equalize,
    "Invert": lambda image, _, fill: 255 - image,
    "Rotate": tf_geometry.rotate,
    "PosterizeIncreasing": _posterize,
    "SolarizeIncreasing": _solarize,
    "SolarizeAdd": _solarize_add,
    "ColorIncreasing": _color,
    "ContrastIncreasing": _contrast,
    "BrightnessIncreasing": _brightness,
    "SharpnessIncreasing": _sharpness,
    "ShearX": tf_geometry.shear_x,
    "ShearY": tf_geometry.shear_y,
    "TranslateXRel": tf_geometry.translate_x,
    "TranslateYRel": tf_geometry.translate_y,
}
