"""The output folder of a run: what is in it, and how it goes on."""

import contextlib
import csv
import datetime
import json
import math
import shlex
import signal
import sys
import threading
from pathlib import Path

import keras

from keras_convnext._util.checks import one_of
from keras_convnext._util.json_files import check_fields
from keras_convnext._util.requirements import versions
from keras_convnext._util.serialization import is_registered
from keras_convnext._util.writing import make_folder
from keras_convnext._util.writing import only_writer
from keras_convnext._util.writing import written_aside
from keras_convnext.training import state
from keras_convnext.training.checkpoints import Checkpoints
from keras_convnext.training.distribution.cluster import Cluster
from keras_convnext.training.settings import differences
from keras_convnext.training.sharing import check_same
from keras_convnext.training.sharing import from_writer

RESUME = ("auto", "never")
# What a checkpoint's record holds.
RECORD = {"settings": dict, "history": list, "best": dict}


class Interrupted(SystemExit):
    """A signal ended the run after a last checkpoint; exits 128 + number."""


class NotFinite(ArithmeticError):
    """The loss is no number any more."""


class Run:
    """A training run in its output folder.

    Every process has one, and they do the same; but only that of the writer
    reads and writes files.

    Args:
        output: path of the folder.
        settings: dict of JSON's types that must not change while a run goes
            on: recipe, model, data, seed.
        keep: how many checkpoints stay.
        cluster: the `Cluster` that trains; this process alone if `None`.
        result: name of the file for the model after each epoch.
        command: the one of the command line that trains such a model.

    Attributes:
        step: batches that the model has been trained on.
        history: list of one dict of metrics per finished epoch.
        best: dict from metric to its highest value so far.
        signal: number of the signal that came, or `None`.
        earlier_metrics: dict of arrays; those of the epoch's first steps,
            which this process did not see and has still to count.
    """

    def __init__(
        self,
        output,
        settings,
        keep=3,
        cluster=None,
        result="last.keras",
        command="train",
    ):
        self.output = Path(output)
        self.result, self.command = result, command
        self.settings = json.loads(json.dumps(settings))
        self.checkpoints = Checkpoints(self.output / "checkpoints", keep)
        self.cluster = cluster or Cluster()
        self.step = 0
        self.history = []
        self.best = {}
        self.signal = None
        self.earlier_metrics = {}
        self._began = _now()
        self._is_begun = False

    @contextlib.contextmanager
    def opened(self, resume="auto"):
        """A context in which this run alone writes, and signals wait.

        Args:
            resume: `"auto"` or `"never"`.

        Raises:
            ValueError: if another run writes to the folder, or if there is
                one to go on with and `resume` is `"never"`.
        """
        one_of("resume", resume, RESUME)
        with contextlib.ExitStack() as contexts:
            if self.cluster.is_writer:
                make_folder(self.output)
                contexts.enter_context(only_writer(self.output / "run.lock"))
                self._check_resume(resume)
                self.checkpoints.clear_away()
            contexts.enter_context(self._signals())
            contexts.enter_context(self._end_noted())
            yield self

    def _check_resume(self, resume):
        steps = self.checkpoints.steps()
        if resume == "never" and steps:
            raise ValueError(
                "With resume='never' the folder must hold no run. Received: "
                f"{str(self.output)!r} with checkpoints up to step "
                f"{steps[-1]}. Choose another folder, or remove this one"
            )

    def restore(self, model):
        """Goes on from the last checkpoint, if there is one.

        Args:
            model: compiled.

        Raises:
            ValueError: if it is one of other settings, with the differences.
        """
        cluster = self.cluster
        check_same(cluster, self.settings)
        checkpoint = None
        if cluster.is_writer:
            checkpoint = self.checkpoints.latest(check_record)
        if checkpoint is not None:
            self._check_settings(checkpoint[2]["settings"])
        if cluster.process_count > 1:
            checkpoint = from_writer(cluster, checkpoint, model)
        if checkpoint is not None:
            self.step, tensors, record = checkpoint
            metrics = state.restore(model, tensors)
            if cluster.is_writer or not cluster.counts_apart:
                self.earlier_metrics = metrics
            self.history, self.best = record["history"], record["best"]
            self._take_over_old_names()
        self.write_summary("running")
        self._is_begun = True

    def _take_over_old_names(self):
        """Earlier runs call the metrics of the average `val_ema_…`."""
        if not any("val_ema_loss" in row for row in self.history):
            return
        self.history = [_with_new_names(row) for row in self.history]
        self.best = _with_new_names(self.best)
        average = self.output / "best_ema.keras"
        # Its file goes last: killed before the next checkpoint, the run comes
        # here again, and must not take the average for the raw weights.
        if self.cluster.is_writer and average.exists():
            best = self.output / "best.keras"
            if best.exists():
                best.replace(self.output / "best_raw.keras")
            average.replace(best)

    def save(self, model, in_epoch):
        """Writes a checkpoint of this step, which is within an epoch or not."""
        if in_epoch:
            self.cluster.metrics_to_writer(model)
        if self.cluster.is_writer:
            self.checkpoints.save(
                self.step,
                state.capture(model, metrics=in_epoch),
                {
                    "settings": self.settings,
                    "history": self.history,
                    "best": self.best,
                },
            )
        # The end of a process would end the writer in the midst of it.
        self.cluster.largest([0])

    def interrupt(self, signal):
        """Ends the run after a checkpoint, and says how it goes on."""
        if self.cluster.is_writer:
            print(
                f"stopped by a signal after step {self.step}, which is saved "
                f"in {str(self.checkpoints.folder)!r}: the same command goes "
                "on from there",
                file=sys.stderr,
            )
        raise Interrupted(128 + signal)

    def is_best(self, metric, value):
        """Whether a metric is higher than in all epochs before; notes it."""
        if not value > self.best.get(metric, -math.inf):
            return False
        self.best[metric] = value
        return True

    def write_model(self, name, model):
        """Saves a model without its optimizer, whole or not at all."""
        if not self.cluster.is_writer:
            return
        # Sharing all layers, and never compiled. Of other classes nobody knows
        # what their constructors take.
        if is_registered(type(model)):
            bare = type(model)(model.input, model.output, name=model.name)
        else:
            bare = keras.Model(
                model.inputs[0], model.outputs[0], name=model.name
            )
        with written_aside(self.output / name) as unfinished:
            bare.save(unfinished)

    def write_history(self):
        """`history.csv`: a row for each epoch."""
        if not self.cluster.is_writer:
            return
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
        summary = {
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
        if self.cluster.is_writer:
            with written_aside(self.output / "run.json") as unfinished:
                unfinished.write_text(json.dumps(summary, indent=1) + "\n")
        return summary

    def _check_settings(self, settings):
        """Raises `ValueError` for those of a checkpoint of another run."""
        unlike = differences(
            settings, "in the checkpoint", self.settings, "now"
        )
        if unlike:
            raise ValueError(
                "A run goes on with the settings it began with. Received, for "
                f"{str(self.output)!r}:\n{unlike}\n{self._advice(unlike)}"
            )

    def _advice(self, unlike):
        """What to do about settings unlike those of the last checkpoint."""
        advice = (
            "Repeat the first command, or choose another folder for a new run"
        )
        has_model = (self.output / self.result).exists()
        lengths = ("epochs", "steps")
        length = next((x for x in lengths if f"  recipe.{x}: " in unlike), None)
        if length is None or not has_model:
            return advice
        return (
            f"{advice}. The learning rate of every step follows from "
            f"`{length}`, "
            f"so no run can be made longer. {self.how_to_train_on()}"
        )

    def how_to_train_on(self) -> str:
        """How a new run begins with the weights that this one ended with."""
        model, output = self.output / self.result, f"{self.output}_2"
        return (
            "To train its model on, begin a new run with it: `keras-convnext "
            f"{self.command} --model {shlex.quote(str(model))} --output "
            f"{shlex.quote(output)}` and the other options; in Python, "
            f"`keras.saving.load_model({str(model)!r})`"
        )

    @contextlib.contextmanager
    def _end_noted(self):
        """Whatever ends a run that has begun, `run.json` tells it."""
        try:
            yield
        except BaseException as error:
            if self._is_begun:
                said = f"{type(error).__name__}: {error}".removesuffix(": ")
                # On a full disk it may be impossible.
                with contextlib.suppress(OSError):
                    self.write_summary(status_of(error), error=said)
            raise

    @contextlib.contextmanager
    def _signals(self):
        """SIGINT and SIGTERM wait for the end of a step; twice ends at once."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def note(number, _):
            self.signal = number
            handler = before[number]
            # The system's own would end the process, and nothing be noted.
            is_default = handler is signal.SIG_DFL
            signal.signal(number, end if is_default else handler)

        def end(number, _):
            signal.signal(number, before[number])
            raise Interrupted(128 + number)

        numbers = (signal.SIGINT, signal.SIGTERM)
        before = {x: signal.signal(x, note) for x in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def status_of(error: BaseException) -> str:
    """What `run.json` calls the end that an error made of a run."""
    stops = (SystemExit, KeyboardInterrupt)
    return "stopped" if isinstance(error, stops) else "failed"


def check_record(record):
    """Raises `ValueError` for that of a checkpoint which is damaged."""
    check_fields(record, RECORD, "its record")
    for row in record["history"]:
        check_fields(row, {}, "a row of its history")
    for value in record["best"].values():
        if not isinstance(value, (int, float)):
            raise ValueError("its best metrics are no numbers")


def _with_new_names(values):
    return {
        (
            name.replace("val_ema_", "val_")
            if name.startswith("val_ema_")
            else name.replace("val_", "val_raw_")
        ): value
        for name, value in values.items()
    }


def _now():
    now = datetime.datetime.now(datetime.UTC)
    return now.isoformat(timespec="seconds")
