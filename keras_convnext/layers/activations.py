"""The two GELUs."""

import math

import keras
from keras import ops

from keras_convnext._util.annotations import Tensor
from keras_convnext._util.serialization import register
from keras_convnext.layers import forms
from keras_convnext.layers import jax_functions


@register
def gelu(x):
    """The exact GELU; TensorFlow's rounds √2 to float32, also in float64."""
    if keras.backend.standardize_dtype(x.dtype) == "float64":
        return 0.5 * x * (1.0 + ops.erf(x * math.sqrt(0.5)))
    if jax_functions.target() == "cpu" and not isinstance(x, keras.KerasTensor):
        return jax_functions.exact_gelu()(x)
    return keras.activations.gelu(x)


@register
def gelu_tanh(x: Tensor) -> Tensor:
    """GELU in its tanh approximation (timm's `test_convnext` models)."""
    return keras.activations.gelu(x, approximate=True)


forms.ACTIVATIONS[gelu] = forms.onnx_operation("Gelu")
forms.ACTIVATIONS[gelu_tanh] = forms.onnx_operation("Gelu", approximate="tanh")


def _torch(layer, inputs):
    from torch.nn import functional

    if layer.activation is gelu:
        return functional.gelu(inputs)
    return layer.call(inputs)


def _torch_into(layer, inputs):
    import torch

    if layer.activation in (gelu, keras.activations.gelu):
        return torch.ops.aten.gelu_(inputs)
    return layer.call(inputs)


def _tensorflow(layer, x):
    """The GELU of float64 models is a formula that LiteRT has no word for."""
    is_formula = layer.activation is gelu
    return keras.activations.gelu(x) if is_formula else layer(x)


forms.add(
    keras.layers.Activation,
    onnx=forms.onnx_activation,
    torch=_torch,
    torch_into=_torch_into,
    tensorflow=_tensorflow,
)
