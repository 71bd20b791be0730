"""Normalization over the channels, in the three forms that ConvNeXts have.

Like the layers of `plain.py` they keep float64.
"""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_convnext._util.ranges import Positive
from keras_convnext._util.ranges import in_range
from keras_convnext._util.serialization import register
from keras_convnext.layers import forms
from keras_convnext.layers import jax_functions
from keras_convnext.layers import torch_functions
from keras_convnext.layers.arithmetic import at_least_float32
from keras_convnext.layers.arithmetic import mean


@register
class LayerNormalization(keras.layers.LayerNormalization):
    """`keras.layers.LayerNormalization` that keeps float64."""

    def call(self, inputs):
        if (
            self.dtype_policy.name == "float32"
            and jax_functions.target() == "cpu"
        ):
            return jax_functions.layer_normalization(
                inputs,
                ops.convert_to_tensor(self.gamma),
                ops.convert_to_tensor(self.beta),
                self.epsilon,
            )
        is_float64 = self.compute_dtype == "float64"
        if keras.backend.backend() == "torch" and not is_float64:
            return torch_functions.layer_normalization(
                inputs, self.gamma, self.beta, self.epsilon
            )
        if self.compute_dtype != "float64":
            return super().call(inputs)
        centered = inputs - mean(inputs, -1)
        variance = mean(ops.square(centered), -1)
        scaled = centered * ops.rsqrt(variance + self.epsilon) * self.gamma
        return scaled + self.beta


@register
class RMSNormalization(keras.layers.RMSNormalization):
    """`keras.layers.RMSNormalization` that keeps float64."""

    def call(self, inputs):
        # ONNX has no word for PyTorch's own.
        is_recorded = (
            keras.backend.backend() == "torch"
            and torch_functions.is_recorded()
            and self.compute_dtype == "float32"
        )
        if self.compute_dtype != "float64" and not is_recorded:
            return super().call(inputs)
        energy = mean(ops.square(inputs), -1)
        return inputs * ops.rsqrt(energy + self.epsilon) * self.scale


@register
class SimpleNormalization(keras.layers.Layer):
    """Divides by the unbiased standard deviation over the channels.

    timm's `SimpleNorm`: `x * rsqrt(var(x) + epsilon) * gamma`, without
    subtracting the mean, the variance divided by `channels - 1`.

    Args:
        epsilon: float, added to the variance.
        **kwargs: `name`, `dtype` and so on.

    Call arguments:
        inputs: float tensor `(..., channels)`.

    Returns:
        A tensor of the same shape and dtype.

    Examples:
        >>> layer = keras_convnext.layers.SimpleNormalization()
        >>> keras.ops.shape(layer(keras.ops.ones((1, 8, 8, 4))))
        (1, 8, 8, 4)
    """

    @in_range
    def __init__(self, epsilon: Positive = 1e-6, **kwargs: Any):
        super().__init__(**kwargs)
        self.epsilon = epsilon

    def build(self, input_shape):
        self.channels = input_shape[-1]
        self.gamma = self.add_weight((self.channels,), "ones", name="gamma")

    def call(self, inputs):
        x = ops.cast(inputs, at_least_float32(self.compute_dtype))
        deviations = x - mean(x, -1)
        squares = ops.sum(ops.square(deviations), axis=-1, keepdims=True)
        variance = squares / (self.channels - 1)
        outputs = x * ops.rsqrt(variance + self.epsilon)
        return ops.cast(outputs, self.compute_dtype) * self.gamma

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "epsilon": self.epsilon}


def _onnx_layer_norm(g, layer, x):
    axis = layer.get_config()["axis"]
    # Keras 3.16 counts from the front once the layer is built.
    last = len(layer.get_build_config()["input_shape"]) - 1
    is_last = axis in (-1, [-1], last, [last])
    if not is_last or not layer.center or not layer.scale:
        raise forms.unknown_in_onnx(layer, f"with {axis=}, or not affine")
    scale, shift = g.weight(layer, "gamma"), g.weight(layer, "beta")
    return g.add(
        "LayerNormalization",
        x,
        scale,
        shift,
        name=layer.name,
        axis=-1,
        epsilon=layer.epsilon,
    )


def _onnx_rms_norm(g, layer, x):
    energy = g.add("ReduceMean", g.add("Mul", x, x), [-1])
    return _onnx_divided(g, layer, x, energy, g.weight(layer, "scale"))


def _onnx_simple_norm(g, layer, x):
    deviations = g.add("Sub", x, g.add("ReduceMean", x, [-1]))
    squares = g.add("ReduceSumSquare", deviations, [-1])
    variance = g.add("Div", squares, np.float32(layer.channels - 1))
    return _onnx_divided(g, layer, x, variance, g.weight(layer, "gamma"))


def _onnx_divided(g, layer, x, square, scale):
    root = g.add("Sqrt", g.add("Add", square, np.float32(layer.epsilon)))
    return g.add("Mul", g.add("Div", x, root), scale)


def _torch_layer_norm(layer, inputs):
    from torch.nn import functional

    return functional.layer_norm(
        inputs,
        inputs.shape[-1:],
        layer.gamma.value,
        layer.beta.value,
        layer.epsilon,
    )


def _tensorflow_layer_norm(layer, x):
    centered = x - ops.mean(x, -1, keepdims=True)
    # Not `ops.square`: the converter would subtract the mean twice.
    variance = ops.mean(centered * centered, -1, keepdims=True)
    return centered * ops.rsqrt(variance + layer.epsilon) * layer.gamma + (
        layer.beta
    )


forms.add(
    LayerNormalization,
    variables=("gamma", "beta"),
    onnx=_onnx_layer_norm,
    torch=_torch_layer_norm,
    tensorflow=_tensorflow_layer_norm,
)
forms.add(
    keras.layers.LayerNormalization,
    variables=("gamma", "beta"),
    onnx=_onnx_layer_norm,
)
forms.add(
    RMSNormalization,
    variables=("scale",),
    onnx=_onnx_rms_norm,
    torch=forms.call,
)
forms.add(
    SimpleNormalization,
    variables=("gamma",),
    onnx=_onnx_simple_norm,
    torch=forms.call,
)
