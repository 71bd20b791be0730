"""What happens beside the steps of `fit`: checkpoints, records, a bar."""

import datetime
import math
import time
from contextlib import nullcontext

import keras
from keras import ops

from keras_convnext._util.progress import Lines
from keras_convnext._util.progress import new_bar
from keras_convnext._util.requirements import is_installed
from keras_convnext._util.requirements import tell_left_out
from keras_convnext.training import state
from keras_convnext.training.optimizers.averaging import averaged_weights
from keras_convnext.training.optimizers.averaging import inner_optimizer
from keras_convnext.training.run import NotFinite
from keras_convnext.visualize import learning_curves
from keras_convnext.visualize import written_figure

CURVES_EVERY = 30.0  # seconds
DRAWN_BY = {"matplotlib": "curves.png", "tensorboard": "TensorBoard logs"}


class AveragedValidation(keras.callbacks.Callback):
    """Validates with the averaged weights too.

    In the logs `val_accuracy` and so on become those of the average, as with
    `recipe.callbacks()`; those of the raw weights are `val_raw_accuracy`.

    Args:
        data: as `fit` takes for `validation_data`.
        whole: the `WholeValidation` of it, whose own figures of the epoch are
            in the logs before.
    """

    def __init__(self, data, whole):
        super().__init__()
        self.data, self.whole = data, whole

    def on_epoch_end(self, epoch, logs=None):
        with averaged_weights(self.model) as model:
            averaged = model.evaluate(
                self.data,
                verbose=0,
                return_dict=True,
                callbacks=[self.whole],
            )
        for name, value in {**averaged, **self.whole.scores}.items():
            logs[f"val_raw_{name}"] = logs[f"val_{name}"]
            logs[f"val_{name}"] = value


class History(keras.callbacks.Callback):
    """Adds a row for each epoch to the history of the run.

    Args:
        run: the `Run`.
        batch_size: images per step.
    """

    def __init__(self, run, batch_size):
        super().__init__()
        self.run, self.batch_size = run, batch_size

    def on_epoch_begin(self, epoch, logs=None):
        self.began = time.monotonic()

    def on_train_batch_end(self, batch, logs=None):
        self.seconds = time.monotonic() - self.began
        self.images = (batch + 1) * self.batch_size

    def on_epoch_end(self, epoch, logs=None):
        self.run.history.append(
            {
                "epoch": epoch + 1,
                "step": self.run.step,
                "learning_rate": _learning_rate(self.model),
                **{name: float(value) for name, value in logs.items()},
                "images_per_second": round(self.images / self.seconds, 2),
            }
        )
        self.run.write_history()


class Models(keras.callbacks.Callback):
    """Saves the model after each epoch, and the best ones so far.

    Without validation images none is the best: the averaged weights, if the
    recipe averages, are kept beside the last.

    Args:
        run: the `Run`.
        saved: the model to save, with the weights of the one in `fit`.
        metric: what the best epoch has most of.
        merge: function that brings the weights of the one in `fit` into the
            other, where these are not the same.
    """

    def __init__(self, run, saved, metric="val_accuracy", merge=lambda: None):
        super().__init__()
        self.run, self.saved, self.metric = run, saved, metric
        self.merge = merge

    def on_epoch_end(self, epoch, logs=None):
        run = self.run
        self._write(run.result)
        metric = self.metric
        if metric not in logs and inner_optimizer(self.model).use_ema:
            with averaged_weights(self.model):
                self._write("last_averaged.keras")
        of_raw = metric.replace("val_", "val_raw_")
        raw = logs.get(of_raw, math.nan)
        if run.is_best(metric, logs.get(metric, math.nan)):
            # The weights that were measured. On JAX all processes put them
            # in place together.
            is_averaged = of_raw in logs
            weights = averaged_weights if is_averaged else nullcontext
            with weights(self.model):
                self._write("best.keras")
        if run.is_best(of_raw, raw):
            self._write("best_raw.keras")

    def _write(self, name):
        self.merge()
        self.run.write_model(name, self.saved)


class Curves(keras.callbacks.Callback):
    """Draws the history of the run, at most every `CURVES_EVERY` seconds.

    Args:
        run: the `Run`.
    """

    def __init__(self, run):
        super().__init__()
        self.run, self.drawn_at = run, -math.inf

    def on_epoch_end(self, epoch, logs=None):
        if time.monotonic() - self.drawn_at > CURVES_EVERY:
            self._draw()

    def on_train_end(self, logs=None):
        self._draw()

    def _draw(self):
        figure = learning_curves(self.run.history)
        written_figure(figure, self.run.output / "curves.png")
        self.drawn_at = time.monotonic()


def drawing(run):
    """The callbacks that draw, of those whose packages are installed; says
    which are left out."""
    tell_left_out(DRAWN_BY)
    return [Curves(run)] if is_installed("matplotlib") else []


class Checkpointing(keras.callbacks.Callback):
    """Counts the steps of a run, and saves or ends it after some of them.

    All processes have one: after each step they agree on what to do.

    Args:
        run: the `Run`.
        steps_per_epoch: int.
        minutes: float; a checkpoint inside an epoch whenever so much time is
            over.
        steps: int; one every so many steps, too.
        last: int, the run's last step, which may be within an epoch.
    """

    def __init__(self, run, steps_per_epoch, minutes, steps, last=None):
        super().__init__()
        self.run = run
        self.steps_per_epoch, self.last = steps_per_epoch, last
        self.seconds = minutes * 60
        self.steps = steps
        self.saved_at = time.monotonic()

    def on_train_batch_end(self, batch, logs=None):
        run = self.run
        run.step += 1
        if run.earlier_metrics:
            state.add_metrics(self.model, run.earlier_metrics)
            run.earlier_metrics = {}
        # One process may see a signal, or the clock, a step before another.
        is_broken, signal, is_due = run.cluster.largest(
            [
                not math.isfinite(logs["loss"]),
                run.signal or 0,
                time.monotonic() - self.saved_at > self.seconds
                or (self.steps is not None and run.step % self.steps == 0),
            ]
        )
        if is_broken:
            raise _not_finite(run, logs["loss"], _learning_rate(self.model))
        # After an epoch's last step its validation is still to come.
        if run.step % self.steps_per_epoch == 0 or run.step == self.last:
            run.cluster.metrics_to_writer(self.model)
        elif signal or is_due:
            self._save(signal, in_epoch=True)

    def on_epoch_end(self, epoch, logs=None):
        (signal,) = self.run.cluster.largest([self.run.signal or 0])
        self._save(signal, in_epoch=False)

    def _save(self, signal, in_epoch):
        self.run.save(self.model, in_epoch)
        self.saved_at = time.monotonic()
        if signal:
            self.run.interrupt(signal)


class Progress(keras.callbacks.Callback):
    """A line for every epoch; on terminals a bar with images/s and time left.

    Without a bar a line after the first step, which compiles, and then one
    every `progress.LINES` seconds.

    Args:
        run: the `Run`, whose history has the row of a finished epoch.
        steps: of the whole run.
        steps_per_epoch: of one pass over the data.
        batch_size: images per step.
        verbose: whether to show the bar and print lines.

    Attributes:
        bar: a context in which the bar is shown.
    """

    def __init__(self, run, steps, steps_per_epoch, batch_size, verbose=True):
        super().__init__()
        self.run = run
        self.steps, self.steps_per_epoch = steps, steps_per_epoch
        self.epochs = math.ceil(steps / steps_per_epoch)
        self.batch_size = batch_size
        self.verbose = verbose
        self.bar = new_bar(
            unit="images", units_per_step=batch_size, verbose=verbose
        )
        self.task = self.bar.add_task(
            "",
            total=steps,
            completed=run.step,
            note="compiling",
        )
        self.lines = Lines(wait=0.0)
        self.is_silent = not self.bar.disable or not verbose
        self.first = None

    def tell_beginning(
        self,
        data,
        validation,
        averages=False,
        table=None,
        reason=None,
        is_labeled=True,
    ):
        """Prints what is trained on, and where an earlier run goes on.

        Args:
            data, validation: the `Source`s; the second may be `None`.
            averages: whether the averaged weights are the ones measured.
            table: what else to print before the first step, or `None`.
            reason: why the run ended before its last step, or `None`.
            is_labeled: whether labels are trained on.
        """
        held_out = "none" if validation is None else f"{len(validation)}"
        is_regression = getattr(data, "is_regression", False)
        kind = "targets" if is_regression else "classes"
        self._print(
            f"{len(data)} images of {len(data.classes)} {kind}; held out: "
            f"{held_out}"
            if is_labeled
            else f"{len(data)} images, of which no labels are looked at"
        )
        run, steps = self.run, self.steps
        if run.step >= steps or reason:
            epochs = len(run.history) if reason else self.epochs
            self._print(
                f"{str(run.output)!r} holds a complete run, of {epochs} "
                f"epochs and {run.step} steps: nothing is left to do. "
                f"{run.how_to_train_on()}"
            )
        elif run.step:
            epoch = run.step // self.steps_per_epoch
            self._print(
                f"goes on from step {run.step} of {steps}, in epoch "
                f"{epoch + 1} of {self.epochs}, by the checkpoint in "
                f"{str(run.checkpoints.folder)!r}"
            )
        elif averages and validation is not None:
            self._print(
                "val_… is measured with the averaged weights, which lag behind "
                "in the first epochs; val_raw_… with the last ones"
            )
        if table is not None and not run.step:
            self._print(table)

    def _print(self, text):
        if self.verbose:
            is_text = isinstance(text, str)
            self.bar.console.print(
                text, highlight=False, markup=False, soft_wrap=is_text
            )

    def on_epoch_begin(self, epoch, logs=None):
        title = f"epoch {epoch + 1}/{self.epochs}"
        self.bar.update(self.task, description=title)

    def on_train_batch_end(self, batch, logs=None):
        self.bar.update(self.task, completed=self.run.step, note=_as_text(logs))
        if not self.is_silent:
            self.lines.say(lambda: self._line(logs))
            # The first step compiles, and tells nothing of the others.
            self.first = self.first or (self.run.step, time.monotonic())

    def _line(self, logs):
        step, total = self.run.step, self.steps
        epoch, place = divmod(step - 1, self.steps_per_epoch)
        line = (
            f"epoch {epoch + 1}/{self.epochs}  step {place + 1}/"
            f"{self.steps_per_epoch}  {_as_text(logs)}"
        )
        if self.first is None:
            return line
        first, began = self.first
        rate = (step - first) / (time.monotonic() - began)
        left = datetime.timedelta(seconds=round((total - step) / rate))
        return f"{line}  {rate * self.batch_size:.1f} images/s  {left} left"

    def on_test_begin(self, logs=None):
        self.bar.update(self.task, note="validating")

    def on_epoch_end(self, epoch, logs=None):
        row = self.run.history[-1]
        self._print(
            f"epoch {epoch + 1}/{self.epochs}  {_as_text(logs)}  "
            f"lr {row['learning_rate']:.2e}  "
            f"{row['images_per_second']:.1f} images/s"
        )


def _learning_rate(model):
    return float(ops.convert_to_numpy(model.optimizer.learning_rate))


def _not_finite(run, loss, learning_rate):
    steps = run.checkpoints.steps()
    return NotFinite(
        f"The loss is {loss} after step {run.step}, at the learning rate "
        f"{learning_rate:.3g}. "
        + (
            f"The last good checkpoint is that of step {steps[-1]} in "
            f"{str(run.checkpoints.folder)!r}. "
            if steps
            else "There is no checkpoint yet. "
        )
        + "Lower the learning rate, warm up for longer or clip the "
        "gradients (`global_clipnorm`)"
    )


def _as_text(logs):
    return "  ".join(f"{name} {float(x):.4f}" for name, x in logs.items())
