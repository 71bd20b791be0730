"""Keras layers that compute in float64 when told to, and faster on CPUs.

On JAX and torch Keras 3.15 promotes float64 to float32 inside `ops.mean`,
`ops.layer_normalization`, `ops.rms_normalization` and (torch) `ops.matmul`,
whatever the dtype policy; 3.16 also in `ops.add` and its like (torch). Below
float64 these layers are Keras' own, but for the backends' faster functions.
"""

import functools

import keras
import numpy as np
from keras import ops

from keras_convnext._util.serialization import register
from keras_convnext.layers import forms
from keras_convnext.layers import torch_functions
from keras_convnext.layers.arithmetic import at_least_float32
from keras_convnext.layers.arithmetic import mean


@register
class Add(keras.layers.Add):
    """`keras.layers.Add` that keeps float64."""

    def call(self, inputs):
        if self.compute_dtype != "float64":
            return super().call(inputs)
        return sum(inputs[1:], start=inputs[0])


@register
class RowBatchNormalization(keras.layers.BatchNormalization):
    """`keras.layers.BatchNormalization` of rows some of which do not count.

    It keeps float64. Keras would hand a mask on to the layers behind, which
    take none.

    Call arguments:
        inputs: tensor `(rows, height, width, channels)`.
        counts: bool tensor `(rows, 1, 1)`, whether a row counts in the
            statistics; `None` for all.

    Attributes:
        total: function of a tensor that returns the sum of those of all
            programs that share a batch, so that each has the statistics of
            the whole.
    """

    @staticmethod
    def total(x):
        return x

    def call(self, inputs, counts=None, training=None):
        x = ops.cast(inputs, at_least_float32(self.compute_dtype))
        if training and self.trainable:
            mean, variance = self._statistics(x, counts)
        else:
            mean, variance = self.moving_mean, self.moving_variance
        numbers = mean, variance, self.beta, self.gamma
        mean, variance, beta, gamma = (ops.cast(n, x.dtype) for n in numbers)
        outputs = ops.batch_normalization(
            x, mean, variance, -1, beta, gamma, self.epsilon
        )
        return ops.cast(outputs, self.compute_dtype)

    def _statistics(self, x, counts):
        """Mean and variance of what counts, which the moving ones follow."""
        rows = ops.ones_like(x[:, :1, :1, :1], dtype="bool")
        if counts is not None:
            rows = ops.cast(counts, "bool")[..., None]
        pixels = x.shape[1] * x.shape[2]
        number = ops.sum(ops.cast(rows, x.dtype)) * pixels
        number = self.total(number) + keras.config.epsilon()

        def mean_of(values):
            values = ops.where(rows, values, ops.zeros_like(values))
            return self.total(ops.sum(values, axis=(0, 1, 2))) / number

        mean = mean_of(x)
        variance = mean_of(ops.square(x - mean))
        for moving, value in (
            (self.moving_mean, mean),
            (self.moving_variance, variance),
        ):
            before = ops.cast(moving, x.dtype)
            moving.assign(before + (1.0 - self.momentum) * (value - before))
        return mean, variance

    def compute_output_spec(self, inputs, counts=None, training=None):
        return keras.KerasTensor(inputs.shape, self.compute_dtype)


@register
class Conv2D(keras.layers.Conv2D):
    """`keras.layers.Conv2D` that keeps float64.

    On torch the bias is added by the convolution itself, and one of single
    pixels is a matrix product: in a detector's heads in half the time, and in
    those of few filters in a tenth.
    """

    def call(self, inputs):
        is_last = self.data_format == "channels_last"
        if keras.backend.backend() == "torch" and is_last:
            padding = _same_on_both_sides(self)
            if padding is not None:
                return self.activation(_on_torch(self, inputs, padding))
        if self.compute_dtype != "float64" or not (self.use_bias and is_last):
            return super().call(inputs)
        outputs = self.convolution_op(inputs, self.kernel) + self.bias
        return self.activation(outputs)


@register
class Conv2DTranspose(keras.layers.Conv2DTranspose):
    """`keras.layers.Conv2DTranspose`, on torch in half the time where each
    pixel becomes pixels of its own."""

    def call(self, inputs):
        is_torch = keras.backend.backend() == "torch"
        is_last = self.data_format == "channels_last"
        if not (is_torch and is_last) or self.kernel_size != self.strides:
            return super().call(inputs)
        outputs = torch_functions.transposed_convolution(
            inputs, self.kernel, self.bias, self.strides
        )
        return self.activation(outputs)


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
        return self.activation(outputs)

    def quantize(self, mode=None, type_check=True, config=None):
        # Keras refuses subclasses, whose `call` may differ; this one's does
        # not in any dtype that can be quantized.
        return super().quantize(mode, type_check=False, config=config)


@register
class GlobalAveragePooling2D(keras.layers.GlobalAveragePooling2D):
    """`keras.layers.GlobalAveragePooling2D` that keeps float64."""

    def call(self, inputs):
        if self.compute_dtype != "float64":
            return super().call(inputs)
        return ops.squeeze(mean(inputs, (1, 2)), (1, 2))


FIRST, LAST = (0, 3, 1, 2), (0, 2, 3, 1)
# Of fewer, as of images, pixels are dearer to move than kernels to order.
PATCH_CHANNELS = 16


def onnx_convolution(g, layer, x, weights, groups, padding):
    """Writes a convolution of maps in channels_last, and its activation."""
    if layer.use_bias:
        weights.append(g.weight(layer, "bias"))
    x = g.add("Transpose", x, perm=FIRST)
    x = g.add(
        "Conv",
        x,
        *weights,
        name=layer.name,
        kernel_shape=layer.kernel_size,
        strides=layer.strides,
        dilations=layer.dilation_rate,
        group=groups,
        **padding,
    )
    return forms.onnx_activation(g, layer, g.add("Transpose", x, perm=LAST))


def _onnx_conv2d(g, layer, x):
    if layer.padding == "valid":
        padding = {"pads": [0, 0, 0, 0]}
    else:
        padding = {"auto_pad": "SAME_UPPER"}
    weights = [g.weight(layer, "kernel", lambda k: k.transpose(3, 2, 0, 1))]
    return onnx_convolution(g, layer, x, weights, layer.groups, padding)


def _onnx_dense(g, layer, x):
    x = g.add("MatMul", x, g.weight(layer, "kernel"))
    if layer.use_bias:
        x = g.add("Add", x, g.weight(layer, "bias"), name=layer.name)
    return forms.onnx_activation(g, layer, x)


def _onnx_conv2d_transpose(g, layer, x):
    # Where strides are not the kernel's sides Keras' "same" has rules of its
    # own.
    if layer.kernel_size != layer.strides or layer.dilation_rate != (1, 1):
        raise forms.unknown_in_onnx(layer, "of a kernel unlike its strides")
    weights = [g.weight(layer, "kernel", lambda k: k.transpose(3, 2, 0, 1))]
    if layer.use_bias:
        weights.append(g.weight(layer, "bias"))
    x = g.add("Transpose", x, perm=FIRST)
    x = g.add(
        "ConvTranspose", x, *weights, name=layer.name, strides=layer.strides
    )
    return forms.onnx_activation(g, layer, g.add("Transpose", x, perm=LAST))


def _onnx_batch_norm(g, layer, x, counts=None):
    if layer.axis not in (-1, 3) or not (layer.scale and layer.center):
        raise forms.unknown_in_onnx(layer, f"with axis={layer.axis}")
    deviation = np.sqrt(
        ops.convert_to_numpy(layer.moving_variance) + layer.epsilon
    )
    scale = g.weight(layer, "gamma", lambda gamma: gamma / deviation)
    centered = g.add("Sub", x, g.weight(layer, "moving_mean"))
    x = g.add("Mul", centered, scale)
    return g.add("Add", x, g.weight(layer, "beta"), name=layer.name)


def _onnx_relu(g, layer, x):
    plain = (layer.max_value, layer.negative_slope, layer.threshold)
    if plain != (None, 0, 0):
        raise forms.unknown_in_onnx(layer, "with limits or a slope")
    return g.add("Relu", x, name=layer.name)


def _onnx_enlarged(g, layer, x):
    if layer.interpolation != "nearest":
        raise forms.unknown_in_onnx(layer, f"by {layer.interpolation!r}")
    return g.add(
        "Resize",
        x,
        "",
        np.float32((1, *layer.size, 1)),
        mode="nearest",
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
        name=layer.name,
    )


def _onnx_max_pool(g, layer, x):
    if layer.padding != "valid":
        raise forms.unknown_in_onnx(layer, f"with padding {layer.padding!r}")
    x = g.add(
        "MaxPool",
        g.add("Transpose", x, perm=FIRST),
        name=layer.name,
        kernel_shape=layer.pool_size,
        strides=layer.strides,
    )
    return g.add("Transpose", x, perm=LAST)


def _onnx_reshape(g, layer, x):
    return g.add("Reshape", x, [0, *layer.target_shape], name=layer.name)


def _onnx_flatten(g, layer, x):
    return g.add("Flatten", x, name=layer.name)


def _onnx_pad(g, layer, x):
    (top, bottom), (left, right) = layer.padding
    return g.add("Pad", x, [0, top, left, 0, 0, bottom, right, 0])


def _onnx_rescaling(g, layer, x):
    x = g.add("Mul", x, np.float32(layer.scale))
    return g.add("Add", x, np.float32(layer.offset))


def _onnx_permute(g, layer, x):
    return g.add("Transpose", x, perm=(0, *layer.dims))


def _onnx_concatenation(g, layer, x):
    return g.add("Concat", *x, axis=layer.axis, name=layer.name)


def _onnx_add(g, layer, x):
    return functools.reduce(lambda total, name: g.add("Add", total, name), x)


def _onnx_pool(op, g, layer, x):
    keep = int(layer.keepdims)
    return g.add(op, x, [1, 2], keepdims=keep, name=layer.name)


def _same_on_both_sides(layer):
    """PyTorch's padding of a convolution; `None` where sides differ."""
    if layer.padding == "valid":
        return (0, 0)
    is_odd = all(size % 2 for size in layer.kernel_size)
    if layer.padding != "same" or not is_odd or layer.strides != (1, 1):
        return None
    return tuple(
        size // 2 * spacing
        for size, spacing in zip(layer.kernel_size, layer.dilation_rate)
    )


def _on_torch(layer, inputs, padding):
    """A convolution of maps in channels_last, without its activation."""
    is_product = layer.kernel_size == layer.strides == (1, 1)
    if is_product and layer.groups == 1:
        kernel = ops.convert_to_tensor(layer.kernel)[0, 0]
        return torch_functions.linear(inputs, kernel, layer.bias)
    is_patches = (
        layer.kernel_size == layer.strides
        and (padding, layer.groups) == ((0, 0), 1)
        and inputs.shape[-1] >= PATCH_CHANNELS
    )
    if is_patches and torch_functions.runs_eagerly_on_cpu(inputs):
        return torch_functions.patches_product(inputs, layer.kernel, layer.bias)
    return torch_functions.convolution(
        inputs,
        layer.kernel,
        layer.bias,
        stride=layer.strides,
        padding=padding,
        dilation=layer.dilation_rate,
        groups=layer.groups,
    )


def _torch_conv2d(layer, inputs):
    if (layer.padding, layer.data_format) != ("valid", "channels_last"):
        return layer.call(inputs)
    return layer.activation(_on_torch(layer, inputs, (0, 0)))


def _torch_add(layer, inputs):
    # One by one: sizes that a compiler does not know go into no set.
    if any(tensor.shape != inputs[0].shape for tensor in inputs):
        return layer.call(inputs)
    return sum(inputs[1:], start=inputs[0])


def _tensorflow_dense(layer, x):
    """At any size or batch a 1×1 convolution: a matrix product's shape
    arithmetic would stay in the graph."""
    if len(x.shape) != 4 or None not in x.shape:
        return layer(x)
    kernel = ops.reshape(layer.kernel, (1, 1, *layer.kernel.shape))
    x = ops.conv(x, kernel, data_format="channels_last")
    if layer.use_bias:
        x = ops.add(x, layer.bias)
    return layer.activation(x)


# Keras' own layers compute the same.
forms.add(Add, keras.layers.Add, onnx=_onnx_add, torch=_torch_add)
forms.add(
    Conv2D,
    keras.layers.Conv2D,
    variables=("kernel", "bias"),
    onnx=_onnx_conv2d,
    torch=_torch_conv2d,
)
forms.add(
    Dense,
    keras.layers.Dense,
    variables=("kernel", "bias"),
    onnx=_onnx_dense,
    torch=forms.call,
    tensorflow=_tensorflow_dense,
)
forms.add(
    GlobalAveragePooling2D,
    keras.layers.GlobalAveragePooling2D,
    onnx=functools.partial(_onnx_pool, "ReduceMean"),
    torch=forms.call,
)
forms.add(
    keras.layers.GlobalMaxPooling2D,
    onnx=functools.partial(_onnx_pool, "ReduceMax"),
    torch=forms.call,
)
forms.add(keras.layers.Concatenate, onnx=_onnx_concatenation)
forms.add(keras.layers.Dropout, onnx=forms.onnx_same, tensorflow=forms.same)
forms.add(keras.layers.Permute, onnx=_onnx_permute)
forms.add(keras.layers.Rescaling, onnx=_onnx_rescaling)
forms.add(keras.layers.ZeroPadding2D, onnx=_onnx_pad, torch=forms.call)
forms.add(
    RowBatchNormalization,
    keras.layers.BatchNormalization,
    variables=("gamma", "beta", "moving_mean", "moving_variance"),
    onnx=_onnx_batch_norm,
)
forms.add(
    Conv2DTranspose,
    keras.layers.Conv2DTranspose,
    variables=("kernel", "bias"),
    onnx=_onnx_conv2d_transpose,
)
forms.add(keras.layers.Flatten, onnx=_onnx_flatten)
forms.add(keras.layers.MaxPooling2D, onnx=_onnx_max_pool)
forms.add(keras.layers.ReLU, onnx=_onnx_relu)
forms.add(keras.layers.Reshape, onnx=_onnx_reshape)
forms.add(keras.layers.UpSampling2D, onnx=_onnx_enlarged)
