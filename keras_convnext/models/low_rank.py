"""Low-rank adaptation (LoRA) of a backbone's Dense layers, and its end."""

from collections.abc import Iterable
from collections.abc import Sequence

import keras
import numpy as np

from keras_convnext.layers import states
from keras_convnext.layers.initializers import skip_random_numbers

Pairs = list[tuple[keras.layers.Layer, keras.layers.Layer]]


def with_own(
    model: keras.Model, chosen: Iterable[keras.layers.Layer]
) -> tuple[keras.Model, Pairs]:
    """A model with copies of some layers, which shares all others.

    Args:
        model: Functional or Sequential.
        chosen: layers of it, also inside of nested models.

    Returns:
        The model, and pairs of a chosen layer and its copy.
    """
    names = {id(layer) for layer in chosen}
    pairs: Pairs = []

    def copied(layer):
        if id(layer) not in names:
            return layer
        copy = type(layer).from_config(layer.get_config())
        pairs.append((layer, copy))
        return copy

    with skip_random_numbers():
        model = keras.models.clone_model(
            model, clone_function=copied, recursive=True
        )
    for layer, copy in pairs:
        copy.set_weights(layer.get_weights())
    return model, pairs


def enable(
    layers: Sequence[keras.layers.Layer],
    rank: int,
    alpha: float | None = None,
    seed: int | None = None,
) -> None:
    """Keras' `enable_lora` of each layer.

    Args:
        layers: Dense layers, which are built.
        rank, alpha: see there.
        seed: int that the initial numbers follow from; Keras' own if `None`.
    """
    for number, layer in enumerate(layers):
        own = None
        if seed is not None:
            generator = np.random.default_rng((seed, number))
            own = int(generator.integers(2**31))
        layer.enable_lora(
            rank,
            lora_alpha=alpha,
            a_initializer=keras.initializers.HeUniform(own),
        )


def merge(pairs: Pairs) -> None:
    """Gives the first layers what the second ones, with LoRA, compute with."""
    for layer, copy in pairs:
        layer.set_weights(states.plain_weights(copy))
