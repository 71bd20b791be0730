"""Labels that a loss cannot mean, found before they train.

A class number that is none, or several classes in a row, makes a loss like any
other: graphs raise nothing. So `fit` looks at its first batch on the host.
"""

import copy
import functools
import sys
import types

import keras
import numpy as np
from keras import ops

ROWS = 4096  # at most, of labels that come in one array
SEVERAL = "a recipe for many labels, `recipe.replace(loss='binary')`"


def check_classes(model, recipe):
    """Raises `ValueError` for one output, whose softmax is always 1."""
    if model.outputs[0].shape[-1] == 1 and recipe.task == "single-label":
        raise ValueError(
            f"The loss of the recipe {recipe.name!r} is a softmax over "
            "classes, which is 1 for a single one, whatever the image. "
            f"Received: the model {model.name!r} with one output. Build it "
            f"with `classes=2`, or take {SEVERAL}"
        )


def check_labels(labels, model, recipe):
    """Raises `ValueError` unless every image has one class, or shares of 1.

    With a recipe for many labels every image has one of 0 to 1 for each, and
    with one for numbers a finite number for each output.
    """
    labels = _array(labels)
    classes = model.outputs[0].shape[-1]
    if recipe.is_multi_label:
        return _check_many(labels, classes, model, recipe)
    if recipe.is_regression:
        return _check_numbers(labels, classes, model, recipe)
    if labels.ndim == 1 or labels.shape[1:] == (1,):
        is_class = (labels >= 0) & (labels < classes) & (labels % 1 == 0)
        if is_class.all():
            return
        problem = f"numbers of {labels.min()} to {labels.max()}"
        remedy = "Count the classes from 0, and build the model for all"
    elif labels.shape[1:] == (classes,):
        sums = labels[:ROWS].astype("float64").sum(-1)
        if np.allclose(sums, 1, atol=0.01):
            return
        problem = f"rows that sum to {sums.min():.4g} to {sums.max():.4g}"
        remedy = (
            "In a row of zeros a class number was none. Images of several "
            f"classes take {SEVERAL}"
        )
    else:
        problem = f"shape {labels.shape}"
        remedy = "Build the model for as many classes as there are"
    raise ValueError(
        f"The recipe {recipe.name!r} trains {model.name!r} for one of "
        f"{classes} classes in each image: `fit` takes class numbers of 0 to "
        f"{classes - 1}, or rows (batch, {classes}) that sum to 1. Received: "
        f"labels with {problem}. {remedy}"
    )


def _check_many(labels, classes, model, recipe):
    if labels.shape[1:] == (classes,):
        if ((labels >= 0) & (labels <= 1)).all():
            return
        problem = f"numbers of {labels.min()} to {labels.max()}"
        remedy = "Write 1 where an image has a label, and else 0"
    else:
        problem = f"shape {labels.shape}"
        remedy = (
            "Class numbers become rows by `keras.utils.to_categorical`; or "
            "train for one class in each image, `recipe.replace("
            "loss='softmax')`"
        )
    raise ValueError(
        f"The recipe {recipe.name!r} trains {model.name!r} for many labels, "
        f"with the loss {recipe.loss!r}: `fit` takes rows (batch, {classes}) "
        f"of 0 to 1. Received: labels with {problem}. {remedy}"
    )


def _check_numbers(labels, count, model, recipe):
    is_row = labels.shape[1:] == (count,) or (count == 1 and labels.ndim == 1)
    problem, remedy = f"shape {labels.shape}", "Build the model for as many"
    if is_row and labels.dtype.kind in "biuf":
        if np.isfinite(labels.astype("float64")).all():
            return
        problem, remedy = "NaN or infinity", "Leave out the images without one"
    raise ValueError(
        f"The recipe {recipe.name!r} trains {model.name!r} to predict {count} "
        f"numbers, with the loss {recipe.loss!r}: `fit` takes finite ones of "
        f"shape (batch, {count}). Received: targets with {problem}. {remedy}"
    )


def watch(model, check, dicts=False):
    """Makes `model.fit` call `check` on the labels of its first batch.

    And on those of validation that are arrays.

    Args:
        model: a compiled `keras.Model`.
        check: function of labels that raises `ValueError`. It is left out
            once the model is compiled with another loss.
        dicts: whether labels are dicts; else those are not looked at.
    """
    fit = type(model).fit.__get__(model)
    loss = model.loss

    @functools.wraps(fit)
    def watched(x=None, y=None, *args, **kwargs):
        if model.loss is not loss:
            return fit(x, y, *args, **kwargs)
        first = _First(check, dicts)
        validation = kwargs.get("validation_data")
        if isinstance(validation, tuple):
            _First(check, dicts).look_at(validation)
        try:
            return fit(first.watched(x, y), y, *args, **kwargs)
        except Exception:
            # TensorFlow makes an error of its own of one in its threads.
            if first.error is not None:
                raise first.error from None
            raise

    model.fit = watched


class _First:
    """Looks at the labels of the first batch, and remembers the error."""

    def __init__(self, check, dicts):
        self.check, self.is_done, self.error = check, False, None
        self.unseen = (list, tuple) if dicts else (dict, list, tuple)

    def look(self, labels):
        if self.is_done or isinstance(labels, self.unseen):
            return
        self.is_done = True
        try:
            self.check(labels)
        except ValueError as error:
            self.error = error
            raise

    def watched(self, x, y):
        """What `fit` takes as `x`; kinds that are not known as they are."""
        if y is not None:
            self.look(y)
        elif isinstance(x, keras.utils.PyDataset):
            self.look_at(x[0])
        elif isinstance(x, types.GeneratorType):
            return self._generated(x)
        elif hasattr(x, "element_spec"):
            return self._mapped(x)
        elif _is_loader(x):
            return self._loaded(x)
        return x

    def look_at(self, batch):
        if isinstance(batch, (tuple, list)) and len(batch) > 1:
            self.look(batch[1])

    def _generated(self, batches):
        for batch in batches:
            self.look_at(batch)
            yield batch
            break
        yield from batches

    def _loaded(self, loader):
        """The same `DataLoader`, whose batches pass by."""
        look_at = self.look_at

        class Watched(type(loader)):
            def __iter__(self):
                for batch in super().__iter__():
                    look_at(batch)
                    yield batch

        loader = copy.copy(loader)
        loader.__class__ = Watched
        return loader

    def _mapped(self, dataset):
        import tensorflow as tf

        def look(labels):
            self.look(labels)
            return np.True_

        def mapped(*batch):
            if len(batch) < 2 or not tf.is_tensor(batch[1]):
                return batch[0] if len(batch) == 1 else batch
            looked = tf.numpy_function(look, [batch[1]], tf.bool)
            with tf.control_dependencies([looked]):
                return (batch[0], tf.identity(batch[1]), *batch[2:])

        return dataset.map(mapped)


def _is_loader(x):
    loaders = sys.modules.get("torch.utils.data")
    return loaders is not None and isinstance(x, loaders.DataLoader)


def _array(values):
    is_tensor = ops.is_tensor(values)
    return ops.convert_to_numpy(values) if is_tensor else np.asarray(values)
