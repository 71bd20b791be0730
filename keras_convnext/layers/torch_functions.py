"""PyTorch's functions on channels-last tensors and Keras' kernels.

Keras adds biases in a second pass over the outputs, and copies the inputs of
convolutions into PyTorch's layout and back; a permuted view is enough.
"""

import keras
from keras import ops

from keras_convnext.layers.arithmetic import at_least_float32

# Squares of so much at a time stay in a core's own cache, and in memory that is
# used again: glibc gives that of a whole image back to the system each time.
SQUARED_BYTES = 2 * 2**20


def is_recorded():
    """Whether TorchScript writes down what is computed, as for ONNX."""
    import torch

    return torch.jit.is_tracing()


def linear(inputs, kernel, bias):
    """Product with a kernel `(in, out)`, and a bias `(out,)` or `None`."""
    from torch.nn import functional

    kernel, bias = _tensors(kernel, bias)
    return functional.linear(inputs, kernel.T, bias)


def convolution(inputs, kernel, bias, **kwargs):
    """2D convolution of `(batch, height, width, channels)`.

    Args:
        kernel: `(height, width, in, out)`.
        bias: `(out,)` or `None`.
        **kwargs: `stride`, `padding`, `dilation` and `groups`.
    """
    from torch.nn import functional

    kernel, bias = _tensors(kernel, bias)
    outputs = functional.conv2d(
        inputs.permute(0, 3, 1, 2), kernel.permute(3, 2, 0, 1), bias, **kwargs
    )
    return outputs.permute(0, 2, 3, 1)


def runs_eagerly_on_cpu(inputs):
    """Whether functions run as they are called, for no compiler or file."""
    import torch

    is_recorded = torch.jit.is_tracing() or torch.compiler.is_compiling()
    return inputs.device.type == "cpu" and not is_recorded


def patches_product(inputs, kernel, bias):
    """`convolution` whose strides are the kernel's sides, without padding.

    Pixels are moved once, and the kernel stays as it is: oneDNN would order
    it anew in each call, which takes as long as the product of one image.
    """
    rows, columns, channels, filters = kernel.shape
    height, width = (
        x // side for x, side in zip(inputs.shape[1:], (rows, columns))
    )
    x = inputs[:, : height * rows, : width * columns]
    x = x.unflatten(2, (width, columns)).unflatten(1, (height, rows))
    x = x.transpose(2, 3).flatten(3)
    return linear(x, ops.reshape(kernel, (-1, filters)), bias)


def transposed_convolution(inputs, kernel, bias, strides):
    """The same the other way: kernel `(height, width, out, in)`."""
    from torch.nn import functional

    kernel, bias = _tensors(kernel, bias)
    outputs = functional.conv_transpose2d(
        inputs.permute(0, 3, 1, 2),
        kernel.permute(3, 2, 0, 1),
        bias,
        stride=strides,
    )
    return outputs.permute(0, 2, 3, 1)


def layer_normalization(inputs, gamma, beta, epsilon):
    """Over the last axis, in at least float32.

    The size is that of the weights, an int: Keras takes the inputs', which is
    a value of the graph where one is recorded, and ONNX has no word for that.
    """
    from torch.nn import functional

    dtype = at_least_float32(keras.backend.standardize_dtype(inputs.dtype))
    x, gamma, beta = (
        ops.convert_to_tensor(x, dtype) for x in (inputs, gamma, beta)
    )
    outputs = functional.layer_norm(x, gamma.shape, gamma, beta, epsilon)
    return outputs.to(inputs.dtype)


def multiply_add(inputs, scale, shift, out=None):
    """`inputs * scale + shift` in one pass, both broadcast; into `out`."""
    import torch

    return torch.addcmul(ops.convert_to_tensor(shift), inputs, scale, out=out)


def sum_of_squares(inputs):
    """The energy of each channel: `(batch, 1, 1, channels)`."""
    # Sizes may be unknown to a compiler, which keeps no squares anyway.
    if not runs_eagerly_on_cpu(inputs):
        return inputs.square().sum((1, 2), keepdim=True)
    rows = inputs.shape[1] * SQUARED_BYTES // max(1, inputs.nbytes)
    parts = inputs.split(max(1, rows), dim=1)
    return sum(part.square().sum((1, 2), keepdim=True) for part in parts)


def _tensors(kernel, bias):
    bias = None if bias is None else ops.convert_to_tensor(bias)
    return ops.convert_to_tensor(kernel), bias
