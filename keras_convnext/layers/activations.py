"""The two GELUs."""

import math

import keras
from keras import ops

from keras_convnext._util.annotations import Tensor
from keras_convnext._util.serialization import register
from keras_convnext.layers import jax_functions


@register
def gelu(x):
    """The exact GELU; TensorFlow's rounds √2 to float32, also in float64."""
    if keras.backend.standardize_dtype(x.dtype) == "float64":
        return 0.5 * x * (1.0 + ops.erf(x * math.sqrt(0.5)))
    if jax_functions.is_jax_on_cpu() and not isinstance(x, keras.KerasTensor):
        return jax_functions.exact_gelu()(x)
    return keras.activations.gelu(x)


@register
def gelu_tanh(x: Tensor) -> Tensor:
    """GELU in its tanh approximation (timm's `test_convnext` models)."""
    return keras.activations.gelu(x, approximate=True)
