"""The loop of every run: on to its last step, from wherever it was stopped."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

from keras_convnext._util.telling import tell
from keras_convnext.training import callbacks
from keras_convnext.training.run import Run


@dataclass(frozen=True)
class Work:
    """What a run trains, on what and for how long; in this a task differs.

    Attributes:
        model: compiled; the one that `fit` trains.
        saved: the model to save, with the same weights.
        batches: the loader: its `batches(first_step)`, `steps_per_epoch` and
            `skipped`.
        steps: int, of the whole run; they may end within an epoch.
        batch_size: images per step, of all devices.
        data, validation: the sources; the second may be `None`.
        metric: name of the figure that says which epoch was the best.
        measuring: callbacks that add figures to the logs of an epoch.
        held_out: what `fit` takes for `validation_data`, or `None`.
        averages: whether averaged weights are the ones measured.
        table: what `rich` prints of the data before the first step, or `None`.
    """

    model: keras.Model
    saved: keras.Model
    batches: Any
    steps: int
    batch_size: int
    data: Any
    validation: Any
    metric: str
    measuring: tuple = ()
    held_out: Any = None
    averages: bool = False
    table: Any = None


@dataclass(frozen=True)
class Saving:
    """How a run is kept; see `keras_convnext.train`."""

    resume: str
    minutes: float
    steps: int | None


def train(work: Work, run: Run, saving: Saving) -> dict[str, Any]:
    """Trains to the end, with checkpoints on the way; goes on if there is one.

    Every process of a cluster calls it with the same.

    Returns:
        The summary that `run.json` holds, in all processes.
    """
    model, cluster = work.model, run.cluster
    steps = work.batches.steps_per_epoch
    with run.opened(saving.resume):
        run.restore(model)
        watchers = [
            *work.measuring,
            callbacks.History(run, work.batch_size),
            callbacks.Models(run, work.saved, work.metric),
            # Its checkpoint of an epoch holds what the two before noted.
            callbacks.Checkpointing(
                run, steps, saving.minutes, saving.steps, work.steps
            ),
        ]
        progress = callbacks.Progress(
            run, work.steps, steps, work.batch_size, cluster.is_writer
        )
        if cluster.is_writer:
            watchers += [*callbacks.drawing(run), progress]
        progress.tell_beginning(
            work.data, work.validation, work.averages, work.table
        )
        with (
            progress.bar,
            cluster.training(model, model.trainable_variables),
        ):
            while run.step < work.steps:
                epoch, place = divmod(run.step, steps)
                # An epoch that has begun, or the last, may be a part of one;
                # then whole ones.
                whole = 0 if place else work.steps // steps
                model.fit(
                    cluster.batches(work.batches.batches(run.step)),
                    steps_per_epoch=min(steps - place, work.steps - run.step),
                    initial_epoch=epoch,
                    epochs=max(whole, epoch + 1),
                    validation_data=work.held_out,
                    callbacks=watchers,
                    shuffle=False,
                    verbose=0,
                )
        if work.validation is None and cluster.is_writer:
            tell("no validation images: `last.keras` has the last weights")
        summary = run.write_summary("complete", skipped=work.batches.skipped)
        return cluster.from_writer(summary)


def check_output(output, *sources):
    """Raises `ValueError` if what is written were data the next time."""
    for source in sources:
        while hasattr(source, "source"):  # a part of another
            source = source.source
        # A file with what is in the images, and their folder.
        paths = (getattr(source, name, None) for name in ("path", "folder"))
        paths = [Path(x).resolve() for x in paths if x]
        paths += [x.parent for x in paths if x.is_file()]
        if Path(output).resolve() in paths:
            raise ValueError(
                "The output must be in another folder than the images, of "
                f"which it would be a part. Received: output={str(output)!r}. "
                "Choose another folder"
            )
