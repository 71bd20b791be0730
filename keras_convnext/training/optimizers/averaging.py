"""The moving average of a model's weights, put in their place for a while."""

import contextlib
from collections.abc import Iterator

import keras
from keras import ops


@contextlib.contextmanager
def averaged_weights(model: keras.Model) -> Iterator[keras.Model]:
    """Within it the model has the averaged weights; after it its own again.

    Args:
        model: compiled by a recipe with an `ema_decay`, or with any optimizer
            that has `use_ema=True`.

    Raises:
        ValueError: if the optimizer keeps no average, or has not begun.

    Examples:
        >>> with keras_convnext.optimizers.averaged_weights(
        ...     model
        ... ):  # doctest: +SKIP
        ...     model.save("averaged.keras")
    """
    optimizer = getattr(model, "optimizer", None)
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    # As Keras' own callback finds them.
    averages = getattr(optimizer, "_model_variables_moving_average", None)
    if optimizer is None or averages is None:
        raise ValueError(
            "Expected a model whose optimizer keeps an average of the "
            "weights: compile it with a recipe that has an `ema_decay`, and "
            "train. Received: the model "
            f"{model.name!r} with optimizer {optimizer!r}"
        )
    pairs = [
        (variable, average)
        for variable, average in zip(optimizer._trainable_variables, averages)
        if average is not None
    ]
    own = [ops.convert_to_numpy(variable).copy() for variable, _ in pairs]
    try:
        for variable, average in pairs:
            variable.assign(ops.copy(average))
        yield model
    finally:
        for (variable, _), value in zip(pairs, own):
            variable.assign(value)
