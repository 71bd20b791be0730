"""What happens beside the steps of `fit`: checkpoints, records, a bar."""

import math
import sys
import time
from contextlib import nullcontext

import keras
from keras import ops
from rich.progress import MofNCompleteColumn

from keras_convnext._util.progress import Rate
from keras_convnext._util.progress import new_bar
from keras_convnext._util.requirements import is_installed
from keras_convnext.training.optimizers.averaging import averaged_weights
from keras_convnext.training.run import Interrupted
from keras_convnext.training.run import NotFinite
from keras_convnext.visualize import learning_curves
from keras_convnext.visualize import written_figure

CURVES_EVERY = 30.0  # seconds


class AveragedValidation(keras.callbacks.Callback):
    """Validates with the averaged weights too.

    In the logs `val_accuracy` and so on become those of the average, as with
    `recipe.callbacks()`; those of the raw weights are `val_raw_accuracy`.

    Args:
        data: as `fit` takes for `validation_data`.
        watchers: list of callbacks of the evaluation.
    """

    def __init__(self, data, watchers):
        super().__init__()
        self.data, self.watchers = data, watchers

    def on_epoch_end(self, epoch, logs=None):
        with averaged_weights(self.model) as model:
            found = model.evaluate(
                self.data,
                verbose=0,
                return_dict=True,
                callbacks=self.watchers,
            )
        for name, value in found.items():
            logs[f"val_raw_{name}"] = logs[f"val_{name}"]
            logs[f"val_{name}"] = value


class Recorder(keras.callbacks.Callback):
    """Counts steps, writes checkpoints and what the output folder holds.

    Args:
        run: the `Run`.
        saved: the model to save, with the weights of the one in `fit`.
        batch_size: images per step.
        steps_per_epoch: int.
        minutes: float; a checkpoint inside an epoch whenever so much time is
            over.
        steps: int; one every so many steps, too.
        cluster: the `Cluster` whose processes all have such a callback.
    """

    def __init__(
        self,
        run,
        saved,
        batch_size,
        steps_per_epoch,
        minutes,
        steps,
        cluster,
    ):
        super().__init__()
        self.run = run
        self.saved = saved
        self.batch_size = batch_size
        self.steps_per_epoch = steps_per_epoch
        self.seconds = minutes * 60
        self.steps = steps
        self.cluster = cluster
        self.saved_at = time.monotonic()
        self.drawn_at = -math.inf

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch_began = time.monotonic()
        self.epoch_began_at_step = self.run.step

    def on_train_batch_end(self, batch, logs=None):
        run = self.run
        run.step += 1
        if run.has_metrics:
            run.add_metrics(self.model)
        self.trained_until = time.monotonic()
        # One process may see a signal, or the clock, a step before another.
        is_broken, signal, is_due = self.cluster.largest(
            [
                not math.isfinite(logs["loss"]),
                run.signal or 0,
                self.trained_until - self.saved_at > self.seconds
                or (self.steps is not None and run.step % self.steps == 0),
            ]
        )
        if is_broken:
            steps = run.checkpoints.steps()
            raise NotFinite(
                f"The loss is {logs['loss']} after step {run.step}, at the "
                f"learning rate {self._learning_rate():.3g}. "
                + (
                    f"The last good checkpoint is that of step {steps[-1]} in "
                    f"{str(run.checkpoints.folder)!r}. "
                    if steps
                    else "There is no checkpoint yet. "
                )
                + "Lower the learning rate, warm up for longer or clip the "
                "gradients (`global_clipnorm`)"
            )
        # After an epoch's last step its validation is still to come.
        if (signal or is_due) and run.step % self.steps_per_epoch:
            self.cluster.metrics_to_writer(self.model)
            self._save(signal, in_epoch=True)

    def on_epoch_end(self, epoch, logs=None):
        run, model = self.run, self.model
        seconds = self.trained_until - self.epoch_began
        images = (run.step - self.epoch_began_at_step) * self.batch_size
        run.history.append(
            {
                "epoch": epoch + 1,
                "step": run.step,
                "learning_rate": self._learning_rate(),
                **{name: float(value) for name, value in logs.items()},
                "images_per_second": round(images / seconds, 2),
            }
        )
        run.write_history()
        run.write_model("last.keras", self.saved)
        raw = logs.get("val_raw_accuracy")
        if run.is_best("val_accuracy", logs.get("val_accuracy", math.nan)):
            # The weights that were measured.
            is_averaged = raw is not None
            average = averaged_weights(model) if is_averaged else nullcontext()
            with average:
                run.write_model("best.keras", self.saved)
        if run.is_best("val_raw_accuracy", math.nan if raw is None else raw):
            run.write_model("best_raw.keras", self.saved)
        if time.monotonic() - self.drawn_at > CURVES_EVERY:
            self._draw()
        (signal,) = self.cluster.largest([run.signal or 0])
        self._save(signal, in_epoch=False)

    def on_train_end(self, logs=None):
        self._draw()

    def _save(self, signal, in_epoch):
        self.run.save(self.model, in_epoch)
        # The end of a process would end the writer in the midst of it.
        self.cluster.largest([0])
        self.saved_at = time.monotonic()
        if signal:
            if self.run.is_writer:
                print(
                    f"stopped by a signal after step {self.run.step}, which "
                    f"is saved in {str(self.run.checkpoints.folder)!r}: the "
                    "same command goes on from there",
                    file=sys.stderr,
                )
            raise Interrupted(128 + signal)

    def _draw(self):
        if not self.run.is_writer or not is_installed("matplotlib"):
            return
        figure = learning_curves(self.run.history)
        written_figure(figure, self.run.output / "curves.png")
        self.drawn_at = time.monotonic()

    def _learning_rate(self):
        rate = self.model.optimizer.learning_rate
        return float(ops.convert_to_numpy(rate))


class TensorBoardScalars(keras.callbacks.Callback):
    """Writes the metrics of every epoch for TensorBoard.

    Keras' own callback needs TensorFlow; this one only `tensorboard`.

    Args:
        folder: path of the logs.
    """

    def __init__(self, folder):
        super().__init__()
        from tensorboard.summary import Writer

        self.writer = Writer(str(folder))

    def on_epoch_end(self, epoch, logs=None):
        for name, value in logs.items():
            is_validation = name.startswith("val_")
            group = "validation" if is_validation else "training"
            tag = f"{group}/{name.removeprefix('val_')}"
            self.writer.add_scalar(tag, float(value), step=epoch + 1)
        self.writer.flush()


class Progress(keras.callbacks.Callback):
    """A line for every epoch; on terminals a bar with images/s and time left.

    Args:
        run: the `Run`, whose history has the row of a finished epoch.
        epochs, steps_per_epoch: of the whole run.
        batch_size: images per step.
    """

    def __init__(self, run, epochs, steps_per_epoch, batch_size):
        super().__init__()
        self.run = run
        self.epochs = epochs
        self.bar = new_bar([MofNCompleteColumn(), Rate("images", batch_size)])
        self.task = self.bar.add_task(
            "",
            total=epochs * steps_per_epoch,
            completed=run.step,
            note="compiling",
        )

    def on_train_begin(self, logs=None):
        self.bar.start()

    def on_epoch_begin(self, epoch, logs=None):
        title = f"epoch {epoch + 1}/{self.epochs}"
        self.bar.update(self.task, description=title)

    def on_train_batch_end(self, batch, logs=None):
        self.bar.update(self.task, completed=self.run.step, note=_as_text(logs))

    def on_test_begin(self, logs=None):
        self.bar.update(self.task, note="validating")

    def on_epoch_end(self, epoch, logs=None):
        row = self.run.history[-1]
        self.bar.console.print(
            f"epoch {epoch + 1}/{self.epochs}  {_as_text(logs)}  "
            f"lr {row['learning_rate']:.2e}  "
            f"{row['images_per_second']:.1f} images/s",
            highlight=False,
            soft_wrap=True,
        )

    def on_train_end(self, logs=None):
        self.close()

    def close(self):
        """Gives the terminal back, also after an error."""
        self.bar.stop()


def _as_text(logs):
    return "  ".join(f"{name} {float(x):.4f}" for name, x in logs.items())
