"""Validation of runs whose images may have many labels, or none."""

import contextlib

import keras
import numpy as np
from keras import ops

from keras_convnext.facts.labels import sigmoid
from keras_convnext.training import label_metrics
from keras_convnext.training.optimizers.averaging import averaged_weights

# Of the raw weights beside averaged ones, a few.
OF_RAW = ("val_raw_loss", "val_raw_map_macro", "val_raw_f1_macro")


class Validation(keras.callbacks.Callback):
    """Measures the held-out images after each epoch, all at once.

    Average precision has no sum over batches. The process that writes
    measures, and tells the others. The thresholds that are best for these
    images become those of the model that is saved: of the averaged weights,
    where the recipe averages.

    Args:
        cluster: the `Cluster`.
        loader: an `EvalLoader` of all the images.
        averages: whether averaged weights are the ones to measure.
        keep: function that takes the thresholds.
    """

    def __init__(self, cluster, loader, averages, keep):
        super().__init__()
        self.cluster, self.batches = cluster, _Recorded(loader)
        self.averages, self.keep = averages, keep

    def on_epoch_end(self, epoch, logs=None):
        if self.averages:
            figures = self._figures("val_raw_")
            logs.update({name: figures[name] for name in OF_RAW})
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
        logits = self.model.predict(self.batches, verbose=0)
        labels, is_image = self.batches.labels()
        logits, labels = logits[is_image], labels[is_image]
        scores = sigmoid(logits)
        thresholds = label_metrics.best_thresholds(labels, scores)
        self.keep(thresholds)
        best = label_metrics.at(labels, scores, thresholds)
        loss = self.model.loss(labels, logits)
        return {
            "loss": float(ops.convert_to_numpy(loss)),
            **label_metrics.measured(labels, scores),
            "best_f1_macro": best["f1_macro"],
        }


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
