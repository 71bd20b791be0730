"""The processes and devices that train one model together."""

import contextlib
import os
from collections.abc import Iterable
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_convnext._util.telling import let_speak
from keras_convnext.data.eval_loader import EvalLoader
from keras_convnext.data.source import Source
from keras_convnext.images.preprocessing import Preprocessing
from keras_convnext.training.distribution.replicas import ALONE
from keras_convnext.training.distribution.shared_draws import with_shared_draws
from keras_convnext.training.recipes.base import BaseRecipe


class Cluster:
    """One process with one device; the backends' own derive from it.

    Every process runs the same training from top to bottom; only the first
    writes. The methods here are the common steps of all processes, which call
    them in the same order.

    Attributes:
        process_index, process_count: ints.
        device_count: int, how many devices of all processes share a batch.
        replicas: the `Replicas`, programs of which each sees a part of it.
        counts_apart: whether the metrics of each process count its own
            images only, until `metrics_to_writer`.
        predicts_alone: whether a process can predict without the others.
        eval_loader_class: the class of what `eval_loader` returns.
    """

    process_index = 0
    process_count = 1
    device_count = 1
    replicas = ALONE
    counts_apart = False
    predicts_alone = True
    eval_loader_class = EvalLoader

    @property
    def is_writer(self) -> bool:
        """Whether this process writes files and prints."""
        return self.process_index == 0

    def share_of(self, batch_size: int) -> int:
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

    def check(
        self, model: keras.Model, recipe: BaseRecipe, loader: str | None
    ) -> None:
        """Raises `ValueError` for what the engine cannot train by or from."""

    def for_training(self, model: keras.Model) -> keras.Model:
        """A model of the same weights whose random draws are shared out."""
        if self.replicas.count == 1:
            return model
        return with_shared_draws(model, self.replicas)

    def batches(self, batches: Iterable[Any]) -> Iterable[Any]:
        """Batches of a loader as `fit` can take them."""
        return batches

    def training(
        self, model: keras.Model, variables: list[keras.Variable]
    ) -> AbstractContextManager[Any]:
        """A context in which gradients are those of the whole batch.

        Args:
            model: the one that `fit` trains.
            variables: those that have a gradient in each step.
        """
        return contextlib.nullcontext()

    def check_detectors(self) -> None:
        """Raises `ValueError` if the engine cannot train a detector."""

    def check_held_out(self, kind: str) -> None:
        """Raises `ValueError` if no process can measure all images at once.

        Args:
            kind: what is measured of them, in words.
        """

    def eval_loader(
        self,
        source: Source,
        preprocessing: Preprocessing,
        batch_size: int,
        on_error: str,
    ) -> EvalLoader:
        """Batches for validation: every image once in the whole cluster."""
        devices = self.device_count // self.process_count
        return self.eval_loader_class(
            source,
            preprocessing,
            self.share_of(batch_size) * devices,
            on_error,
            self.process_index,
            self.process_count,
        )

    def largest(self, numbers: Sequence[float]) -> list[float]:
        """The largest of each number over all processes, as a list."""
        return self._gathered(numbers).max(axis=0).tolist()

    def total(self, numbers: Sequence[float]) -> list[float]:
        """The sum of each number over all processes, as a list."""
        return self._gathered(numbers).sum(axis=0).tolist()

    def from_writer(self, value: Any) -> Any:
        """The writer's value, which can be pickled, in each process."""
        return value

    def _gathered(self, numbers):
        """The numbers of all processes: a row of an array for each."""
        return np.array([numbers])

    def metrics_to_writer(self, model: keras.Model) -> None:
        """Moves to the writer what the others counted."""
        if not self.counts_apart:
            return
        variables = model.metrics_variables
        values = [np.asarray(ops.convert_to_numpy(x)) for x in variables]
        flat = np.concatenate([x.ravel() for x in values])
        sums = np.array(self.total(flat.astype("float64").tolist()))
        parts = np.split(sums, np.cumsum([x.size for x in values]))
        model.reset_metrics()
        if self.is_writer:
            for variable, value in zip(variables, parts):
                variable.assign(value.reshape(variable.shape))


_current = Cluster()


def current() -> Cluster:
    """The `Cluster` that `setup` made; one process alone without it.

    Examples:
        >>> keras_convnext.distribution.current().process_count
        1
    """
    return _current


def make_current(cluster):
    """Sets what `current` returns, and returns it."""
    global _current
    _current = cluster
    let_speak(cluster.is_writer)
    return cluster


def from_environment(name):
    """A variable's text, which who started this process must have set."""
    if name not in os.environ:
        raise ValueError(
            "Who starts several processes must tell each of them its place. "
            f"Received: an environment without {name}. Set it, or unset the "
            "other variables of the launcher to train on this process alone"
        )
    return os.environ[name]


def number_of_devices(asked, available, kind):
    """How many of the available devices to train on.

    Args:
        asked: int, or "all" or `None` for all of them.
        available: int.
        kind: what they are called in the error.
    """
    if asked in (None, "all"):
        return available
    if asked > available:
        is_cpu = kind.startswith("CPU")
        cores = f" on {number_of_cores()} cores" if is_cpu else ""
        raise ValueError(
            "There must be as many devices as are asked for. Received: "
            f"devices={asked}, and {available} {kind}{cores}. Take at most "
            f"{available}"
        )
    return asked


def number_of_cores():
    """How many cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS and Windows
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
