"""Validation in which every image counts once, on however many devices."""

import math

import keras
import numpy as np

from keras_convnext.data.eval_loader import EvalLoader


class PaddedLoader(EvalLoader):
    """Batches of one size in every process, the last ones filled up.

    Compiled programs of several devices take nothing else. What fills up has
    the weight 0 and a class that no logit belongs to: it adds nothing to sums
    of losses and hits, and `uncount` takes it out of what they are divided by.

    Args:
        source, preprocessing, on_error: as for `EvalLoader`.
        batch_size: int, images in a batch of this process.
        process_index, process_count: ints.
    """

    def __init__(
        self,
        source,
        preprocessing,
        batch_size,
        on_error,
        process_index=0,
        process_count=1,
    ):
        super().__init__(
            source,
            preprocessing,
            batch_size,
            on_error,
            process_index,
            process_count,
        )
        # By batch, of the last pass: an image may be readable only later.
        self._read = {}
        most = math.ceil(len(source) / process_count)
        self._padded = math.ceil(most / batch_size)

    def __len__(self):
        return self._padded

    def __getitem__(self, index):
        """Images, labels and weights."""
        source, size = self.source, self.batch_size
        images = np.zeros((size, *self._shape), "uint8")
        labels = np.full(size, len(source.classes), "int32")
        weights = np.zeros(size, "float32")
        if index < self._batches:
            numbers, read = self.load(index)
            images[: len(read)] = read
            labels[: len(read)] = source.labels[numbers]
            weights[: len(read)] = 1.0
            self._read[index] = len(read)
        return images, labels, weights

    def uncount(self, model, cluster):
        """Takes what filled up out of the metrics' counts.

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


class WholeMetrics(keras.callbacks.Callback):
    """Makes the metrics of an epoch those of all processes and images.

    Args:
        cluster: a `Cluster`.
        run: the `Run`, whose step is that of the batch before.
        steps_per_epoch: int.
        held_out: what `cluster.eval_loader` gave, or `None`.
    """

    def __init__(self, cluster, run, steps_per_epoch, held_out):
        super().__init__()
        self.cluster, self.run = cluster, run
        self.steps_per_epoch = steps_per_epoch
        self.held_out = held_out

    def on_train_batch_end(self, batch, logs=None):
        if self.run.step % self.steps_per_epoch == 0:
            self.cluster.whole_metrics(self.model)

    def on_test_batch_end(self, batch, logs=None):
        if batch + 1 == len(self.held_out):
            self.cluster.whole_metrics(self.model, self.held_out)
