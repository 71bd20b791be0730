"""Keras layers that compute in float64 when told to, and faster on CPUs.

On JAX and torch Keras 3.15 promotes float64 to float32 inside `ops.mean`,
`ops.layer_normalization`, `ops.rms_normalization` and (torch) `ops.matmul`,
whatever the dtype policy; 3.16 also in `ops.add` and its like (torch). Below
float64 these layers are Keras' own, but for the backends' faster functions.
"""

import math

import keras
from keras import ops

from keras_convnext import jax_functions
from keras_convnext import torch_functions

register = keras.saving.register_keras_serializable(package="keras_convnext")


def mean(x, axis):
    """Mean over `axis`, kept as axes of size 1, in the dtype of `x`."""
    axes = axis if isinstance(axis, tuple) else (axis,)
    total = ops.sum(x, axis=axis, keepdims=True)
    size = 1
    for axis in axes:
        size = size * ops.shape(x)[axis]
    return total / ops.cast(size, x.dtype)


@register
def gelu(x):
    """The exact GELU; TensorFlow's rounds √2 to float32, also in float64."""
    if keras.backend.standardize_dtype(x.dtype) == "float64":
        return 0.5 * x * (1.0 + ops.erf(x * math.sqrt(0.5)))
    if _is_jax_on_cpu() and not isinstance(x, keras.KerasTensor):
        return jax_functions.exact_gelu()(x)
    return keras.activations.gelu(x)


def _is_jax_on_cpu():
    return keras.backend.backend() == "jax" and jax_functions.runs_on_cpu()


@register
class Add(keras.layers.Add):
    """`keras.layers.Add` that keeps float64."""

    def call(self, inputs):
        if self.compute_dtype != "float64":
            return super().call(inputs)
        return sum(inputs[1:], start=inputs[0])


@register
class Conv2D(keras.layers.Conv2D):
    """`keras.layers.Conv2D` that keeps float64."""

    def call(self, inputs):
        is_last = self.data_format == "channels_last"
        if self.compute_dtype != "float64" or not (self.use_bias and is_last):
            return super().call(inputs)
        outputs = self.convolution_op(inputs, self.kernel) + self.bias
        return outputs if self.activation is None else self.activation(outputs)


@register
class Dense(keras.layers.Dense):
    """`keras.layers.Dense` that keeps float64.

    On torch the bias is added by the product itself, not by a second pass
    over its outputs.
    """

    def call(self, inputs, training=None):
        is_torch = keras.backend.backend() == "torch"
        if not is_torch and self.compute_dtype != "float64":
            return super().call(inputs, training=training)
        kernel, bias = self.kernel, self.bias
        if is_torch:
            outputs = torch_functions.linear(inputs, kernel, bias)
        else:
            outputs = inputs @ ops.convert_to_tensor(kernel)
            if bias is not None:
                outputs = outputs + ops.convert_to_tensor(bias)
        return outputs if self.activation is None else self.activation(outputs)

    def quantize(self, mode=None, type_check=True, config=None):
        # Keras refuses subclasses, whose `call` may differ; this one's does
        # not in any dtype that can be quantised.
        return super().quantize(mode, type_check=False, config=config)


@register
class LayerNormalization(keras.layers.LayerNormalization):
    """`keras.layers.LayerNormalization` that keeps float64."""

    def call(self, inputs):
        if self.dtype_policy.name == "float32" and _is_jax_on_cpu():
            return jax_functions.layer_normalization(
                inputs,
                ops.convert_to_tensor(self.gamma),
                ops.convert_to_tensor(self.beta),
                self.epsilon,
            )
        if self.compute_dtype != "float64":
            return super().call(inputs)
        centred = inputs - mean(inputs, -1)
        variance = mean(ops.square(centred), -1)
        scaled = centred * ops.rsqrt(variance + self.epsilon) * self.gamma
        return scaled + self.beta


@register
class RMSNormalization(keras.layers.RMSNormalization):
    """`keras.layers.RMSNormalization` that keeps float64."""

    def call(self, inputs):
        if self.compute_dtype != "float64":
            return super().call(inputs)
        energy = mean(ops.square(inputs), -1)
        return inputs * ops.rsqrt(energy + self.epsilon) * self.scale


@register
class GlobalAveragePooling2D(keras.layers.GlobalAveragePooling2D):
    """`keras.layers.GlobalAveragePooling2D` that keeps float64."""

    def call(self, inputs):
        if self.compute_dtype != "float64":
            return super().call(inputs)
        return ops.squeeze(mean(inputs, (1, 2)), (1, 2))
