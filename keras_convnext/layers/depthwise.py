"""Depthwise convolution, the one operation whose implementation matters.

ConvNeXt's 7×7 depthwise convolution is cheap in arithmetic and dear in
frameworks: XLA on CPUs runs it 13 to 22 times slower than the same sum written
as shifted multiply-adds. `choose_implementation` is the one place that
decides which form runs; the weights are the same for all of them.
"""

import functools
import os
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_convnext._util.checks import one_of
from keras_convnext._util.ranges import Count
from keras_convnext._util.ranges import in_range
from keras_convnext._util.serialization import register
from keras_convnext.layers import forms
from keras_convnext.layers import jax_functions
from keras_convnext.layers import torch_functions
from keras_convnext.layers.arithmetic import at_least_float32
from keras_convnext.layers.plain import onnx_convolution

SETTING = "KERAS_CONVNEXT_DEPTHWISE"


def native_depthwise(inputs, kernel, dilation, bias=None):
    """The backend's own depthwise convolution."""
    if keras.backend.backend() == "torch":
        kernel = ops.swapaxes(kernel, 2, 3)
        return torch_functions.convolution(
            inputs,
            kernel,
            bias,
            padding=_margins(kernel.shape, dilation),
            dilation=dilation,
            groups=kernel.shape[3],
        )
    outputs = ops.depthwise_conv(
        inputs,
        kernel,
        padding="same",
        data_format="channels_last",
        dilation_rate=dilation,
    )
    return outputs if bias is None else outputs + bias


def shifted_depthwise(inputs, kernel, dilation, bias=None):
    """A sum of shifted multiply-adds, one for each kernel position."""
    if keras.backend.backend() == "jax":
        outputs = _jax_shifted()(
            ops.convert_to_tensor(inputs),
            ops.convert_to_tensor(kernel),
            dilation,
        )
    else:
        outputs = _shifted_sum(inputs, kernel, dilation)
    return outputs if bias is None else outputs + bias


IMPLEMENTATIONS = {"native": native_depthwise, "shifted": shifted_depthwise}
CHOICES = ("auto", *IMPLEMENTATIONS)


def choose_implementation():
    """Name of the implementation for this backend and device.

    The environment variable `KERAS_CONVNEXT_DEPTHWISE` (`auto`, `native` or
    `shifted`) overrides the choice.
    """
    setting = os.environ.get(SETTING, "auto")
    one_of(SETTING, setting, CHOICES)
    if setting != "auto":
        return setting
    return "shifted" if jax_functions.target() == "cpu" else "native"


@register
class DepthwiseConv2D(keras.layers.DepthwiseConv2D):
    """Depthwise convolution of stride 1 with symmetric zero padding.

    The weights (`kernel` of shape `(k, k, channels, 1)`, `bias` of shape
    `(channels,)`), config and results are those of
    `keras.layers.DepthwiseConv2D(padding="same")`; only the algorithm is
    chosen per backend and device.

    Args:
        kernel_size: odd int, height and width of the kernel.
        dilation_rate: int, spacing between kernel elements.
        implementation: `"auto"` (see `choose_implementation`), `"native"` or
            `"shifted"`.
        **kwargs: other arguments of `keras.layers.DepthwiseConv2D`.

    Call arguments:
        inputs: float tensor `(batch, height, width, channels)`.

    Returns:
        A tensor of the same shape and dtype.

    Raises:
        ValueError: for even kernels, strides, other paddings or layouts.

    Examples:
        >>> layer = keras_convnext.layers.DepthwiseConv2D(7)
        >>> keras.ops.shape(layer(keras.ops.ones((1, 8, 8, 4))))
        (1, 8, 8, 4)
    """

    @in_range
    def __init__(
        self,
        kernel_size: Count | Sequence[Count],
        dilation_rate: Count | Sequence[Count] = 1,
        implementation: str = "auto",
        **kwargs: Any,
    ):
        kwargs.setdefault("padding", "same")
        kwargs.setdefault("data_format", "channels_last")
        super().__init__(kernel_size, dilation_rate=dilation_rate, **kwargs)
        self.implementation = implementation
        _check_layer(self)

    def call(self, inputs):
        name = self.implementation
        if name == "auto":
            name = choose_implementation()
        outputs = IMPLEMENTATIONS[name](
            inputs, self.kernel, self.dilation_rate, self.bias
        )
        return self.activation(outputs)

    def get_config(self):
        return {**super().get_config(), "implementation": self.implementation}


def _check_layer(layer):
    one_of("implementation", layer.implementation, CHOICES)
    if any(size % 2 == 0 for size in layer.kernel_size):
        raise ValueError(
            "`kernel_size` must be odd, so that the zero padding is the same "
            f"on both sides. Received: kernel_size={layer.kernel_size}"
        )
    fixed = {
        "strides": (1, 1),
        "padding": "same",
        "data_format": "channels_last",
        "depth_multiplier": 1,
    }
    for name, value in fixed.items():
        if getattr(layer, name) != value:
            raise ValueError(
                f"`{name}` must be {value!r}; use keras.layers."
                "DepthwiseConv2D for anything else. Received: "
                f"{name}={getattr(layer, name)!r}"
            )


def _shifted_sum(inputs, kernel, dilation):
    height, width = ops.shape(inputs)[1:3]
    # Half precision would lose digits over the 49 additions.
    dtype = keras.backend.standardize_dtype(inputs.dtype)
    accumulator = at_least_float32(dtype)
    padded = ops.pad(inputs, _padding(kernel.shape, dilation))
    total = 0
    for i in range(kernel.shape[0]):
        for j in range(kernel.shape[1]):
            top, left = i * dilation[0], j * dilation[1]
            window = padded[:, top : top + height, left : left + width]
            weights = ops.cast(kernel[i, j, :, 0], accumulator)
            total = total + ops.cast(window, accumulator) * weights
    return ops.cast(total, dtype)


def _margins(kernel_size, dilation):
    """Rows and columns of zeros on each side of an image."""
    return [rate * (size // 2) for rate, size in zip(dilation, kernel_size)]


def _padding(kernel_size, dilation):
    rows, columns = _margins(kernel_size, dilation)
    return ((0, 0), (rows, rows), (columns, columns), (0, 0))


@functools.cache
def _jax_shifted():
    """The shifted sum with a hand-written gradient, for XLA.

    XLA differentiates the sum into 49 separate reductions over the whole
    image; one scan over the rows that updates all 49 at once takes a third of
    the time. The gradient to the inputs is the same sum with the kernel
    turned around.
    """
    import jax
    import jax.numpy as jnp

    @functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
    def shifted(inputs, kernel, dilation):
        return _shifted_sum(inputs, kernel, dilation)

    def forward(inputs, kernel, dilation):
        return shifted(inputs, kernel, dilation), (inputs, kernel)

    def backward(dilation, residuals, gradient):
        inputs, kernel = residuals
        return (
            _shifted_sum(gradient, kernel[::-1, ::-1], dilation),
            kernel_gradient(inputs, kernel, gradient, dilation),
        )

    def kernel_gradient(inputs, kernel, gradient, dilation):
        height, width = inputs.shape[1:3]
        kernel_height, kernel_width = kernel.shape[:2]
        accumulator = jnp.promote_types(inputs.dtype, jnp.float32)
        # Each device sums up its part of the batch: in the loop a sum over the
        # batch would be an exchange between devices, for every row.
        parts = _parts(inputs.shape[0])
        shape = (parts, -1, *inputs.shape[1:])
        padding = ((0, 0), *_padding(kernel.shape, dilation))
        padded = jnp.pad(inputs.reshape(shape), padding)
        gradient = gradient.reshape(shape)
        reach = dilation[0] * (kernel_height - 1) + 1

        def add_row(total, row):
            rows = jax.lax.dynamic_slice_in_dim(padded, row, reach, 2)
            rows = rows[:, :, :: dilation[0]].astype(accumulator)
            row_gradient = jax.lax.dynamic_slice_in_dim(gradient, row, 1, 2)
            row_gradient = row_gradient.astype(accumulator)
            columns = [
                (rows[..., left : left + width, :] * row_gradient).sum((1, 3))
                for left in range(0, dilation[1] * kernel_width, dilation[1])
            ]
            return total + jnp.stack(columns, axis=2), None

        zeros = jnp.zeros((parts, *kernel.shape[:3]), accumulator)
        total, _ = jax.lax.scan(add_row, zeros, jnp.arange(height))
        return total.sum(0)[..., None].astype(kernel.dtype)

    shifted.defvjp(forward, backward)
    return shifted


def _parts(batch_size):
    """Into how many parts `keras.distribution` divides a batch."""
    spread = keras.distribution.distribution()
    if spread is None:
        return 1
    mesh = spread.device_mesh
    parts = mesh.shape[mesh.axis_names.index(spread.batch_dim_name)]
    return parts if batch_size % parts == 0 else 1


def _onnx(g, layer, x):
    padding = {"pads": 2 * _margins(layer.kernel_size, layer.dilation_rate)}
    weights = [g.weight(layer, "kernel", lambda k: k.transpose(2, 3, 0, 1))]
    groups = layer.kernel.shape[2]
    return onnx_convolution(g, layer, x, weights, groups, padding)


def _tensorflow(layer, x):
    x = native_depthwise(x, layer.kernel, layer.dilation_rate, layer.bias)
    return layer.activation(x)


forms.add(
    DepthwiseConv2D,
    variables=("kernel", "bias"),
    onnx=_onnx,
    torch=forms.call,
    tensorflow=_tensorflow,
)
