"""One training run, from data and recipe to a folder with the result."""

import math
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import keras

from keras_convnext._util.annotations import PathLike
from keras_convnext._util.ranges import Count
from keras_convnext._util.ranges import Positive
from keras_convnext._util.ranges import Seed
from keras_convnext._util.ranges import in_range
from keras_convnext._util.requirements import require
from keras_convnext._util.telling import tell
from keras_convnext.data import TrainLoader
from keras_convnext.data.source import Source
from keras_convnext.models.model import ConvNeXtModel
from keras_convnext.models.rematerialization import for_training
from keras_convnext.models.sigmoid import with_sigmoid
from keras_convnext.training import callbacks
from keras_convnext.training import distribution
from keras_convnext.training import freezing
from keras_convnext.training import loop
from keras_convnext.training.class_table import class_table
from keras_convnext.training.distillation import distilled
from keras_convnext.training.distribution.validation import WholeValidation
from keras_convnext.training.fitting import check_loss
from keras_convnext.training.fitting import pipelines_of
from keras_convnext.training.fitting import preprocessing_of
from keras_convnext.training.fitting import with_logits
from keras_convnext.training.held_out import FIGURES
from keras_convnext.training.held_out import Validation
from keras_convnext.training.recipes.objective import ClassCounts
from keras_convnext.training.recipes.objective import accuracies
from keras_convnext.training.recipes.recipe import Recipe
from keras_convnext.training.run import Run
from keras_convnext.training.settings import settings_of
from keras_convnext.training.teachers import teacher_of
from keras_convnext.training.trackers import check_trackers


@in_range
def train(
    model: keras.Model,
    recipe: Recipe,
    data: Source,
    output: PathLike,
    validation: Source | None = None,
    seed: Seed = 0,
    resume: str = "auto",
    checkpoint_minutes: Positive = 10.0,
    checkpoint_steps: Count | None = None,
    keep: Count = 3,
    on_error: str = "skip",
    loader: str | None = None,
    rematerialize: bool = False,
    mixup_group: Count | None = None,
    log_to: Sequence[str] | str = (),
    finish: Callable[[], Any] = lambda: None,
    teacher: Any = None,
    teacher_dtype: str | None = None,
) -> dict[str, Any]:
    """Trains a model by a recipe; killed at any moment, it goes on.

    On several devices after `keras_convnext.distribution.setup`: the same
    weights come out of it, whatever their number, as long as `mixup_group` is
    the same.

    Args:
        model: a Functional or Sequential `keras.Model` that takes images with
            their channels last and returns logits, best from `recipe.build`.
            For many labels it may end in a sigmoid, and what is saved does.
            For numbers it returns one for each target; what is saved predicts
            in the targets' units, see `recipes.with_units`.
        recipe: a `Recipe`, whose `loss` fits the labels.
        data: a `Source` of training images, see `keras_convnext.data`.
        output: path of a folder for checkpoints, `last.keras`, `best.keras`,
            `best_raw.keras`, `history.csv`, `curves.png`, TensorBoard logs and
            `run.json`, whose `status` is "running", "complete", "stopped" or
            "failed". The best is by accuracy on `validation`, of many labels
            by the mean average precision, of numbers by R². `best.keras` has
            the averaged weights where the recipe averages. Without
            `validation` there is `last.keras` alone, and of such a recipe
            `last_averaged.keras`. If the folder holds the beginning of this
            run, the run resumes.
        validation: a `Source` of the same classes, or `None`.
        seed: int that order, augmentation and mixing follow from.
        resume: `"auto"`, or `"never"` to refuse a folder with checkpoints.
        checkpoint_minutes, checkpoint_steps: how often to write checkpoints
            within an epoch; there is one at the end of each.
        keep: how many checkpoints stay.
        on_error: `"skip"` or `"raise"`, for images that cannot be read.
        loader: `"tf"` or `"python"`; `tf.data` on the TensorFlow backend if
            `None`.
        rematerialize: whether to compute blocks again in place of keeping
            them for the gradient, see `rematerialized`.
        mixup_group: int, how many images of a batch Mixup and CutMix treat
            alike; those of a device if `None`, as in the official code.
        log_to: trackers that the run is logged to beside its folder: any of
            `"mlflow"`, `"wandb"` and `"tensorboard"`. The last has its logs
            wherever it is installed. One that fails is warned of, and left.
        finish: function without arguments, called in the process that writes
            when the run is complete; a `report.html` that it puts into the
            folder is logged, too.
        teacher: a trained classifier whose answers the model learns from, too,
            by the recipe's `distillation_…` fields: a Keras model with a
            ConvNeXt of this package, or what `open_artifact` opens. It sees
            the same augmented images, normalizes them itself and stays as it
            is. Its classes may come in another order; more of them are left
            out.
        teacher_dtype: `"bfloat16"` or `"float16"`, what a Keras teacher
            computes in; as it does if `None`.

    Returns:
        The dict that `run.json` holds: `metrics` of the last epoch, `best`,
        versions and all settings. The model has its last weights.

    Raises:
        ValueError: for data and models that do not fit, a folder in use, and
            one that holds a run of other settings, with the differences.
        NotFinite: when the loss is no number any more.
        CheckpointError: when the disk is full; the last checkpoint stays.
        OSError: if another file cannot be written.
        ImportError: for trackers that are not installed.
        Interrupted: a `SystemExit`, at the end of the step in which SIGINT or
            SIGTERM came, which is saved.

    Examples:
        >>> recipe = keras_convnext.recipes.small_data
        >>> data, validation = keras_convnext.data.open_splits(
        ...     "photos"
        ... )  # doctest: +SKIP
        >>> model = recipe.build(
        ...     "convnext_tiny", len(data.classes), "imagenet"
        ... )  # doctest: +SKIP
        >>> keras_convnext.train(
        ...     model, recipe, data, "run", validation
        ... )  # doctest: +SKIP
    """
    check_trackers(log_to)
    loop.check_output(output, data, validation)
    cluster = distribution.current()
    check_loss(recipe, data)
    recipe = recipe.for_model(model).for_images(len(data))
    cluster.check(model, recipe, loader)
    if recipe.early_stopping_patience is not None and validation is None:
        raise ValueError(
            "A run ends early by a figure on held-out images. Received: "
            f"early_stopping_patience={recipe.early_stopping_patience}, "
            "validation=None. Hold some out, or take `recipe.replace("
            "early_stopping_patience=None)`"
        )
    preprocessing = preprocessing_of(model, data, validation)
    if isinstance(model, ConvNeXtModel):
        model.class_names = data.classes
        # It was that of other weights.
        model.update_info(temperature=None)
    figures = FIGURES.get(recipe.task)
    if figures:
        cluster.check_held_out(figures.kind)
    model, saved = with_logits(model, recipe, data)
    pipelines = pipelines_of(recipe, model, data, preprocessing, seed)
    *_, pipeline = pipelines.values()
    guide = None
    if teacher is not None:
        shapes = [x.input_shape for x in pipelines.values()]
        guide = teacher_of(teacher, recipe, shapes, data.classes, teacher_dtype)
    size = pipeline.batch_size
    group = cluster.share_of(size) if mixup_group is None else mixup_group
    batches = TrainLoader(
        data,
        pipeline,
        recipe.epochs,
        seed,
        cluster.process_index,
        cluster.process_count,
        on_error,
        loader,
        group,
    )
    if guide is not None and guide.answer is not None:
        batches = batches.answered(guide.answered)
    steps = batches.steps_per_epoch
    averages = recipe.ema_decay is not None
    held_out, measuring, metrics = None, [], None
    if validation is not None:
        images = validation, preprocessing, size, on_error
        if figures:
            measuring = [_at_once(cluster, images, averages, figures, saved)]
        else:
            counts = ClassCounts(len(data.classes))
            metrics = [*accuracies(len(data.classes)), counts]
            held_out = cluster.eval_loader(*images)
            measuring = _by_batch(cluster, held_out, counts, averages)
    trained, merge = recipe.adapted(model, seed)
    trained = for_training(trained, rematerialize)
    trained = cluster.for_training(trained)
    if guide is not None:
        trained = distilled(trained, guide, recipe, seed)
    settings = settings_of(
        model,
        recipe,
        data,
        validation,
        seed,
        rematerialize,
        group if recipe.mixes else None,
        guide,
    )
    run = Run(output, settings, keep, cluster)
    work = loop.Work(
        trained,
        saved,
        _stages(trained, recipe, batches, pipelines),
        recipe.epochs * steps,
        size,
        data,
        validation,
        f"val_{figures.best if figures else 'accuracy'}",
        tuple(measuring),
        held_out,
        averages,
        None if recipe.is_regression else class_table(data, validation, recipe),
        merge=merge,
        patience=recipe.early_stopping_patience,
    )
    saving = loop.Saving(
        resume, checkpoint_minutes, checkpoint_steps, log_to, finish
    )
    with freezing.restored(trained):
        recipe.compile(trained, steps, metrics, data=data)
        if recipe.freeze or recipe.lora_rank:
            sizes = (math.prod(x.shape) for x in trained.trainable_variables)
            tell(freezing.counts(sizes, model))
        return loop.train(work, run, saving)


def _stages(model, recipe, batches, pipelines):
    """What is trained from which epoch on, by images of which size."""
    trained = {0: None}
    if recipe.head_epochs:
        variables = recipe.trained_variables(model)
        trained[0] = freezing.head_of(model, variables)
        trained[recipe.head_epochs] = variables
    loaders = {
        epoch: batches.with_pipeline(pipeline)
        for epoch, pipeline in pipelines.items()
    }
    return tuple(
        loop.Stage(epoch, _at(loaders, epoch), _at(trained, epoch))
        for epoch in sorted(trained | loaders)
    )


def _at(values, epoch):
    """The last of the values that epochs begin with."""
    return values[max(x for x in values if x <= epoch)]


def _by_batch(cluster, held_out, counts, averages):
    """The callbacks that measure one label for each image."""
    whole = WholeValidation(cluster, held_out, counts)
    if averages:
        return [whole, callbacks.AveragedValidation(held_out, whole)]
    return [whole]


def _at_once(cluster, images, averages, figures, saved):
    """The callback that measures all images; `saved` keeps thresholds."""
    require("sklearn", f"figures of {figures.kind}")  # before the first epoch

    def keep(thresholds):
        if isinstance(saved, ConvNeXtModel):
            with_sigmoid(saved, thresholds.tolist())

    loader = cluster.eval_loader_class(*images)
    return Validation(cluster, loader, averages, figures, keep)
