"""PIL's bicubic affine transforms in TensorFlow, number for number.

PIL interpolates with a cubic of its own, in float64, repeats the pixels at
the borders, fills where the source lies outside, and truncates to `uint8`.
"""

import math

import tensorflow as tf


def shear_x(image, slope, fill):
    height, width = _size(image)
    rows, columns = _centres(height), _centres(width)
    return _along_rows(image, columns + slope * rows[:, None], fill)


def translate_x(image, part, fill):
    _, width = _size(image)
    columns = _centres(width) + part * tf.cast(width, tf.float64)
    return _along_rows(image, columns[None], fill)


def _transposed(operation):
    def transposed(image, argument, fill):
        image = tf.transpose(image, (1, 0, 2))
        return tf.transpose(operation(image, argument, fill), (1, 0, 2))

    return transposed


shear_y = _transposed(shear_x)
translate_y = _transposed(translate_x)


def rotate(image, degrees, fill):
    """Counter-clockwise, around the centre."""
    height, width = _size(image)
    angle = -tf.math.floormod(degrees, 360.0) * (math.pi / 180)
    cos, sin = (_to_15_digits(f(angle)) for f in (tf.cos, tf.sin))
    middle_x, middle_y = (tf.cast(n, tf.float64) / 2 for n in (width, height))
    offset_x = cos * -middle_x + sin * -middle_y + middle_x
    offset_y = -sin * -middle_x + cos * -middle_y + middle_y
    x, y = _centres(width), _centres(height)[:, None]
    return _anywhere(
        image,
        cos * x + sin * y + offset_x,
        -sin * x + cos * y + offset_y,
        fill,
    )


def _size(image):
    return tf.unstack(tf.shape(image)[:2])


def _centres(length):
    return tf.range(tf.cast(length, tf.float64), dtype=tf.float64) + 0.5


def _to_15_digits(value):
    return tf.round(value * 1e15) / 1e15


def _along_rows(image, x, fill):
    """Pixels at the places `x`, `(height or 1, width)`, of their own row."""
    inside, first, fraction = _taps(x, tf.shape(image)[1])
    windows = _windows(image, 1)
    if x.shape[0] == 1:
        windows = tf.gather(windows, first[0], axis=1)
    else:
        windows = tf.gather(windows, first, axis=1, batch_dims=1)
    taps = tf.reshape(windows, (*_size(windows), 4, image.shape[-1]))
    return _finished(_cubic(taps, fraction[..., None]), inside, fill)


def _anywhere(image, x, y, fill):
    height, width = _size(image)
    inside_x, first_x, fraction_x = _taps(x, width)
    inside_y, first_y, fraction_y = _taps(y, height)
    windows = _windows(_windows(image, 1), 0)
    flat = tf.reshape(windows, (-1, windows.shape[-1]))
    windows = tf.gather(flat, first_y * (width + 1) + first_x)
    taps = tf.reshape(windows, (height, width, 4, 4, image.shape[-1]))
    rows = _cubic(taps, fraction_x[..., None, None])
    values = _cubic(rows, fraction_y[..., None])
    return _finished(values, inside_x & inside_y, fill)


def _taps(position, length):
    """Is it inside; the first of four neighbours; how far beyond the second.

    Neighbours are numbered from two pixels before the image.
    """
    inside = (position >= 0) & (position < tf.cast(length, tf.float64))
    position -= 0.5
    second = tf.floor(position)
    first = tf.clip_by_value(tf.cast(second, tf.int32) + 1, 0, length)
    return inside, first, position - second


def _windows(image, axis):
    """Every four neighbours along an axis, side by side in the channels."""
    length = tf.shape(image)[axis]
    places = tf.clip_by_value(tf.range(-2, length + 2), 0, length - 1)
    padded = tf.gather(image, places, axis=axis)
    if axis == 1:
        return tf.concat([padded[:, i : length + 1 + i] for i in range(4)], -1)
    return tf.concat([padded[i : length + 1 + i] for i in range(4)], -1)


def _cubic(taps, d):
    """Between the middle two of four, on the last axis but one."""
    if taps.dtype == tf.uint8:
        taps = tf.cast(taps, tf.int16)  # exact, and faster than float64
    v1, v2, v3, v4 = tf.unstack(taps, axis=-2)
    terms = (v2, v3 - v1, 2 * (v1 - v2) + v3 - v4, v2 - v1 - v3 + v4)
    p1, p2, p3, p4 = (tf.cast(term, tf.float64) for term in terms)
    return p1 + d * (p2 + d * (p3 + d * p4))


def _finished(values, inside, fill):
    values = tf.cast(tf.clip_by_value(values, 0, 255), tf.uint8)
    return tf.where(inside[..., None], values, fill)
