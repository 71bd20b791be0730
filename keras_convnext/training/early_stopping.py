"""A run that ends when it has not got better for some epochs."""

import math

import keras


class EarlyStopping(keras.callbacks.Callback):
    """Ends `fit` after some epochs without a better figure than before.

    Whether it does follows from the history of the run alone, which a
    checkpoint holds. The process that writes decides for all.

    Args:
        run: the `Run`, whose history has the row of a finished epoch.
        metric: the name of the figure; higher is better.
        patience: int, epochs; `None` for a run that never ends early.
        first_epoch: int; epochs before it do not count.
    """

    def __init__(self, run, metric, patience, first_epoch=0):
        super().__init__()
        self.run, self.metric = run, metric
        self.patience, self.first_epoch = patience, first_epoch

    def on_epoch_end(self, epoch, logs=None):
        if self.is_over():
            self.model.stop_training = True

    def is_over(self) -> bool:
        """Whether the run is; all processes ask, and hear the same."""
        if self.patience is None:
            return False
        is_over = self.run.cluster.is_writer and self.reason() is not None
        return bool(self.run.cluster.largest([is_over])[0])

    def reason(self) -> str | None:
        """Why the run is over, in words, or `None`."""
        if self.patience is None:
            return None
        values = [row.get(self.metric) for row in self.run.history]
        values = [-math.inf if _is_none(x) else x for x in values]
        best = max(range(len(values)), key=values.__getitem__, default=0)
        waited = len(values) - max(best + 1, self.first_epoch)
        if waited < self.patience:
            return None
        return (
            f"{self.metric} has not risen for {self.patience} epochs: it was "
            f"highest after epoch {best + 1}, {values[best]:.4f}"
        )


def _is_none(value):
    return value is None or math.isnan(value)
