"""Means and dtypes that keep their digits."""

from keras import ops


def mean(x, axis):
    """Mean over `axis`, kept as axes of size 1, in the dtype of `x`."""
    axes = axis if isinstance(axis, tuple) else (axis,)
    total = ops.sum(x, axis=axis, keepdims=True)
    size = 1
    for axis in axes:
        size = size * ops.shape(x)[axis]
    return total / ops.cast(size, x.dtype)


def at_least_float32(dtype):
    return "float32" if dtype in ("float16", "bfloat16") else dtype
