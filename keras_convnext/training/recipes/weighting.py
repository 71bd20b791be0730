"""What each class of a data set weighs in a recipe's loss."""

import numpy as np

from keras_convnext._util.checks import some
from keras_convnext.data import balancing
from keras_convnext.training.recipes.losses import OBJECTIVES

NONE = "Leave `class_weight_exponent` and `class_weights` out"


def check_weights(recipe):
    """Raises `ValueError` for weights that a recipe cannot train with."""
    if recipe.class_weights is not None:
        _check_given(recipe)
    reason = OBJECTIVES[recipe.loss].unweighed
    if reason is None or not recipe.weighs_classes:
        return
    advice = NONE
    if recipe.is_multi_label:
        advice += (
            ", take loss='binary', or draw images of rare labels more often: "
            "`class_sampling_exponent`"
        )
    raise ValueError(
        f"The loss {recipe.loss!r} {reason}, and takes no weights of classes. "
        f"Received: class_weight_exponent={recipe.class_weight_exponent}, "
        f"class_weights={recipe.class_weights}. {advice}"
    )


def _check_given(recipe):
    weights = recipe.class_weights
    is_named = isinstance(weights, dict) and all(
        isinstance(name, str) for name in weights
    )
    if not is_named or not weights:
        raise ValueError(
            "`class_weights` must be a dict from names of classes to numbers. "
            f"Received: class_weights={weights!r}"
        )
    if recipe.class_weight_exponent:
        raise ValueError(
            "Classes weigh what `class_weights` says, or what follows from "
            "their frequency. Received: class_weights="
            f"{weights} and class_weight_exponent="
            f"{recipe.class_weight_exponent}. Leave one of them out"
        )


def weights_for(recipe, model, data, is_own=False):
    """The weight of each output of a model.

    Args:
        recipe: a `Recipe`.
        model: the `keras.Model`.
        data: the `Source` that is trained on, or `None`.
        is_own: whether the loss is other than the recipe's.

    Returns:
        List of floats, or `None` if no class has one of its own.

    Raises:
        ValueError: if the recipe weighs classes that it cannot know.
    """
    if not recipe.weighs_classes:
        return None
    if is_own or data is None:
        missing = "a loss of your own" if is_own else "no `data`"
        raise ValueError(
            f"The recipe {recipe.name!r} weighs classes, in its own loss and "
            f"by the images of `data`. Received: {missing}. {NONE}, or pass "
            "`data=source` to `recipe.compile`, without a `loss`"
        )
    outputs = model.outputs[0].shape[-1]
    if len(data.classes) != outputs:
        raise ValueError(
            f"`data` must have the classes of the model. Received: "
            f"{len(data.classes)} classes for {model.name!r} with {outputs} "
            "outputs"
        )
    return of_classes(recipe, data).tolist()


def of_classes(recipe, data):
    """The weight of each class of a `Source`: `float64` array `(classes,)`.

    Raises:
        ValueError: if the recipe names classes that are not there, or leaves
            nothing to learn.
    """
    if recipe.class_weights is None:
        exponent, counts = recipe.class_weight_exponent, data.counts()
        if recipe.is_multi_label:
            return balancing.positive_weights(counts, len(data), exponent)
        return balancing.class_weights(counts, exponent)
    given = recipe.class_weights
    if unknown := sorted(given.keys() - set(data.classes)):
        raise ValueError(
            "`class_weights` must name classes of the data. Received: "
            f"{some(unknown)}, and {len(data.classes)} classes such as "
            f"{some(data.classes, 3)}"
        )
    weights = np.array([given.get(name, 1.0) for name in data.classes])
    if not weights.any():
        raise ValueError(
            "`class_weights` must leave some class to learn. Received: 0 for "
            f"all {len(weights)} classes"
        )
    return weights
