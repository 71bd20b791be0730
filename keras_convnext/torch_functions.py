"""PyTorch's functions on channels-last tensors and Keras' kernels.

Keras adds biases in a second pass over the outputs, and copies the inputs of
convolutions into PyTorch's layout and back; a permuted view is enough.
"""

from keras import ops


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


def _tensors(kernel, bias):
    bias = None if bias is None else ops.convert_to_tensor(bias)
    return ops.convert_to_tensor(kernel), bias
