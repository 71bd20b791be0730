"""One run that trains a detector; killed at any moment, it goes on."""

from collections.abc import Sequence
from typing import Any

import keras

from keras_convnext._util.annotations import PathLike
from keras_convnext._util.checks import some
from keras_convnext._util.ranges import Count
from keras_convnext._util.ranges import Positive
from keras_convnext._util.ranges import Seed
from keras_convnext._util.ranges import in_range
from keras_convnext._util.requirements import require
from keras_convnext.data.augmentation.scales import RandomScales
from keras_convnext.data.objects.choosing import trainable
from keras_convnext.data.objects.loader import ObjectLoader
from keras_convnext.data.objects.source import ObjectSource
from keras_convnext.data.objects.source import ObjectSubset
from keras_convnext.data.source import same_classes
from keras_convnext.tasks.detection.ap import PURPOSE
from keras_convnext.tasks.detection.evaluation import evaluate
from keras_convnext.tasks.detection.model import DetectionModel
from keras_convnext.tasks.detection.model import check_detector
from keras_convnext.tasks.detection.recipe import DetectionRecipe
from keras_convnext.training import distribution
from keras_convnext.training import freezing
from keras_convnext.training import loop
from keras_convnext.training.run import Run
from keras_convnext.training.settings import settings_of
from keras_convnext.training.trackers import check_trackers

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
    log_to: Sequence[str] | str = (),
) -> dict[str, Any]:
    """Trains a detector by a recipe; killed at any moment, it goes on.

    On several devices after `keras_convnext.distribution.setup`: the same
    weights come out of it, whatever their number.

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
        scales: a `RandomScales`; the published one, in proportion to the
            short side that the model is made for, if `None`.
        max_objects, canvas, on_error, loader: see `ObjectLoader`.
        resume: `"auto"`, or `"never"` to refuse a folder with checkpoints.
        checkpoint_minutes, checkpoint_steps: how often to write checkpoints
            within an epoch; there is one at the end of each.
        keep: how many checkpoints stay.
        log_to: names of trackers, as for `keras_convnext.train`.

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
    check_trackers(log_to)
    loop.check_output(output, data, validation)
    cluster = distribution.current()
    _check_classes(model, data)
    recipe = recipe.for_model(model).for_images(len(trainable(data)))
    cluster.check(model, recipe, loader)
    cluster.check_detectors()
    if scales is None:
        size = model.info.preprocessing.image_size  # type: ignore[union-attr]
        scales = RandomScales.for_short_side(size[0])
    batch_size = recipe.batch_size
    cluster.share_of(batch_size)
    if validation is not None:
        same_classes(data, validation)
        require("pycocotools", PURPOSE)  # before the first epoch
    batches = ObjectLoader(
        data,
        batch_size,
        seed=seed,
        scales=scales,
        max_objects=max_objects,
        process_index=cluster.process_index,
        process_count=cluster.process_count,
        # Which has nothing to do with how many devices there are.
        group=batch_size,
        canvas=canvas,
        on_error=on_error,
        loader=loader,
    )
    batches.steps = recipe.steps
    settings = {
        **settings_of(model, recipe, data, validation, seed, False, None),
        "scales": vars(scales),
        "max_objects": max_objects,
        "canvas": canvas,
    }
    measuring = () if validation is None else (Validation(cluster, validation),)
    work = loop.Work(
        model,
        model,
        # JAX has gradients of zeros for the others, and they would decay.
        (loop.Stage(0, batches, model.learning(data.has_masks)),),
        recipe.steps,
        batch_size,
        data,
        validation,
        "val_boxes_ap",
        measuring,
    )
    run = Run(output, settings, keep, cluster)
    saving = loop.Saving(resume, checkpoint_minutes, checkpoint_steps, log_to)
    with freezing.restored(model), model.shared_by(cluster.replicas):
        recipe.compile(model)
        return loop.train(work, run, saving)


def _check_classes(model, data):
    """Raises `ValueError` for a model of other classes than the data's."""
    check_detector(model)
    names = model.info.class_names
    if model.classes == len(data.classes) and names in (None, data.classes):
        return
    raise ValueError(
        "The detector must have the classes of the data, in their order. "
        f"Received: {model.classes} classes, {some(names or ['unnamed'])}, for "
        f"{len(data.classes)} classes, {some(data.classes)}. Build it with "
        "`recipe.build(name, classes=data.classes, weights=...)`, which takes "
        "the weights of another detector"
    )


class Validation(keras.callbacks.Callback):
    """Measures the average precision after each epoch.

    The process that writes does it, and tells the others.

    Args:
        cluster: the `Cluster`.
        source: the images.
    """

    def __init__(self, cluster, source):
        super().__init__()
        self.cluster, self.source = cluster, source

    def on_epoch_end(self, epoch, logs=None):
        figures = {}
        if self.cluster.is_writer:
            figures = self._measured()
        logs.update(self.cluster.from_writer(figures))

    def _measured(self):
        found = evaluate(self.model, self.source, verbose=False)
        figures = {}
        for name in ("boxes", "masks"):
            of_kind = getattr(found, name) or {}
            if of_kind.get("ap") is not None:
                figures[f"val_{name}_ap"] = of_kind["ap"]
                figures[f"val_{name}_ap50"] = of_kind["ap50"]
        return figures
