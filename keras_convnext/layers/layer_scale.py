"""A learned factor for each channel."""

from typing import Any

import keras

from keras_convnext._util.ranges import Finite
from keras_convnext._util.ranges import in_range
from keras_convnext._util.serialization import register
from keras_convnext.layers import forms


@register
class LayerScale(keras.layers.Layer):
    """Multiplies every channel by a learned factor (arXiv:2103.17239).

    Args:
        initial_value: float, the value that every factor starts from.
        **kwargs: `name`, `dtype` and so on.

    Call arguments:
        inputs: float tensor `(..., channels)`.

    Returns:
        A tensor of the same shape and dtype.

    Examples:
        >>> layer = keras_convnext.layers.LayerScale(0.5)
        >>> float(layer(keras.ops.ones((1, 2, 2, 3)))[0, 0, 0, 0])
        0.5
    """  # noqa: E501

    @in_range
    def __init__(self, initial_value: Finite = 1e-6, **kwargs: Any):
        super().__init__(**kwargs)
        self.initial_value = initial_value

    def build(self, input_shape):
        start = keras.initializers.Constant(self.initial_value)
        self.gamma = self.add_weight(input_shape[-1:], start, name="gamma")

    def call(self, inputs):
        return inputs * self.gamma

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "initial_value": self.initial_value}


def _onnx(g, layer, x):
    return g.add("Mul", x, g.weight(layer, "gamma"), name=layer.name)


forms.add(
    LayerScale,
    variables=("gamma",),
    onnx=_onnx,
    torch=lambda layer, inputs: inputs * layer.gamma.value,
    torch_into=lambda layer, inputs: inputs.mul_(layer.gamma.value),
)
