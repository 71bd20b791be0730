"""Less memory for more arithmetic: blocks computed again going backward."""

import keras

from keras_convnext._util.serialization import register
from keras_convnext.facts.layer_names import BLOCK_PARTS
from keras_convnext.facts.layer_names import LayerName
from keras_convnext.facts.layer_names import Part
from keras_convnext.facts.layer_names import parse

# What is not computed again: random states are not drawn twice.
OUTSIDE = (Part.DROP_PATH, Part.ADD)
PARTS = tuple(part for part in BLOCK_PARTS if part not in OUTSIDE)


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
    arithmetic, and of the activations of a block only its input is kept.

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
    blocks: dict[LayerName, dict[str, keras.layers.Layer]] = {}
    for layer in model.layers:
        name = parse(layer.name)
        if name.block is not None and name.part in PARTS:
            whole = name.of(Part.REMATERIALIZED)
            blocks.setdefault(whole, {})[name.part] = layer
    is_done = any(isinstance(x, Rematerialized) for x in model.layers)
    if is_done or not blocks:
        raise ValueError(
            "Expected a model with the blocks of a ConvNeXt, not nested in "
            f"another and not rematerialized yet. Received: {model.name!r}. "
            "Build upon `rematerialized(backbone)`"
        )
    last, dropped = {}, set()
    for name, parts in blocks.items():
        ordered = [parts[part] for part in PARTS if part in parts]
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
