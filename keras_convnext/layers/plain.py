"""Keras layers that compute in float64 when told to, and faster on CPUs.

On JAX and torch Keras 3.15 promotes float64 to float32 inside `ops.mean`,
`ops.layer_normalization`, `ops.rms_normalization` and (torch) `ops.matmul`,
whatever the dtype policy; 3.16 also in `ops.add` and its like (torch). Below
float64 these layers are Keras' own, but for the backends' faster functions.
"""

import keras
from keras import ops

from keras_convnext._util.serialization import register
from keras_convnext.layers import torch_functions
from keras_convnext.layers.arithmetic import mean


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
class GlobalAveragePooling2D(keras.layers.GlobalAveragePooling2D):
    """`keras.layers.GlobalAveragePooling2D` that keeps float64."""

    def call(self, inputs):
        if self.compute_dtype != "float64":
            return super().call(inputs)
        return ops.squeeze(mean(inputs, (1, 2)), (1, 2))
