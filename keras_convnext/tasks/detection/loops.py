"""Functions with loops, compiled also where what calls them is not."""

import functools

import keras


def compiled_loops(*static):
    """Decorates a function that is compiled once for each shape.

    Outside of a compiled program JAX would compile the loops in it anew at
    every call, and TensorFlow run each of their operations by itself.

    Args:
        static: names of arguments that are no tensors.
    """

    def decorate(function):
        @functools.cache
        def in_jax():
            import jax

            return jax.jit(function, static_argnames=static)

        @functools.cache
        def in_tensorflow():
            import tensorflow as tf

            return tf.function(function, autograph=False)

        @functools.wraps(function)
        def call(*args):
            backend = keras.backend.backend()
            if backend == "jax":
                return in_jax()(*args)
            if backend == "tensorflow" and _is_eager():
                return in_tensorflow()(*args)
            return function(*args)

        return call

    return decorate


def _is_eager():
    import tensorflow as tf

    return tf.executing_eagerly()
