"""Global response normalization, the layer that ConvNeXt V2 adds."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_convnext._util.annotations import Tensor
from keras_convnext._util.ranges import Positive
from keras_convnext._util.ranges import in_range
from keras_convnext._util.serialization import register
from keras_convnext.layers import forms
from keras_convnext.layers import torch_functions
from keras_convnext.layers.arithmetic import at_least_float32
from keras_convnext.layers.arithmetic import mean


@register
class GlobalResponseNormalization(keras.layers.Layer):
    """Global response normalization of ConvNeXt V2 (arXiv:2301.00808 §4).

    With `g` the Frobenius norm of each channel over height and width, and `n`
    = `g` / (mean of `g` over the channels + epsilon), returns
    `gamma * (x * n) + beta + x`. The norms are taken in at least float32.

    Args:
        epsilon: float, added to the mean of the norms.
        **kwargs: `name`, `dtype` and so on.

    Call arguments:
        inputs: float tensor `(batch, height, width, channels)`.

    Returns:
        A tensor of the same shape and dtype.

    Examples:
        >>> layer = keras_convnext.layers.GlobalResponseNormalization()
        >>> keras.ops.shape(layer(keras.ops.ones((1, 8, 8, 4))))
        (1, 8, 8, 4)
    """

    @in_range
    def __init__(self, epsilon: Positive = 1e-6, **kwargs: Any):
        super().__init__(**kwargs)
        self.epsilon = epsilon

    def build(self, input_shape):
        shape = input_shape[-1:]
        self.gamma = self.add_weight(shape, "zeros", name="gamma")
        self.beta = self.add_weight(shape, "zeros", name="beta")

    def call(self, inputs):
        scale = self.scale(inputs)
        if keras.backend.backend() == "torch":
            return torch_functions.multiply_add(inputs, scale, self.beta)
        return inputs * scale + self.beta

    def scale(self, inputs: Tensor) -> Tensor:
        """The factors of `call`: `(batch, 1, 1, channels)`."""
        x = ops.cast(inputs, at_least_float32(self.compute_dtype))
        if keras.backend.backend() == "torch":
            energy = torch_functions.sum_of_squares(x)
        else:
            energy = ops.sum(ops.square(x), axis=(1, 2), keepdims=True)
        # The slope of the root at zero is infinite: a channel without energy
        # takes the root of one instead, and a norm and gradient of zero.
        alive = energy > 0
        root = ops.sqrt(ops.where(alive, energy, ops.ones_like(energy)))
        norms = ops.where(alive, root, ops.zeros_like(root))
        response = norms / (mean(norms, -1) + self.epsilon)
        scale = 1 + ops.cast(self.gamma, response.dtype) * response
        return ops.cast(scale, self.compute_dtype)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "epsilon": self.epsilon}


def _onnx(g, layer, x):
    norms = g.add("ReduceL2", x, [1, 2])
    mean = g.add("ReduceMean", norms, [-1])
    response = g.add(
        "Div", norms, g.add("Add", mean, np.float32(layer.epsilon))
    )
    scale = g.add("Mul", response, g.weight(layer, "gamma"))
    scaled = g.add("Mul", x, g.add("Add", scale, np.float32(1)))
    return g.add("Add", scaled, g.weight(layer, "beta"), name=layer.name)


def _torch_into(layer, inputs):
    scale = layer.scale(inputs)
    return torch_functions.multiply_add(inputs, scale, layer.beta, out=inputs)


def _tensorflow(layer, x):
    """Without the guard of gradients, which nobody takes here."""
    energy = ops.sum(ops.square(x), axis=(1, 2), keepdims=True)
    norms = ops.sqrt(energy)
    mean = ops.mean(norms, -1, keepdims=True)
    response = norms / (mean + layer.epsilon)
    return x * (layer.gamma * response + 1.0) + layer.beta


forms.add(
    GlobalResponseNormalization,
    variables=("gamma", "beta"),
    onnx=_onnx,
    torch=forms.call,
    torch_into=_torch_into,
    tensorflow=_tensorflow,
)
