"""One run that pre-trains an encoder; killed at any moment, it goes on."""

from collections.abc import Sequence
from typing import Any

from keras_convnext._util.annotations import PathLike
from keras_convnext._util.ranges import Count
from keras_convnext._util.ranges import Positive
from keras_convnext._util.ranges import Seed
from keras_convnext._util.ranges import in_range
from keras_convnext._util.telling import tell
from keras_convnext.data.source import Source
from keras_convnext.tasks.pretraining.masks import visible_count
from keras_convnext.tasks.pretraining.model import IMAGES
from keras_convnext.tasks.pretraining.model import MaskedAutoencoder
from keras_convnext.tasks.pretraining.model import check_autoencoder
from keras_convnext.tasks.pretraining.pictures import PICTURES
from keras_convnext.tasks.pretraining.pictures import Pictures
from keras_convnext.tasks.pretraining.recipe import PretrainingRecipe
from keras_convnext.training import distribution
from keras_convnext.training import loop
from keras_convnext.training.run import Run
from keras_convnext.training.settings import settings_of
from keras_convnext.training.trackers import check_trackers

RESULT = "encoder.keras"


@in_range
def train(
    model: MaskedAutoencoder,
    recipe: PretrainingRecipe,
    data: Source,
    output: PathLike,
    seed: Seed = 0,
    resume: str = "auto",
    checkpoint_minutes: Positive = 10.0,
    checkpoint_steps: Count | None = None,
    keep: Count = 3,
    on_error: str = "skip",
    loader: str | None = None,
    log_to: Sequence[str] | str = (),
) -> dict[str, Any]:
    """Pre-trains an encoder by a recipe; killed at any moment, it goes on.

    On several devices after `keras_convnext.distribution.setup`: the same
    weights come out of it, whatever their number.

    Args:
        model: a `MaskedAutoencoder`, best from `recipe.build`.
        recipe: a `PretrainingRecipe`.
        data: a `Source` of images, see `keras_convnext.data.open_images`;
            labels are not looked at.
        output: path of a folder for checkpoints, `encoder.keras`, a picture
            after each epoch in `reconstructions/`, `history.csv`,
            `curves.png`, TensorBoard logs and `run.json`, as for
            `keras_convnext.train`.
        seed: int that order, augmentation and masks follow from.
        resume: `"auto"`, or `"never"` to refuse a folder with checkpoints.
        checkpoint_minutes, checkpoint_steps: how often to write checkpoints
            within an epoch; there is one at the end of each.
        keep: how many checkpoints stay.
        on_error, loader: see `TrainLoader`.
        log_to: names of trackers, as for `keras_convnext.train`.

    Returns:
        The dict that `run.json` holds. `model.encoder` has its last weights.

    Raises:
        ValueError: for data, models and recipes that do not fit, and as
            `keras_convnext.train`.
        NotFinite, CheckpointError, OSError, Interrupted: see
            `keras_convnext.train`.

    Examples:
        >>> data = keras_convnext.data.open_images("photos")  # doctest: +SKIP
        >>> recipe = keras_convnext.pretraining.v2_pretrain.replace(
        ...     epochs=100
        ... )  # doctest: +SKIP
        >>> model = recipe.build("convnextv2_atto")  # doctest: +SKIP
        >>> keras_convnext.pretraining.train(
        ...     model, recipe, data, "run"
        ... )  # doctest: +SKIP
    """
    check_trackers(log_to)
    loop.check_output(output, data)
    cluster = distribution.current()
    check_autoencoder(model)
    _check_fit(model, recipe)
    recipe = recipe.for_images(len(data))
    cluster.check(model, recipe, loader)
    _check_statistics(recipe, cluster)
    batches = recipe.train_data(
        data,
        model,
        seed,
        on_error=on_error,
        process_index=cluster.process_index,
        process_count=cluster.process_count,
        loader=loader,
    )
    cluster.share_of(batches.batch_size)
    steps = batches.steps_per_epoch
    recipe.compile(model, steps)
    settings = settings_of(model, recipe, data, None, seed, False, None)
    run = Run(output, settings, keep, cluster, RESULT, "pretrain")
    work = loop.Work(
        model,
        model.encoder,
        (loop.Stage(0, batches),),
        recipe.epochs * steps,
        batches.batch_size,
        data,
        None,
        None,
        tuple(_pictures(run, model, recipe, data, seed)),
    )
    saving = loop.Saving(resume, checkpoint_minutes, checkpoint_steps, log_to)
    with model.shared_by(cluster.replicas):
        return loop.train(work, run, saving)


def _pictures(run, model, recipe, data, seed):
    """The callback that draws, in the process that does."""
    cluster = run.cluster
    if not cluster.is_writer:
        return
    if not cluster.predicts_alone:
        tell("no pictures of reconstructions: they take all processes")
        return
    # Every device of a process predicts as many.
    devices = cluster.device_count // cluster.process_count
    count = min(-(-PICTURES // devices) * devices, recipe.batch_size)
    few = recipe.replace(batch_size=count, gradient_accumulation_steps=1)
    (inputs,) = few.train_data(data, model, seed).make(0, 0)
    yield Pictures(run, inputs)


def _check_fit(model, recipe):
    """Raises `ValueError` for a model built by another recipe."""
    size = model.input[IMAGES].shape[1]
    rows, columns = model.grid
    found = {
        "image_size": size,
        "visible patches": model.visible_count,
        "decoder_width": model.decoder_width,
        "grn_statistics": model.grn_statistics,
    }
    wanted = {
        "image_size": recipe.image_size,
        "visible patches": visible_count(rows * columns, recipe.mask_ratio),
        "decoder_width": recipe.decoder_width,
        "grn_statistics": recipe.grn_statistics,
    }
    unlike = [
        f"{name} {found[name]}, not {wanted[name]}"
        for name in found
        if found[name] != wanted[name]
    ]
    if unlike:
        raise ValueError(
            "The model must be built by the figures of the recipe. Received: "
            f"{model.name!r} with {'; '.join(unlike)}. Build it with "
            "`recipe.build`, or on an encoder with `recipe.on`"
        )


def _check_statistics(recipe, cluster):
    """Raises `ValueError` where devices would see statistics of their own."""
    if recipe.grn_statistics == "batch" and cluster.device_count > 1:
        raise ValueError(
            "GRN's norms over a batch are known on one device alone. Received:"
            f" grn_statistics='batch' on {cluster.device_count} devices. Take "
            "grn_statistics='image', which fine-tuning has, or one device"
        )
