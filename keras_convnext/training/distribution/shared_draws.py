"""Stochastic depth that does not know how many devices there are.

Every process and replica has the same state of the same generators. Each draws
for the whole batch, one number per image, and takes those of its own images:
what happens to an image follows from the seed, the step and its place in the
batch. On JAX the compiler does that by itself.
"""

import keras
from keras import ops


class SharedDropout(keras.layers.Layer):
    """A `Dropout` of which this device computes its part of the batch.

    Args:
        dropout: the layer that would see the whole batch.
        replicas: the `Replicas`.
        **kwargs: `name`, `dtype` and so on.
    """

    def __init__(self, dropout, replicas, **kwargs):
        super().__init__(**kwargs)
        self.layers = [dropout]
        self.replicas = replicas

    def build(self, input_shape):
        """Nothing of its own: the state is the inner layer's."""

    def call(self, inputs, training=False):
        if not training:
            return inputs
        (dropout,) = self.layers
        size = ops.shape(inputs)[0]
        sizes = dropout.noise_shape or (None,) * len(inputs.shape)
        rest = [
            side or inputs.shape[axis + 1]
            for axis, side in enumerate(sizes[1:])
        ]
        replicas = self.replicas
        ones = ops.ones((replicas.count * size, *rest), inputs.dtype)
        first = replicas.index() * size
        kept = dropout(ones, training=True)[first : first + size] > 0
        # As Keras divides, so that it does not matter who computes it.
        return ops.where(
            kept, inputs / (1.0 - dropout.rate), ops.zeros_like(inputs)
        )

    def compute_output_shape(self, input_shape):
        return input_shape


def with_shared_draws(model, replicas):
    """A model on the same layers whose `Dropout`s are `SharedDropout`s.

    Args:
        model: a Functional model; the one to save.
        replicas: the `Replicas`.

    Returns:
        A model of the same class, to be trained.
    """

    def called(layer, *args, **kwargs):
        if isinstance(layer, keras.layers.Dropout):
            layer = SharedDropout(
                layer,
                replicas,
                name=f"{layer.name}_shared",
                dtype=layer.dtype_policy,
            )
        return layer(*args, **kwargs)

    return keras.models.clone_model(
        model, clone_function=lambda layer: layer, call_function=called
    )
