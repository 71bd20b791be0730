"""Classifiers of many labels: logits to train by, and scores to use."""

from collections.abc import Sequence

import keras

from keras_convnext._util.ranges import Part
from keras_convnext._util.ranges import in_range
from keras_convnext.facts.layer_names import Part as LayerPart
from keras_convnext.facts.layer_names import parse
from keras_convnext.models.inspection import last_layer
from keras_convnext.models.inspection import returns_logits
from keras_convnext.models.model import ConvNeXtModel


@in_range
def with_sigmoid(
    model: keras.Model, thresholds: Sequence[Part] | None = None
) -> keras.Model:
    """A classifier that returns a score of 0 to 1 for each of its labels.

    `keras_convnext.train` saves it for recipes of many labels. Exported, it
    has `scores` beside its `logits`.

    Args:
        model: one that returns logits `(batch, classes)`, or such scores
            already.
        thresholds: of each class the score from which on an image has it;
            0.5 if `None`. A model of this package keeps them in its `info`.

    Returns:
        A model of the same layers and weights.

    Raises:
        ValueError: if the model ends in another activation, or thresholds are
            not as many as its classes.

    Examples:
        >>> recipe = keras_convnext.recipes.multi_label
        >>> model = recipe.build("convnext_atto", classes=["cat", "dog"])
        >>> scored = keras_convnext.recipes.with_sigmoid(model, [0.4, 0.6])
        >>> scored.info.thresholds
        (0.4, 0.6)
    """
    if not ends_in_sigmoid(model):
        name = name_behind(model, LayerPart.HEAD_ACTIVATION)
        dtype = model.outputs[0].dtype
        scores = keras.layers.Activation("sigmoid", name=name, dtype=dtype)
        model = like(model, scores(model.outputs[0]))
    if thresholds is not None:
        _keep(model, thresholds)
    return model


def without_sigmoid(model: keras.Model) -> keras.Model:
    """The logits of a model of `with_sigmoid`; of others the model itself."""
    if not ends_in_sigmoid(model):
        return model
    return like(model, model.layers[-1].input)


def ends_in_sigmoid(model: keras.Model) -> bool:
    """Whether the last layer is a sigmoid of its own."""
    last = model.layers[-1]
    is_activation = isinstance(last, keras.layers.Activation)
    return is_activation and last.activation is keras.activations.sigmoid


def name_behind(model, part):
    """The name of a layer behind the logits; `None` for models of others.

    Raises:
        ValueError: for a model that returns no logits.
    """
    if not returns_logits(model):
        raise ValueError(
            "Expected a model that returns logits, such as "
            "`recipe.build` makes. Received: "
            f"{model.name!r} whose last layer is {last_layer(model).name!r}"
        )
    name = parse(last_layer(model).name)
    is_ours = name.part == LayerPart.HEAD_CLASSIFIER
    return str(name.of(part)) if is_ours else None


def like(model, output):
    """Another output of the same layers, in a model of the same kind."""
    kind = ConvNeXtModel if isinstance(model, ConvNeXtModel) else keras.Model
    return kind(model.inputs[0], output, name=model.name)


def _keep(model, thresholds):
    count = model.output_shape[-1]
    if not isinstance(model, ConvNeXtModel) or len(thresholds) != count:
        raise ValueError(
            "`thresholds` are one for each class of a model of this package. "
            f"Received: {len(thresholds)} thresholds for "
            f"{type(model).__name__} {model.name!r} with {count} outputs"
        )
    model.update_info(thresholds=tuple(map(float, thresholds)))
