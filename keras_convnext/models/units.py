"""Models of regression, whose numbers are in the units of their targets."""

import keras
import numpy as np

from keras_convnext._util.annotations import ArrayLike
from keras_convnext.facts.layer_names import Part
from keras_convnext.layers import TargetUnits
from keras_convnext.models.inspection import last_layer
from keras_convnext.models.sigmoid import like
from keras_convnext.models.sigmoid import name_behind

# What float32 still tells apart, as a part of the mean.
LEAST_STD = 1e-5


def with_units(model: keras.Model, targets: ArrayLike) -> keras.Model:
    """A model of regression that predicts in the units of its targets.

    Its head is trained on standardized targets, of mean 0 and deviation 1;
    the last layer turns them back. `keras_convnext.train` does this by itself.

    Args:
        model: one that returns a number for each target, as `recipe.build`
            makes it. One that has units already keeps them.
        targets: those to train on, `(n,)` or `(n, targets)`, finite. A target
            that is always the same gets the deviation 1.

    Returns:
        A model of the same layers and weights, and a `TargetUnits`.

    Raises:
        ValueError: for a model with an activation, targets of another shape
            and such as float32 cannot tell apart.

    Examples:
        >>> recipe = keras_convnext.recipes.regression
        >>> model = recipe.build("convnext_atto", classes=["age"])
        >>> model = keras_convnext.recipes.with_units(model, [31.5, 44, 27])
        >>> round(model.layers[-1].mean[0], 2)
        34.17
    """
    if units_of(model) is not None:
        return model
    name = name_behind(model, Part.HEAD_UNITS)
    mean, std = _mean_and_std(model, np.asarray(targets, "float64"))
    # A year has more digits than float16 has.
    units = TargetUnits(mean, std, name=name, dtype="float32")
    return like(model, units(model.outputs[0]))


def units_of(model: keras.Model) -> TargetUnits | None:
    """The layer that ends a model of regression; `None` of other models."""
    last = last_layer(model)
    return last if isinstance(last, TargetUnits) else None


def _mean_and_std(model, targets):
    rows = targets[:, None] if targets.ndim == 1 else targets
    shape = (len(rows), model.output_shape[-1])
    if rows.shape != shape or not rows.size or not np.isfinite(rows).all():
        raise ValueError(
            "`targets` must be finite numbers with a column for each output of "
            f"the model, {shape[1]}. Received: targets of shape "
            f"{targets.shape} for {model.name!r}"
        )
    mean, std = rows.mean(axis=0), rows.std(axis=0)
    std[np.ptp(rows, axis=0) == 0] = 1.0
    hidden = np.flatnonzero(std < LEAST_STD * np.abs(mean))
    if len(hidden):
        place = hidden[0]
        raise ValueError(
            "Targets must differ by more than float32 can tell. Received: mean "
            f"{mean[place]:.8g} and deviation {std[place]:.3g} in column "
            f"{place}. Subtract a constant from them"
        )
    return mean.tolist(), std.tolist()
