"""All that a training step changes, as arrays by name."""

import numpy as np
from keras import ops

from keras_convnext.training.freezing import build_optimizer
from keras_convnext.training.optimizers.averaging import inner_optimizer


def capture(model, metrics=True):
    """Copies weights, random state, optimizer and metrics.

    Args:
        model: compiled and built, as after a training step.
        metrics: whether an epoch is under way, with metrics to go on with.

    Returns:
        A dict of arrays.

    Examples:
        >>> tensors = capture(model)  # doctest: +SKIP
    """
    return {
        name: np.array(ops.convert_to_numpy(variable))
        for name, variable in _variables(model, metrics)
    }


def restore(model, tensors):
    """Puts back what `capture` copied, all but the metrics.

    Args:
        model: compiled in the same way; its optimizer is built if need be.

    Returns:
        The arrays of the metrics, for `add_metrics`.

    Raises:
        ValueError: if the tensors are not those of such a model.

    Examples:
        >>> restore(model, tensors)  # doctest: +SKIP
    """
    build_optimizer(model)
    variables = dict(_variables(model, metrics=False))
    wrong = [
        name
        for name, variable in variables.items()
        if name not in tensors or tensors[name].shape != tuple(variable.shape)
    ]
    if wrong:
        raise ValueError(
            "The checkpoint must hold the state of this model and optimizer. "
            f"Received: {len(wrong)} tensors that are missing or have another "
            f"shape, such as {wrong[:3]}. Take the versions that wrote it, "
            "which are in `run.json`"
        )
    for name, variable in variables.items():
        variable.assign(tensors[name])
    return {x: tensors[x] for x in tensors.keys() - variables.keys()}


def add_metrics(model, tensors):
    """Adds the metrics of an epoch's first steps to those of the next.

    Their variables are sums. `fit` resets them when an epoch begins, and
    TensorFlow makes them in the first step only.
    """
    for name, variable in _metric_variables(model):
        # Runs that began under earlier versions have fewer, of the first.
        if name in tensors:
            variable.assign(variable + tensors[name])


def _variables(model, metrics):
    # Also what is kept still just now.
    trained = {id(x) for x in inner_optimizer(model)._trainable_variables}
    teacher = getattr(model, "teacher", None)  # which stays as it is
    others = {id(x) for x in teacher.variables} if teacher else set()
    variables = [x for x in model.variables if id(x) not in others]
    groups = {
        "trainable": [x for x in variables if id(x) in trained],
        # With the state of random generators.
        "non_trainable": [x for x in variables if id(x) not in trained],
        "optimizer": model.optimizer.variables,
    }
    for group, variables in groups.items():
        # Paths need not be unique, and those of generators are numbered by
        # the process.
        for number, variable in enumerate(variables):
            yield f"{group}/{number}", variable
    if metrics:
        yield from _metric_variables(model)


def _metric_variables(model):
    for number, variable in enumerate(model.metrics_variables):
        yield f"metrics/{number}", variable
