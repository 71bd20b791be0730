"""Loss and metrics of one label, many labels and numbers, and their checks."""

import keras

from keras_convnext.models.inspection import last_layer
from keras_convnext.models.units import units_of
from keras_convnext.training.recipes.labels import check_classes
from keras_convnext.training.recipes.losses import OBJECTIVES
from keras_convnext.training.recipes.objective import accuracies


def loss_of(recipe, model, weights):
    """The loss of the recipe's field, for a model that fits it."""
    make, dtype = OBJECTIVES[recipe.loss].loss, model.outputs[0].dtype
    units = units_of(model)
    if (units is not None) != recipe.is_regression:
        raise ValueError(
            "A recipe for numbers, with the loss 'huber' or 'squared', trains "
            "models that predict them in the units of their targets. Received: "
            f"loss={recipe.loss!r} by the recipe {recipe.name!r}, for "
            f"{model.name!r} with {'' if units else 'no '}units. "
            + (
                "Take `recipes.regression`"
                if units
                else "Pass `recipes.with_units(model, targets)`"
            )
        )
    if units is not None:
        return make(std=units.std, dtype=dtype)
    _check_logits(model)
    check_classes(model, recipe)
    smoothing = recipe.label_smoothing if recipe.smooths_in_loss else 0.0
    options = {} if weights is None else {"class_weights": weights}
    return make(label_smoothing=smoothing, dtype=dtype, **options)


def metrics_of(recipe, model):
    """What is measured of each batch; many labels only all together."""
    if recipe.is_multi_label:
        return None
    if recipe.is_regression:
        return [
            keras.metrics.MeanAbsoluteError(name="mae"),
            keras.metrics.RootMeanSquaredError(name="rmse"),
        ]
    return accuracies(model.outputs[0].shape[-1])


def check_regression(recipe):
    """Raises `ValueError` for what numbers in place of classes rule out."""
    reasons = {
        "label_smoothing": "there are no classes to spread a number over",
        "class_sampling_exponent": "there are no classes to draw alike",
        "cutmix_alpha": "a part of an image has not the same part of a number",
    }
    for field, reason in reasons.items():
        value = getattr(recipe, field)
        if any(value.values() if isinstance(value, dict) else [value]):
            raise ValueError(
                f"`{field}` must be 0 with loss={recipe.loss!r}: {reason}. "
                f"Received: {field}={value} in the recipe {recipe.name!r}. "
                f"Take `recipe.replace({field}=0.0)` with it, or "
                "`recipes.regression`"
            )


def _check_logits(model):
    last = last_layer(model)
    activation = getattr(last, "activation", None)
    if isinstance(last, keras.layers.Softmax):
        activation = keras.activations.softmax
    if activation in (None, keras.activations.linear):
        return
    raise ValueError(
        "The loss is computed from logits: build the model with "
        "`classifier_activation=None`, or with `recipe.build`. Received: the "
        f"model {model.name!r} whose last layer {last.name!r} "
        f"applies {activation.__name__}"
    )
