"""The moving average of a model's weights, put in their place for a while."""

import contextlib
import inspect
import weakref
from collections.abc import Iterator

import keras
import numpy as np
from keras import ops

# Their checkpoints are for the training to continue from: the raw weights.
TAKES_RAW_WEIGHTS = (keras.callbacks.BackupAndRestore,)
# The raw weights of models that have their average in place, by optimizer.
RAW_WEIGHTS: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


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
    variables, averages = variables_and_averages(model)
    raw_weights = copied(variables)
    try:
        assign(variables, averages)
        yield model
    finally:
        assign(variables, raw_weights)


class SwapAveragedWeights(keras.callbacks.Callback):
    """Shows the averaged weights to validation and to the other callbacks.

    `recipe.callbacks()` returns it. At the end of an epoch, `ModelCheckpoint`,
    `EarlyStopping` and all others find the weights that were validated, in any
    order of callbacks. Only `BackupAndRestore` saves the raw weights, which
    training continues from. After `fit` the model has the averaged weights of
    the last epoch; another `fit` continues with the raw ones, unless the
    weights have changed since.

    Raises:
        ValueError: from `fit`, if the optimizer keeps no average.

    Examples:
        >>> callbacks = [
        ...     keras_convnext.optimizers.SwapAveragedWeights(),
        ...     keras.callbacks.ModelCheckpoint(
        ...         "best.keras", save_best_only=True
        ...     ),
        ... ]
    """

    def set_model(self, model):
        super().set_model(model)
        callback_list = inspect.currentframe().f_back.f_locals.get("self")
        if isinstance(callback_list, keras.callbacks.CallbackList):
            # A new list: Keras is iterating over the old one.
            callback_list.callbacks = sorted(
                callback_list.callbacks, key=self._place
            )

    def _place(self, callback):
        if isinstance(callback, TAKES_RAW_WEIGHTS):
            return 0
        return 1 if callback is self else 2

    def on_train_begin(self, logs=None):
        raw_weights = RAW_WEIGHTS.pop(self.model.optimizer, None)
        if raw_weights is not None:
            variables, averages = variables_and_averages(self.model)
            if all(map(np.array_equal, copied(variables), copied(averages))):
                assign(variables, raw_weights)

    def on_epoch_begin(self, epoch, logs=None):
        self._swap_out()

    def on_epoch_end(self, epoch, logs=None):
        self._swap_in()

    def on_test_begin(self, logs=None):
        # Not so where a callback evaluates in its `on_epoch_end`.
        self.is_for_test = self._swap_in()

    def on_test_end(self, logs=None):
        if self.is_for_test:
            self._swap_out()

    on_predict_begin = on_test_begin
    on_predict_end = on_test_end

    def _swap_in(self):
        """Returns whether it did: the average may be in place already."""
        if self.model.optimizer in RAW_WEIGHTS:
            return False
        variables, averages = variables_and_averages(self.model)
        RAW_WEIGHTS[self.model.optimizer] = copied(variables)
        assign(variables, averages)
        return True

    def _swap_out(self):
        raw_weights = RAW_WEIGHTS.pop(self.model.optimizer, None)
        if raw_weights is not None:
            variables, _ = variables_and_averages(self.model)
            assign(variables, raw_weights)


def variables_and_averages(model):
    """The variables that have a moving average, and their averages."""
    optimizer = inner_optimizer(model)
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
    return [x for x, _ in pairs], [x for _, x in pairs]


def inner_optimizer(model):
    """A model's optimizer, without one that scales losses; or `None`."""
    optimizer = getattr(model, "optimizer", None)
    return getattr(optimizer, "inner_optimizer", optimizer)


def copied(variables):
    return [ops.convert_to_numpy(variable).copy() for variable in variables]


def assign(variables, values):
    for variable, value in zip(variables, values):
        # A variable given as it is might share its buffer afterwards.
        variable.assign(ops.copy(value))
