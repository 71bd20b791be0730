"""Initial weights."""

import contextlib
import contextvars

import keras
import numpy
from keras import ops

from keras_convnext._util.serialization import register

_skipping = contextvars.ContextVar("skipping", default=False)


@contextlib.contextmanager
def skip_random_numbers():
    """Inside, these draw nothing: the weights are about to be loaded."""
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
class GlorotUniform(keras.initializers.GlorotUniform):
    """Keras' own, which draws nothing where the weights are to be loaded."""

    def __call__(self, shape, dtype=None):
        if _skipping.get():
            return ops.zeros(shape, dtype=dtype or "float32")
        return super().__call__(shape, dtype)
