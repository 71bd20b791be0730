"""Formulas that XLA compiles well on CPUs, where the obvious ones are slow.

XLA fuses an operation that it takes for cheap into each one that reads it. A
depthwise convolution looks cheap: fused into both sums of a layer
normalization and into its outputs, it was computed three times. XLA does not
fuse it into matrix products, nor past an optimization barrier.
"""

import contextlib
import contextvars
import functools
import math

import keras

_TARGET: contextvars.ContextVar[str | None] = contextvars.ContextVar(
    "target", default=None
)


def target():
    """What JAX compiles for what it traces now: "cpu", "gpu" or "tpu".

    The one place that tells: a program for TPUs may be compiled on a host
    that has none. `None` on other backends.
    """
    if keras.backend.backend() != "jax":
        return None
    import jax

    return _TARGET.get() or jax.default_backend()


@contextlib.contextmanager
def compiling_for(platform):
    """What is traced inside is for devices other than those that are here.

    Args:
        platform: `"cpu"`, `"gpu"` or `"tpu"`.
    """
    token = _TARGET.set(platform)
    try:
        yield
    finally:
        _TARGET.reset(token)


def layer_normalization(inputs, gamma, beta, epsilon):
    """Over the last axis, with means as products: XLA fuses nothing there."""
    import jax.numpy as jnp

    size = inputs.shape[-1]
    mean_of = jnp.full((size, 1), 1 / size, inputs.dtype)
    centered = inputs - inputs @ mean_of
    variance = (centered * centered) @ mean_of
    return centered / jnp.sqrt(variance + epsilon) * gamma + beta


@functools.cache
def exact_gelu():
    """GELU with a gradient that is computed once, not in every reader."""
    import jax
    import jax.numpy as jnp

    @jax.custom_vjp
    def gelu(x):
        return jax.nn.gelu(x, approximate=False)

    def forward(x):
        return gelu(x), x

    def backward(x, gradient):
        distribution = (1 + jax.lax.erf(x * math.sqrt(0.5))) / 2
        density = jnp.exp(x * x / -2) / math.sqrt(2 * math.pi)
        slope = distribution + x * density
        return (jax.lax.optimization_barrier(gradient * slope),)

    gelu.defvjp(forward, backward)
    return gelu
