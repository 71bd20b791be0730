"""Feature maps on other grids of pixels, as PyTorch computes them.

Bilinear resizing and adaptive pooling are linear, and do the same to every row
as to every column: each is a product with one matrix for each axis. The sizes
need not be known before the model runs, and every backend computes the same.
"""

import keras
import numpy as np
from keras import ops

from keras_convnext._util.serialization import register
from keras_convnext.layers import forms


def resized(x, height, width, rows=None):
    """`interpolate(x, (height, width), mode="bilinear")` of PyTorch.

    Half-pixel centers (`align_corners=False`), not antialiased.

    Args:
        x: float tensor `(batch, rows, columns, channels)`.
        height, width: ints, or on TensorFlow scalar tensors.
        rows: slice of those to compute, with start and stop; all if `None`.

    Returns:
        A tensor `(batch, height, width, channels)` of the same dtype.

    Examples:
        >>> x = keras.ops.reshape(keras.ops.arange(2.0), (1, 1, 2, 1))
        >>> [float(y) for y in resized(x, 1, 4)[0, 0, :, 0]]
        [0.0, 0.25, 0.75, 1.0]
    """
    count, columns = ops.shape(x)[1:3]
    down = _bilinear(count, height, x.dtype)
    if rows is not None:
        # With the neighbors that its first and its last row take part of.
        start = max((2 * rows.start + 1) * count // (2 * height) - 1, 0)
        stop = (2 * rows.stop - 1) * count // (2 * height) + 2
        down, x = down[rows, start:stop], x[:, start:stop]
    return _product(x, down, _bilinear(columns, width, x.dtype))


def pooled(x, height, width):
    """`adaptive_avg_pool2d(x, (height, width))` of PyTorch.

    Args:
        x: float tensor `(batch, rows, columns, channels)`.
        height, width: ints.

    Returns:
        A tensor `(batch, height, width, channels)` of the same dtype.

    Examples:
        >>> x = keras.ops.reshape(keras.ops.arange(3.0), (1, 1, 3, 1))
        >>> [float(y) for y in pooled(x, 1, 2)[0, 0, :, 0]]
        [0.5, 1.5]
    """
    rows, columns = ops.shape(x)[1:3]
    down, across = (
        _averaging(size, goal, x.dtype)
        for size, goal in ((rows, height), (columns, width))
    )
    return _product(x, down, across)


def _product(x, down, across):
    x = down @ ops.transpose(x, (0, 2, 1, 3))
    return across @ ops.transpose(x, (0, 2, 1, 3))


def _bilinear(size, goal, dtype):
    """A matrix `(goal, size)`: what each new pixel takes of each old one.

    Positions are counted in steps so small that all are whole numbers: `2 *
    goal` of them are one old pixel.
    """
    pixel = 2 * goal
    centers = (2 * _numbers(goal) + 1) * size - goal
    centers = ops.clip(centers, 0, (size - 1) * pixel)
    distances = ops.abs(centers[:, None] - _numbers(size)[None] * pixel)
    weights = ops.maximum(pixel - distances, 0)
    return ops.cast(weights, dtype) / ops.cast(pixel, dtype)


def _averaging(size, goal, dtype):
    """A matrix `(goal, size)`: each cell is the mean of the pixels that it
    touches. Cells overlap where `goal` does not divide `size`."""
    cells = _numbers(goal)
    starts = cells * size // goal
    ends = ((cells + 1) * size + goal - 1) // goal
    pixels = _numbers(size)[None]
    inside = (pixels >= starts[:, None]) & (pixels < ends[:, None])
    counts = ops.cast(ends - starts, dtype)
    return ops.cast(inside, dtype) / counts[:, None]


def _numbers(count):
    return ops.arange(0, count, dtype="int32")


@register
class BilinearResize(keras.layers.Layer):
    """Resizes a map to the height and width of another tensor.

    Call arguments:
        inputs: pair of a float tensor `(batch, height, width, channels)`, and
            a tensor `(batch, height, width, …)` of the wanted size.

    Returns:
        The first one in the size of the second: bilinear, with half-pixel
        centers, not antialiased.

    Examples:
        >>> layer = keras_convnext.segmentation.resampling.BilinearResize()
        >>> maps, like = np.ones((1, 2, 3, 5)), np.ones((1, 7, 8, 1))
        >>> keras.ops.shape(layer([maps, like]))
        (1, 7, 8, 5)
    """

    def call(self, inputs):
        x, like = inputs
        height, width = ops.shape(like)[1:3]
        return resized(x, height, width)

    def compute_output_shape(self, input_shape):
        shape, like = input_shape
        return (shape[0], *like[1:3], shape[3])

    # Without one of its own a layer with a dtype policy cannot be saved.
    def get_config(self):
        return super().get_config()


@register
class GridAveragePooling(keras.layers.Layer):
    """Means over the cells of a square grid, on maps of any size.

    PyTorch's `AdaptiveAvgPool2d`; Keras' layer of this kind takes maps of
    known sizes alone.

    Args:
        size: cells along each side.
        **kwargs: `name`, `dtype` and so on.

    Call arguments:
        inputs: float tensor `(batch, height, width, channels)`.

    Returns:
        A tensor `(batch, size, size, channels)`.

    Examples:
        >>> layer = keras_convnext.segmentation.resampling.GridAveragePooling(3)
        >>> keras.ops.shape(layer(keras.ops.ones((1, 8, 5, 4))))
        (1, 3, 3, 4)
    """

    def __init__(self, size, **kwargs):
        super().__init__(**kwargs)
        self.size = size

    def call(self, inputs):
        return pooled(inputs, self.size, self.size)

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self.size, self.size, input_shape[3])

    def get_config(self):
        return {**super().get_config(), "size": self.size}


def _onnx_resize(g, layer, inputs):
    x, like = inputs
    x = g.add("Transpose", x, perm=(0, 3, 1, 2))
    kept = g.add("Shape", x, end=2)
    sides = g.add("Shape", like, start=1, end=3)
    x = g.add(
        "Resize",
        x,
        "",
        "",
        g.add("Concat", kept, sides, axis=0),
        mode="linear",
        coordinate_transformation_mode="half_pixel",
    )
    return g.add("Transpose", x, perm=(0, 2, 3, 1), name=layer.name)


def _onnx_pool(g, layer, x):
    """`_averaging` and `_product`, of sizes that the graph reads itself."""
    for axis in (1, 2):
        size = g.add("Shape", x, start=1, end=2)
        cells = np.arange(layer.size)
        starts = g.add("Div", g.add("Mul", size, cells), layer.size)
        ends = g.add("Mul", size, cells + 1)
        ends = g.add("Add", ends, layer.size - 1)
        ends = g.add("Div", ends, layer.size)
        starts, ends = (g.add("Unsqueeze", e, [1]) for e in (starts, ends))
        pixels = g.add("Range", 0, g.add("Squeeze", size), 1)
        inside = g.add(
            "And",
            g.add("GreaterOrEqual", pixels, starts),
            g.add("Less", pixels, ends),
        )
        counts = g.cast(g.add("Sub", ends, starts), "float32")
        matrix = g.add("Div", g.cast(inside, "float32"), counts)
        x = g.add("Transpose", x, perm=(0, 2, 1, 3))
        name = layer.name if axis == 2 else None
        x = g.add("MatMul", matrix, x, name=name)
    return x


forms.add(BilinearResize, onnx=_onnx_resize)
forms.add(GridAveragePooling, onnx=_onnx_pool)
