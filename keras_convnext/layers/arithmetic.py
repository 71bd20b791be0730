"""Means, limits and dtypes that keep their digits.

Keras 3.15 rounds float64 to float32 in `ops.mean`, `ops.floor` (JAX and torch)
and `ops.maximum` (torch).
"""

import keras
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


def maximum(a, b):
    """`ops.maximum` of a tensor and another or a number."""
    return _limit("maximum", a, b)


def minimum(a, b):
    """`ops.minimum` of a tensor and another or a number."""
    return _limit("minimum", a, b)


def floor(x):
    """`ops.floor` of a tensor."""
    return x // 1.0 if _is_double(x) else ops.floor(x)


def _limit(name, a, b):
    if keras.backend.backend() == "torch" and _is_double(a):
        import torch

        return getattr(torch, name)(a, torch.as_tensor(b, dtype=a.dtype))
    return getattr(ops, name)(a, b)


def _is_double(x):
    return keras.backend.standardize_dtype(x.dtype) == "float64"
