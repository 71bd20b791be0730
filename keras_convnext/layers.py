"""The layers and activations that ConvNeXt needs and Keras lacks."""

import contextlib
import contextvars
from collections.abc import Sequence
from typing import Any

import keras
import numpy
from keras import ops

from keras_convnext import torch_functions
from keras_convnext.depthwise import DepthwiseConv2D
from keras_convnext.precision import mean
from keras_convnext.typing import Tensor

__all__ = [
    "DepthwiseConv2D",
    "GlobalResponseNormalization",
    "ImageNormalization",
    "LayerScale",
    "Normal",
    "SimpleNormalization",
    "gelu_tanh",
]

register = keras.saving.register_keras_serializable(package="keras_convnext")


@register
def gelu_tanh(x: Tensor) -> Tensor:
    """GELU in its tanh approximation (timm's `test_convnext` models)."""
    return keras.activations.gelu(x, approximate=True)


_skipping = contextvars.ContextVar("skipping", default=False)


@contextlib.contextmanager
def skip_random_numbers():
    """Inside, `Normal` draws nothing: the weights are about to be loaded."""
    token = _skipping.set(True)
    try:
        yield
    finally:
        _skipping.reset(token)


@register
class Normal(keras.initializers.RandomNormal):
    """`RandomNormal` that XLA does not compile anew for every shape.

    On JAX the numbers come from NumPy, which builds a model in a tenth of the
    time; elsewhere from Keras. One object gives every call the same numbers.

    Examples:
        >>> normal = keras_convnext.layers.Normal(stddev=0.02, seed=0)
        >>> keras.ops.shape(normal((2, 3)))
        (2, 3)
    """

    def __call__(self, shape, dtype=None):
        if _skipping.get():
            return ops.zeros(shape, dtype=dtype or "float32")
        if keras.backend.backend() != "jax":
            return super().__call__(shape, dtype)
        generator = numpy.random.default_rng(self.seed)
        values = generator.normal(self.mean, self.stddev, shape)
        return ops.convert_to_tensor(values, dtype=dtype or "float32")


@register
class ImageNormalization(keras.layers.Layer):
    """Normalises pixels of 0–255 by one mean and deviation per channel.

    A scale and an offset on the last axis, whatever Keras' global image data
    format is (`keras.layers.Rescaling` follows that one, and
    `keras.layers.Normalization` turns into extra inputs in ONNX files).

    Args:
        mean, std: one number per channel, for pixels scaled to 0–1.
        **kwargs: `name`, `dtype` and so on.

    Call arguments:
        inputs: tensor `(..., channels)` of any dtype with values of 0–255.

    Returns:
        `(inputs / 255 - mean) / std` in the layer's dtype.

    Examples:
        >>> layer = keras_convnext.layers.ImageNormalization([0.5], [0.25])
        >>> float(layer(keras.ops.full((1, 1, 1, 1), 255.0))[0, 0, 0, 0])
        2.0
    """

    def __init__(
        self, mean: Sequence[float], std: Sequence[float], **kwargs: Any
    ):
        # Without autocasting, mixed precision would round the pixels.
        super().__init__(autocast=False, **kwargs)
        self.mean = [float(value) for value in mean]
        self.std = [float(value) for value in std]
        self._scale = 1 / (255 * numpy.array(self.std))
        self._offset = -numpy.array(self.mean) / numpy.array(self.std)

    def call(self, inputs):
        dtype = self.compute_dtype
        scale, offset = (
            ops.convert_to_tensor(values.astype(dtype))
            for values in (self._scale, self._offset)
        )
        return ops.cast(inputs, dtype) * scale + offset

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "mean": self.mean, "std": self.std}


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

    def __init__(self, initial_value: float = 1e-6, **kwargs: Any):
        super().__init__(**kwargs)
        self.initial_value = initial_value

    def build(self, input_shape):
        self.gamma = self.add_weight(
            name="gamma",
            shape=(input_shape[-1],),
            initializer=keras.initializers.Constant(self.initial_value),
        )

    def call(self, inputs):
        return inputs * self.gamma

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "initial_value": self.initial_value}


@register
class GlobalResponseNormalization(keras.layers.Layer):
    """Global response normalisation of ConvNeXt V2 (arXiv:2301.00808 §4).

    With `g` the Frobenius norm of each channel over height and width, and `n`
    = `g` / (mean of `g` over the channels + epsilon), returns
    `gamma * (x * n) + beta + x`. The norms are taken in at least float32.

    Args:
        epsilon: float, added to the mean of the norms.
        **kwargs: `name`, `dtype` and so on.

    Call arguments:
        inputs: float tensor `(batch, height, width, channels)`.

    Returns:
        A tensor of the same shape and dtype.

    Examples:
        >>> layer = keras_convnext.layers.GlobalResponseNormalization()
        >>> keras.ops.shape(layer(keras.ops.ones((1, 8, 8, 4))))
        (1, 8, 8, 4)
    """

    def __init__(self, epsilon: float = 1e-6, **kwargs: Any):
        super().__init__(**kwargs)
        self.epsilon = epsilon

    def build(self, input_shape):
        shape = (input_shape[-1],)
        self.gamma = self.add_weight(
            name="gamma", shape=shape, initializer="zeros"
        )
        self.beta = self.add_weight(
            name="beta", shape=shape, initializer="zeros"
        )

    def call(self, inputs):
        scale = self.scale(inputs)
        if keras.backend.backend() == "torch":
            return torch_functions.multiply_add(inputs, scale, self.beta)
        return inputs * scale + self.beta

    def scale(self, inputs: Tensor) -> Tensor:
        """What `call` multiplies by: `(batch, 1, 1, channels)`."""
        x = ops.cast(inputs, _at_least_float32(self.compute_dtype))
        if keras.backend.backend() == "torch":
            energy = torch_functions.sum_of_squares(x)
        else:
            energy = ops.sum(ops.square(x), axis=(1, 2), keepdims=True)
        # The slope of the root at zero is infinite: a channel without energy
        # takes the root of one instead, and a norm and gradient of zero.
        alive = energy > 0
        root = ops.sqrt(ops.where(alive, energy, ops.ones_like(energy)))
        norms = ops.where(alive, root, ops.zeros_like(root))
        response = norms / (mean(norms, -1) + self.epsilon)
        scale = 1 + ops.cast(self.gamma, response.dtype) * response
        return ops.cast(scale, self.compute_dtype)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "epsilon": self.epsilon}


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

    def __init__(self, epsilon: float = 1e-6, **kwargs: Any):
        super().__init__(**kwargs)
        self.epsilon = epsilon

    def build(self, input_shape):
        self.channels = input_shape[-1]
        self.gamma = self.add_weight(
            name="gamma", shape=(self.channels,), initializer="ones"
        )

    def call(self, inputs):
        x = ops.cast(inputs, _at_least_float32(self.compute_dtype))
        deviations = x - mean(x, -1)
        squares = ops.sum(ops.square(deviations), axis=-1, keepdims=True)
        variance = squares / (self.channels - 1)
        outputs = x * ops.rsqrt(variance + self.epsilon)
        return ops.cast(outputs, self.compute_dtype) * self.gamma

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "epsilon": self.epsilon}


def _at_least_float32(dtype):
    return "float32" if dtype in ("float16", "bfloat16") else dtype
