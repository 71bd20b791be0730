"""Less memory for more arithmetic: blocks computed again going backward."""

import keras

from keras_convnext._util.serialization import register
from keras_convnext.facts.layer_names import BLOCK_PARTS
from keras_convnext.facts.layer_names import LayerName
from keras_convnext.facts.layer_names import Part
from keras_convnext.facts.layer_names import parse
from keras_convnext.layers.jax_functions import target

# What is not computed again: random states are not drawn twice.
OUTSIDE = (Part.DROP_PATH, Part.ADD)
PARTS = tuple(part for part in BLOCK_PARTS if part not in OUTSIDE)
# From an expansion on: of the two widest maps of a block one is kept.
ACTIVATED = (Part.ACTIVATION, Part.GRN, Part.PROJECT)


@register
class Rematerialized(keras.layers.Layer):
    """Layers in a row whose results are not kept for the gradient.

    Args:
        layers: list of layers.
        **kwargs: `name`, `dtype` and so on.

    Call arguments:
        inputs: a tensor, for the first layer.

    Returns:
        What the last layer returns. The gradient computes it again.

    Examples:
        >>> layer = keras_convnext.models.rematerialization.Rematerialized(
        ...     [keras.layers.Dense(4), keras.layers.Dense(2)]
        ... )
        >>> keras.ops.shape(layer(keras.ops.ones((1, 3))))
        (1, 2)
    """

    def __init__(self, layers, **kwargs):
        super().__init__(**kwargs)
        self.layers = list(layers)

    def build(self, input_shape):
        for layer in self.layers:
            if not layer.built:
                layer.build(input_shape)
            input_shape = layer.compute_output_shape(input_shape)

    def call(self, inputs):
        return keras.remat(self._run)(inputs)

    def _run(self, x):
        for layer in self.layers:
            x = layer(x)
        return x

    def compute_output_shape(self, input_shape):
        for layer in self.layers:
            input_shape = layer.compute_output_shape(input_shape)
        return input_shape

    def get_config(self):
        layers = keras.saving.serialize_keras_object(self.layers)
        return {**super().get_config(), "layers": layers}

    @classmethod
    def from_config(cls, config):
        layers = keras.saving.deserialize_keras_object(config["layers"])
        return cls(**{**config, "layers": layers})


def rematerialized(model: keras.Model) -> keras.Model:
    """A model on the same weights that keeps one activation per block.

    Going backward it computes each block again: about a third more
    arithmetic, and of the activations of a block only its input is kept. On
    JAX this saves no memory on CPUs, whose compiler orders both passes freely.

    Args:
        model: a `ConvNeXtModel`, or a Functional model with the layers of one,
            not nested.

    Returns:
        A model of the same class that shares all layers. Train it and save
        the first: their weights are the same variables.

    Raises:
        ValueError: if the model has no blocks.

    Examples:
        >>> model = keras_convnext.ConvNeXtAtto(weights=None)
        >>> lean = keras_convnext.rematerialized(model)
        >>> lean.compile("adamw", "sparse_categorical_crossentropy")
    """
    if _is_done(model) or not _blocks(model):
        raise ValueError(
            "Expected a model with the blocks of a ConvNeXt, not nested in "
            f"another and not rematerialized yet. Received: {model.name!r}. "
            "Build upon `rematerialized(backbone)`"
        )
    return _computed_again(model, PARTS)


def for_training(model, rematerialize):
    """The model that is trained: what it keeps depends on where it runs.

    On TPUs it computes the activations of expansions again, see the figures
    in benchmarks/NOTES.md.

    Args:
        model: a `keras.Model`.
        rematerialize: bool, whether to compute whole blocks again.

    Returns:
        A model on the same layers, or the model itself.
    """
    if rematerialize:
        return rematerialized(model)
    if target() == "tpu" and not _is_done(model) and _blocks(model):
        return _computed_again(model, ACTIVATED)
    return model


def _is_done(model):
    return any(isinstance(x, Rematerialized) for x in model.layers)


def _blocks(model):
    """The layers of each block of a ConvNeXt by part, by name of the block."""
    blocks: dict[LayerName, dict[str, keras.layers.Layer]] = {}
    for layer in model.layers:
        name = parse(layer.name)
        if name.block is not None and name.part in PARTS:
            whole = name.of(Part.REMATERIALIZED)
            blocks.setdefault(whole, {})[name.part] = layer
    # Those of the roadmap's other networks have another order.
    return {k: v for k, v in blocks.items() if Part.DEPTHWISE in v}


def _computed_again(model, parts):
    """A model that keeps the input of such parts alone, which are in a row."""
    last, dropped = {}, set()
    for name, layers in _blocks(model).items():
        ordered = [layers[part] for part in parts if part in layers]
        *inner, end = (layer.name for layer in ordered)
        dropped.update(inner)
        last[end] = Rematerialized(
            ordered,
            name=str(name),
            dtype=ordered[0].dtype_policy,
        )

    def called(layer, *args, **kwargs):
        if layer.name in dropped:
            return args[0]
        # What is handed through to the last layer is the block's input.
        return last.get(layer.name, layer)(*args, **kwargs)

    return keras.models.clone_model(
        model, clone_function=lambda layer: layer, call_function=called
    )
