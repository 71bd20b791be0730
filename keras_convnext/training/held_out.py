"""Validation of runs whose figures have no sum over batches."""

import contextlib
from collections.abc import Callable
from typing import Any
from typing import NamedTuple

import keras
import numpy as np
from keras import ops

from keras_convnext.facts.labels import sigmoid
from keras_convnext.training import label_metrics
from keras_convnext.training import target_metrics
from keras_convnext.training.optimizers.averaging import averaged_weights


class Figures(NamedTuple):
    """What is measured of a task.

    Attributes:
        kind: what they are of, in words.
        best: the figure that the best epoch has most of.
        of_raw: those that are told of the raw weights beside averaged ones.
        measure: function of labels and the model's outputs to a dict of all,
            and to what the saved model keeps, or `None`.
    """

    kind: str
    best: str
    of_raw: tuple[str, ...]
    measure: Callable[..., tuple[dict[str, float], Any]]


def _of_labels(labels, logits):
    """Beside the figures the best thresholds for these images."""
    scores = sigmoid(logits)
    thresholds = label_metrics.best_thresholds(labels, scores)
    best = label_metrics.at(labels, scores, thresholds)
    figures = label_metrics.measured(labels, scores)
    return {**figures, "best_f1_macro": best["f1_macro"]}, thresholds


def _of_numbers(true, predicted):
    return target_metrics.measured(true, predicted), None


# By the task; of single labels Keras' metrics add up.
FIGURES = {
    "multi-label": Figures(
        "many labels",
        "map_macro",
        ("loss", "map_macro", "f1_macro"),
        _of_labels,
    ),
    "regression": Figures(
        "numbers", "r2", ("loss", *target_metrics.FIGURES), _of_numbers
    ),
}


class Validation(keras.callbacks.Callback):
    """Measures the held-out images after each epoch, all at once.

    The process that writes measures, and tells the others. The thresholds
    that are best for these images become those of the model that is saved: of
    the averaged weights, where the recipe averages.

    Args:
        cluster: the `Cluster`.
        loader: an `EvalLoader` of all the images.
        averages: whether averaged weights are the ones to measure.
        figures: of `FIGURES`.
        keep: function that takes what the saved model keeps.
    """

    def __init__(self, cluster, loader, averages, figures, keep):
        super().__init__()
        self.cluster, self.batches = cluster, _Recorded(loader)
        self.averages, self.figures, self.keep = averages, figures, keep

    def on_epoch_end(self, epoch, logs=None):
        if self.averages:
            figures = self._figures("val_raw_")
            chosen = [f"val_raw_{name}" for name in self.figures.of_raw]
            logs.update({name: figures[name] for name in chosen})
        weights = averaged_weights if self.averages else contextlib.nullcontext
        with weights(self.model):
            logs.update(self._figures("val_"))

    def _figures(self, prefix):
        figures = {}
        if self.cluster.is_writer:
            measured = self._measured()
            figures = {f"{prefix}{name}": x for name, x in measured.items()}
        return self.cluster.from_writer(figures)

    def _measured(self):
        outputs = self.model.predict(self.batches, verbose=0)
        labels, is_image = self.batches.labels()
        outputs, labels = outputs[is_image], labels[is_image]
        measured, kept = self.figures.measure(labels, outputs)
        if kept is not None:
            self.keep(kept)
        # Of each image: on TensorFlow the mean would be one of each device.
        outputs = ops.convert_to_tensor(outputs)
        labels = ops.convert_to_tensor(labels, outputs.dtype)
        losses = ops.convert_to_numpy(self.model.loss.call(labels, outputs))
        return {"loss": float(np.mean(losses)), **measured}


class _Recorded(keras.utils.PyDataset):
    """The images of a loader; keeps the labels of those that could be read."""

    def __init__(self, loader):
        super().__init__(workers=loader.workers)
        self.loader, self._rest = loader, {}

    def __len__(self):
        return len(self.loader)

    def __getitem__(self, index):
        images, *self._rest[index] = self.loader[index]
        return images

    def labels(self):
        """Rows of labels in the order of the images, and which are real.

        Of several devices the last batches are filled up, with weight 0.
        """
        rest = [self._rest[index] for index in range(len(self))]
        labels = np.concatenate([x[0] for x in rest])
        weights = [x[1] if len(x) > 1 else np.ones(len(x[0])) for x in rest]
        return labels, np.concatenate(weights) > 0
