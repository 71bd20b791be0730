"""Validation in which every image counts once, on however many devices."""

import math

import keras
import numpy as np
from keras import ops

from keras_convnext.data.eval_loader import EvalLoader
from keras_convnext.training.class_scores import scores_of


class PaddedLoader(EvalLoader):
    """Batches of one size in every process, the last ones filled up.

    Compiled programs of several devices take nothing else. What fills up has
    the weight 0 and a class that no logit belongs to: it adds nothing to sums
    of losses and hits, and `remove_padding` takes it out of what they are
    divided by.

    Args:
        *arguments: as for `EvalLoader`; the batches are of this process.
    """

    def __init__(self, *arguments):
        super().__init__(*arguments)
        # By batch, of the last pass: an image may be readable only later.
        self._read = {}

    def __len__(self):
        process_count = self._numbers.step
        most = math.ceil(len(self.source) / process_count)
        return math.ceil(most / self.batch_size)

    def __getitem__(self, index):
        """Images, labels and weights."""
        source, size = self.source, self.batch_size
        images = np.zeros((size, *self._shape), "uint8")
        # One that no image has; many at a time hold none.
        labels = np.full(size, len(source.classes), "int32")
        if source.task != "single-label":
            labels = np.zeros((size, len(source.classes)), source.labels.dtype)
        weights = np.zeros(size, "float32")
        if index < self._batches:
            numbers, read = self.load(index)
            images[: len(read)] = read
            labels[: len(read)] = source.labels[numbers]
            weights[: len(read)] = 1.0
            self._read[index] = len(read)
        return images, labels, weights

    def remove_padding(self, model, cluster):
        """Subtracts the padding of the last batches from the metrics' counts.

        Args:
            model: whose metrics have seen all batches.
            cluster: a `Cluster`.

        Raises:
            ValueError: if no image could be read.
        """
        seen = len(self) * self.batch_size
        seen, read = cluster.total([seen, sum(self._read.values())])
        if not read:
            raise ValueError(
                "At least one image to validate on must be readable. "
                f"Received: none, such as {next(iter(self.skipped.items()))}"
            )
        for variable in model.metrics_variables:
            if variable.name == "count":
                variable.assign(variable * (read / seen))


class WholeValidation(keras.callbacks.Callback):
    """Makes the writer's metrics of a validation those of all its images.

    And adds to the logs of an epoch what follows from the counts of classes.

    Args:
        cluster: a `Cluster`.
        held_out: the loader of `cluster.eval_loader`.
        counts: the `ClassCounts` among the model's metrics, or `None`.

    Attributes:
        scores: dict of `balanced_accuracy` and `f1_macro` of the last
            validation.
    """

    def __init__(self, cluster, held_out, counts=None):
        super().__init__()
        self.cluster, self.held_out = cluster, held_out
        self.counts, self.scores = counts, {}

    def on_test_batch_end(self, batch, logs=None):
        if batch + 1 == len(self.held_out):
            self.cluster.metrics_to_writer(self.model)
            if isinstance(self.held_out, PaddedLoader):
                self.held_out.remove_padding(self.model, self.cluster)
            if self.counts is not None:
                variables = self.counts.variables
                self.scores = scores_of(*map(ops.convert_to_numpy, variables))

    def on_epoch_end(self, epoch, logs=None):
        logs.update({f"val_{name}": x for name, x in self.scores.items()})
