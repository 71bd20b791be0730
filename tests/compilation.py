"""Functions as each backend compiles them."""

import keras


def compiled(function):
    """By XLA, but on PyTorch, which runs it as it is."""
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        return jax.jit(function)
    if backend == "tensorflow":
        import tensorflow as tf

        return tf.function(function, jit_compile=True)
    return function


def gradients(function, x):
    """Of the sum of what a function of one tensor returns, as NumPy."""
    backend = keras.backend.backend()
    x = keras.ops.convert_to_tensor(x)
    if backend == "jax":
        import jax

        gradient = jax.grad(lambda x: function(x).sum())(x)
    elif backend == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(x)
            total = tf.reduce_sum(function(x))
        gradient = tape.gradient(total, x)
    else:
        import torch

        x = x.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(function(x).sum(), x)
    return keras.ops.convert_to_numpy(gradient)
