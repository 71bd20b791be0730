"""The output folder of a run: what is in it, and how it goes on."""

import contextlib
import csv
import datetime
import importlib.metadata
import json
import math
import signal
import sys
import threading
from pathlib import Path

import keras

from keras_convnext._util.checks import one_of
from keras_convnext._util.version import __version__
from keras_convnext._util.writing import only_writer
from keras_convnext._util.writing import written_aside
from keras_convnext.models.model import ConvNeXtModel
from keras_convnext.training import state
from keras_convnext.training.checkpoints import Checkpoints
from keras_convnext.training.settings import differences
from keras_convnext.training.sharing import check_same
from keras_convnext.training.sharing import from_writer

RESUME = ("auto", "never")
PACKAGES = ("jax", "numpy", "pillow", "tensorflow", "tensorflow-cpu", "torch")


class Interrupted(SystemExit):
    """A signal ended the run after a last checkpoint; exits 128 + number."""


class NotFinite(ArithmeticError):
    """The loss is no number any more."""


class Run:
    """A training run in its output folder; a context that locks it.

    Args:
        output: path of the folder.
        settings: dict of JSON's types that must not change while a run goes
            on: recipe, model, data, seed.
        resume: `"auto"` or `"never"`.
        keep: how many checkpoints stay.

    Attributes:
        step: batches that the model has been trained on.
        history: list of one dict of metrics per finished epoch.
        best: dict from metric to its highest value so far.
        is_writer: whether this process is the one that writes.
    """

    is_writer = True

    def __init__(self, output, settings, resume="auto", keep=3):
        one_of("resume", resume, RESUME)
        self.output = Path(output)
        self.settings = json.loads(json.dumps(settings))
        self.resume = resume
        self.checkpoints = Checkpoints(self.output / "checkpoints", keep)
        self.step = 0
        self.history = []
        self.best = {}
        self.signal = None
        self._tensors = None
        self._began = _now()
        self._contexts = contextlib.ExitStack()

    def __enter__(self):
        self.output.mkdir(parents=True, exist_ok=True)
        # After an error in here `__exit__` is not called.
        with contextlib.ExitStack() as contexts:
            contexts.enter_context(only_writer(self.output / "run.lock"))
            if self.resume == "never" and self.checkpoints.steps():
                raise ValueError(
                    "With resume='never' the folder must hold no run. "
                    f"Received: {str(self.output)!r} with checkpoints up to "
                    f"step {self.checkpoints.steps()[-1]}. Choose another "
                    "folder, or remove this one"
                )
            self.checkpoints.clear_away()
            contexts.enter_context(self._signals())
            self._contexts = contexts.pop_all()
        return self

    def __exit__(self, *_):
        self._contexts.close()

    def restore(self, model, cluster):
        """Goes on from the last checkpoint, if there is one.

        Args:
            model: compiled.
            cluster: the `Cluster` that trains it.

        Raises:
            ValueError: if it is one of other settings, with the differences.
        """
        if cluster.process_count > 1:
            check_same(cluster, self.settings)
        found = self._found()
        if cluster.process_count > 1:
            found = from_writer(cluster, found, model)
        if found is not None:
            step, tensors, record = found
            state.restore(model, tensors)
            self.step = step
            if self.is_writer or not cluster.counts_apart:
                self._tensors = tensors
            self.history, self.best = record["history"], record["best"]
            self._take_over_old_names()
        self.write_summary("running")

    def _found(self):
        """The last checkpoint, which must be one of these settings."""
        found = self.checkpoints.latest()
        if found is not None:
            self._check(found[2]["settings"])
        return found

    def _take_over_old_names(self):
        """Earlier runs call the metrics of the average `val_ema_…`."""
        if not any("val_ema_loss" in row for row in self.history):
            return
        self.history = [_with_new_names(row) for row in self.history]
        self.best = _with_new_names(self.best)
        average = self.output / "best_ema.keras"
        # Its file goes last: killed before the next checkpoint, the run comes
        # here again, and must not take the average for the raw weights.
        if self.is_writer and average.exists():
            best = self.output / "best.keras"
            if best.exists():
                best.replace(self.output / "best_raw.keras")
            average.replace(best)

    @property
    def has_metrics(self):
        """Whether an epoch goes on whose first steps are still to count."""
        return self._tensors is not None

    def add_metrics(self, model):
        """Counts the steps before the checkpoint in the epoch's metrics."""
        state.add_metrics(model, self._tensors)
        self._tensors = None

    def save(self, model, in_epoch):
        """Writes a checkpoint of this step, which is within an epoch or not."""
        self.checkpoints.save(
            self.step,
            state.capture(model, metrics=in_epoch),
            {
                "settings": self.settings,
                "history": self.history,
                "best": self.best,
            },
        )

    def is_best(self, metric, value):
        """Whether a metric is higher than in all epochs before; notes it."""
        if not value > self.best.get(metric, -math.inf):
            return False
        self.best[metric] = value
        return True

    def write_model(self, name, model):
        """Saves a model without its optimizer, whole or not at all."""
        # Sharing all layers, and never compiled. Of other classes nobody knows
        # what their constructors take.
        is_ours = isinstance(model, ConvNeXtModel)
        kind = ConvNeXtModel if is_ours else keras.Model
        bare = kind(model.inputs[0], model.outputs[0], name=model.name)
        with written_aside(self.output / name) as unfinished:
            bare.save(unfinished)

    def write_history(self):
        """`history.csv`: a row for each epoch."""
        names = dict.fromkeys(name for row in self.history for name in row)
        with (
            written_aside(self.output / "history.csv") as unfinished,
            open(unfinished, "w", newline="") as file,
        ):
            writer = csv.DictWriter(file, list(names))
            writer.writeheader()
            writer.writerows(self.history)

    def write_summary(self, status, **more):
        """`run.json`: what ran, on what, and what came of it."""
        summary = self._summary(status, **more)
        with written_aside(self.output / "run.json") as unfinished:
            unfinished.write_text(json.dumps(summary, indent=1) + "\n")
        return summary

    def _summary(self, status, **more):
        return {
            "status": status,
            "command": sys.argv,
            "started": self._began,
            "written": _now(),
            "step": self.step,
            "epochs": len(self.history),
            "metrics": self.history[-1] if self.history else {},
            "best": self.best,
            "settings": self.settings,
            "versions": versions(),
            **more,
        }

    def _check(self, settings):
        found = differences(settings, "in the checkpoint", self.settings, "now")
        if found:
            raise ValueError(
                "A run goes on with the settings it began with. Received, for "
                f"{str(self.output)!r}:\n{found}\nRepeat the first command, or "
                "choose another folder for a new run"
            )

    @contextlib.contextmanager
    def _signals(self):
        """SIGINT and SIGTERM wait for the end of a step; twice ends at once."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def note(number, _):
            self.signal = number
            signal.signal(number, before[number])

        numbers = (signal.SIGINT, signal.SIGTERM)
        before = {x: signal.signal(x, note) for x in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


class Follower(Run):
    """The same run in a process that leaves all files to the writer."""

    is_writer = False

    def __enter__(self):
        self._contexts.enter_context(self._signals())
        return self

    def save(self, model, in_epoch):
        """The writer does."""

    def write_model(self, name, model):
        """The writer does."""

    def write_history(self):
        """The writer does."""

    def write_summary(self, status, **more):
        return self._summary(status, **more)

    def _found(self):
        return None


def _with_new_names(values):
    return {
        (
            name.replace("val_ema_", "val_")
            if name.startswith("val_ema_")
            else name.replace("val_", "val_raw_")
        ): value
        for name, value in values.items()
    }


def versions() -> dict[str, str]:
    """Of this package, Keras and what it may run on, as far as installed."""
    found = {
        "keras_convnext": __version__,
        "keras": keras.__version__,
        "backend": keras.backend.backend(),
        "python": sys.version.split()[0],
    }
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def _now():
    now = datetime.datetime.now(datetime.UTC)
    return now.isoformat(timespec="seconds")
