"""The loop of every run: on to its last step, from wherever it was stopped."""

import math
from collections.abc import Callable
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

from keras_convnext._util.telling import tell
from keras_convnext.training import callbacks
from keras_convnext.training import freezing
from keras_convnext.training.early_stopping import EarlyStopping
from keras_convnext.training.run import Run
from keras_convnext.training.tracking import Tracking


@dataclass(frozen=True)
class Stage:
    """Epochs of a run in which the same weights learn from images of one size.

    Attributes:
        first_epoch: int, from 0.
        batches: the loader: its `batches(first_step)`, `steps_per_epoch` and
            `skipped`.
        trained: the variables that are trainable in it; all that are in the
            others, too, if `None`.
    """

    first_epoch: int
    batches: Any
    trained: Any = None


@dataclass(frozen=True)
class Work:
    """What a run trains, on what and for how long; in this a task differs.

    Attributes:
        model: compiled; the one that `fit` trains.
        saved: the model to save, with the same weights.
        stages: tuple of `Stage`s in order, the first from epoch 0 on.
        steps: int, of the whole run; they may end within an epoch.
        batch_size: images per step, of all devices.
        data, validation: the sources; the second may be `None`.
        metric: name of the figure that says which epoch was the best; `None`
            where nothing is held out, nor labels are trained on.
        measuring: callbacks that add figures to the logs of an epoch.
        held_out: what `fit` takes for `validation_data`, or `None`.
        averages: whether averaged weights are the ones measured.
        table: what `rich` prints of the data before the first step, or `None`.
        merge: function that brings the weights of `model` into `saved`, where
            these are not the same.
        patience: int, epochs without a higher `metric` after which the run is
            over, or `None`.
    """

    model: keras.Model
    saved: keras.Model
    stages: tuple[Stage, ...]
    steps: int
    batch_size: int
    data: Any
    validation: Any
    metric: str | None
    measuring: tuple = ()
    held_out: Any = None
    averages: bool = False
    table: Any = None
    merge: Callable[[], None] = lambda: None
    patience: int | None = None

    @property
    def batches(self) -> Any:
        """The loader of the last stage."""
        return self.stages[-1].batches

    def stage_of(self, epoch: int) -> tuple[Stage, float]:
        """The stage of an epoch, and the epoch in which it is over."""
        *_, stage = (x for x in self.stages if x.first_epoch <= epoch)
        later = (x.first_epoch for x in self.stages if x.first_epoch > epoch)
        return stage, min(later, default=math.inf)


@dataclass(frozen=True)
class Saving:
    """How a run is kept and logged; see `keras_convnext.train`.

    Attributes:
        finish: function that adds to the folder once the run is complete.
    """

    resume: str
    minutes: float
    steps: int | None
    log_to: Sequence[str] | str = ()
    finish: Callable[[], Any] = lambda: None


def train(work: Work, run: Run, saving: Saving) -> dict[str, Any]:
    """Trains to the end, with checkpoints on the way; goes on if there is one.

    Every process of a cluster calls it with the same.

    Returns:
        The summary that `run.json` holds, in all processes.
    """
    with Tracking(run, work.saved, saving.log_to) as tracking:
        with run.opened(saving.resume):
            summary = _trained(work, run, saving, tracking)
        if run.cluster.is_writer:
            saving.finish()
        return summary


def _trained(work, run, saving, tracking):
    """Trains what is left of a run that is open, and returns its summary."""
    model, cluster = work.model, run.cluster
    steps = work.batches.steps_per_epoch
    run.restore(model)
    tracking.begin()
    stopping = EarlyStopping(
        run, work.metric, work.patience, work.stages[-1].first_epoch
    )
    is_over = stopping.is_over()
    watchers = [
        *work.measuring,
        callbacks.History(run, work.batch_size),
        callbacks.Models(
            run, work.saved, work.metric or "val_loss", work.merge
        ),
        # Its checkpoint of an epoch holds what the two before noted.
        callbacks.Checkpointing(
            run, steps, saving.minutes, saving.steps, work.steps
        ),
        stopping,
    ]
    progress = callbacks.Progress(
        run, work.steps, steps, work.batch_size, cluster.is_writer
    )
    if cluster.is_writer:
        watchers += [*callbacks.drawing(run), tracking, progress]
    is_labeled = work.metric is not None
    progress.tell_beginning(
        work.data,
        work.validation,
        work.averages,
        work.table,
        stopping.reason(),
        is_labeled,
    )
    with progress.bar:
        while run.step < work.steps and not is_over:
            epoch, place = divmod(run.step, steps)
            stage, end = work.stage_of(epoch)
            # An epoch that has begun, or the last, may be a part of one;
            # then whole ones.
            whole = 0 if place else min(end, work.steps // steps)
            with _training(work, cluster, stage):
                model.fit(
                    cluster.batches(stage.batches.batches(run.step)),
                    steps_per_epoch=min(steps - place, work.steps - run.step),
                    initial_epoch=epoch,
                    epochs=max(whole, epoch + 1),
                    validation_data=work.held_out,
                    callbacks=watchers,
                    shuffle=False,
                    verbose=0,
                )
            is_over = stopping.is_over()
    work.merge()
    if is_labeled and work.validation is None and cluster.is_writer:
        tell(f"no validation images: `{run.result}` has the last weights")
    more = {"skipped": work.batches.skipped}
    reason = stopping.reason()
    if reason and run.step < work.steps:
        more["reason"] = reason
        tell(f"ended after epoch {len(run.history)}: {reason}")
    summary = run.write_summary("complete", **more)
    return cluster.from_writer(summary)


def _training(work, cluster, stage):
    """A context in which each step trains what it should in this stage."""
    model = work.model
    if stage.trained is not None:
        freezing.build_optimizer(model)
        freezing.train_only(model, stage.trained)
    return cluster.training(model, model.trainable_variables)


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
