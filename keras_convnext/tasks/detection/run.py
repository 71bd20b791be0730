"""One run that trains a detector; killed at any moment, it goes on."""

import math
from typing import Any

import keras

from keras_convnext._util.annotations import PathLike
from keras_convnext._util.ranges import Count
from keras_convnext._util.ranges import Positive
from keras_convnext._util.ranges import Seed
from keras_convnext._util.ranges import in_range
from keras_convnext._util.requirements import require
from keras_convnext.data.augmentation.scales import RandomScales
from keras_convnext.data.objects.loader import ObjectLoader
from keras_convnext.data.objects.source import ObjectSource
from keras_convnext.data.objects.source import ObjectSubset
from keras_convnext.data.source import same_classes
from keras_convnext.tasks.detection.ap import PURPOSE
from keras_convnext.tasks.detection.evaluation import evaluate
from keras_convnext.tasks.detection.model import DetectionModel
from keras_convnext.tasks.detection.recipe import DetectionRecipe
from keras_convnext.training import callbacks
from keras_convnext.training.run import Run
from keras_convnext.training.settings import settings_of

Objects = ObjectSource | ObjectSubset


@in_range
def train(
    model: DetectionModel,
    recipe: DetectionRecipe,
    data: Objects,
    output: PathLike,
    validation: Objects | None = None,
    seed: Seed = 0,
    scales: RandomScales | None = None,
    max_objects: Count = 100,
    canvas: str = "tight",
    resume: str = "auto",
    checkpoint_minutes: Positive = 10.0,
    checkpoint_steps: Count | None = None,
    keep: Count = 3,
    on_error: str = "skip",
    loader: str | None = None,
) -> dict[str, Any]:
    """Trains a detector by a recipe; killed at any moment, it goes on.

    In one process, on one device.

    Args:
        model: a `DetectionModel`, best from `recipe.build`.
        recipe: a `DetectionRecipe`, whose `steps` end the run.
        data: an `ObjectSource` of training images, or a part of one.
        output: path of a folder for checkpoints, `last.keras`, `best.keras`
            (by the average precision of boxes on `validation`),
            `history.csv`, `curves.png`, TensorBoard logs and `run.json`, as
            for `keras_convnext.train`.
        validation: images that are searched after each epoch, or `None`.
        seed: int that order and augmentation follow from.
        scales, max_objects, canvas, on_error, loader: see `ObjectLoader`.
        resume: `"auto"`, or `"never"` to refuse a folder with checkpoints.
        checkpoint_minutes, checkpoint_steps: how often to write checkpoints
            within an epoch; there is one at the end of each.
        keep: how many checkpoints stay.

    Returns:
        The dict that `run.json` holds: `metrics` of the last epoch, `best`,
        versions and all settings. The model has its last weights.

    Raises:
        ValueError, NotFinite, CheckpointError, OSError, Interrupted: see
            `keras_convnext.train`.

    Examples:
        >>> train, validation = keras_convnext.data.open_objects(
        ...     "objects"
        ... )  # doctest: +SKIP
        >>> recipe = keras_convnext.detection.coco_mask_rcnn
        >>> model = recipe.build(
        ...     "convnext_tiny", train.classes, "imagenet"
        ... )  # doctest: +SKIP
        >>> keras_convnext.detection.train(
        ...     model, recipe, train, "run", validation
        ... )  # doctest: +SKIP
    """
    recipe = recipe.for_model(model)
    scales = RandomScales() if scales is None else scales
    batch_size = recipe.batch_size
    if validation is not None:
        same_classes(data, validation)
        require("pycocotools", PURPOSE)  # before the first epoch
    batches = ObjectLoader(
        data,
        batch_size,
        seed=seed,
        scales=scales,
        max_objects=max_objects,
        canvas=canvas,
        on_error=on_error,
        loader=loader,
    )
    steps = batches.steps_per_epoch
    batches.steps = recipe.steps
    epochs = math.ceil(recipe.steps / steps)
    recipe.compile(model)
    settings = {
        **settings_of(model, recipe, data, validation, seed, False, None),
        "scales": vars(scales),
        "max_objects": max_objects,
        "canvas": canvas,
    }
    run = Run(output, settings, keep)
    with run.opened(resume):
        run.restore(model)
        progress = callbacks.Progress(run, epochs, steps, batch_size)
        watchers = [
            *([Validation(validation)] if validation is not None else []),
            callbacks.History(run, batch_size),
            Models(run),
            # Its checkpoint of an epoch holds what the two before noted.
            callbacks.Checkpointing(
                run, steps, checkpoint_minutes, checkpoint_steps
            ),
        ]
        watchers += [*callbacks.drawing(run), progress]
        progress.tell_beginning(data, validation)
        with progress.bar:
            while run.step < recipe.steps:
                epoch, place = divmod(run.step, steps)
                # An epoch that has begun, or the last, may be a part of one.
                count = min(steps - place, recipe.steps - run.step)
                model.fit(
                    batches.batches(run.step),
                    steps_per_epoch=count,
                    initial_epoch=epoch,
                    epochs=epoch + 1,
                    callbacks=watchers,
                    shuffle=False,
                    verbose=0,
                )
        return run.write_summary("complete", skipped=batches.skipped)


class Validation(keras.callbacks.Callback):
    """Measures the average precision after each epoch.

    Args:
        source: the images.
    """

    def __init__(self, source):
        super().__init__()
        self.source = source

    def on_epoch_end(self, epoch, logs=None):
        found = evaluate(self.model, self.source, verbose=False)
        for name in ("boxes", "masks"):
            figures = getattr(found, name) or {}
            if figures.get("ap") is not None:
                logs[f"val_{name}_ap"] = figures["ap"]
                logs[f"val_{name}_ap50"] = figures["ap50"]


class Models(keras.callbacks.Callback):
    """Saves the model after each epoch, and the best one so far.

    Args:
        run: the `Run`.
    """

    def __init__(self, run):
        super().__init__()
        self.run = run

    def on_epoch_end(self, epoch, logs=None):
        self.run.write_model("last.keras", self.model)
        if self.run.is_best("val_boxes_ap", logs.get("val_boxes_ap", math.nan)):
            self.run.write_model("best.keras", self.model)
