"""What XLA compiles well on CPUs, where the obvious formulas fare badly.

XLA fuses a cheap producer into every one that reads it. A depthwise
convolution looks cheap: fused into both sums of a layer normalization and into
its outputs it was computed three times. It is kept out of matrix products and
of what an optimization barrier hides.
"""

import functools
import math

import keras


def is_jax_on_cpu():
    if keras.backend.backend() != "jax":
        return False
    import jax

    return jax.default_backend() == "cpu"


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
