"""The processes and devices that train one model together."""

import contextlib

from keras_convnext.data.loading import EvalLoader


class Cluster:
    """One process with one device; the backends' own derive from it.

    Every process runs the same training from top to bottom; only the first
    writes. What the processes must do together are the methods here, which
    all of them call in the same order.

    Attributes:
        process_index, process_count: ints.
        device_count: int, how many devices of all processes share a batch.
        counts_apart: whether the metrics of each process count its own
            images only.
    """

    process_index = 0
    process_count = 1
    device_count = 1
    counts_apart = False

    @property
    def is_writer(self):
        """Whether this process writes files and prints."""
        return self.process_index == 0

    def share_of(self, batch_size):
        """How many images of a batch each device gets.

        Raises:
            ValueError: if not all get as many.
        """
        if batch_size % self.device_count:
            raise ValueError(
                "Every device needs as many images of a batch. Received: "
                f"batches of {batch_size} images (the recipe's `batch_size` "
                "over its `gradient_accumulation_steps`) on "
                f"{self.device_count} devices. Change one of them"
            )
        return batch_size // self.device_count

    def check(self, recipe, loader):
        """Raises `ValueError` for what the engine cannot train by or from."""

    def for_training(self, model):
        """A model of the same weights whose random draws are shared out."""
        return model

    def training(self, model):
        """A context in which gradients are those of the whole batch."""
        return contextlib.nullcontext()

    def eval_loader(self, source, preprocessing, batch_size, on_error):
        """Batches for validation: every image once in the whole cluster."""
        return EvalLoader(source, preprocessing, batch_size, on_error)

    def largest(self, numbers):
        """The largest of each number over all processes, as a list."""
        return list(numbers)

    def total(self, numbers):
        """The sum of each number over all processes, as a list."""
        return list(numbers)

    def from_writer(self, content):
        """A `uint8` array of the writer; in each process of the same size."""
        return content

    def whole_metrics(self, model, loader=None):
        """Makes metrics those of all images, when their last batch is over.

        Args:
            model: whose metrics.
            loader: what `eval_loader` gave; `None` in training.
        """

    def metrics_to_writer(self, model):
        """Moves to the writer what others counted, in the midst of an epoch."""


_current = Cluster()


def current():
    """The `Cluster` that `setup` made; one process alone without it.

    Example:

    >>> keras_convnext.distribution.current().process_count
    1
    """
    return _current


def make_current(cluster):
    """Sets what `current` returns, and returns it."""
    global _current
    _current = cluster
    return cluster
