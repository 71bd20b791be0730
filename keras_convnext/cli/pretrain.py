"""`keras-convnext pretrain`: from images without labels to an encoder."""

from pathlib import Path
from typing import Annotated

import typer

from keras_convnext import data as sources
from keras_convnext import training
from keras_convnext._util.progress import progress
from keras_convnext.cli import lists
from keras_convnext.cli import options
from keras_convnext.cli.devices import start_devices
from keras_convnext.cli.loading import check_model
from keras_convnext.cli.loading import load_model
from keras_convnext.cli.printing import show
from keras_convnext.cli.recipe_options import changed
from keras_convnext.cli.recipe_options import recipe_options
from keras_convnext.data.lists.tables import is_list
from keras_convnext.tasks import pretraining
from keras_convnext.tasks.pretraining.recipe import PretrainingRecipe
from keras_convnext.tasks.pretraining.run import RESULT
from keras_convnext.training import distribution
from keras_convnext.training.trackers import check_trackers


@recipe_options(PretrainingRecipe)
def pretrain(
    data: Annotated[
        str,
        typer.Option(
            help="Folder of images, flat or with folders in it; a .csv, .jsonl "
            "or .parquet file that lists images; or anything else that `train` "
            "takes. Labels are not looked at, and need not be there."
        ),
    ],
    output: options.RunFolder,
    path_column: options.PathColumn = None,
    split_column: options.SplitColumn = None,
    model: options.Model = "convnextv2_tiny",
    weights: options.Weights = "none",
    seed: options.Seed = 0,
    deterministic: options.Deterministic = False,
    resume: options.Resume = "auto",
    checkpoint_minutes: options.CheckpointMinutes = 10.0,
    checkpoint_steps: options.CheckpointSteps = None,
    keep: options.Keep = 3,
    on_error: options.OnError = "skip",
    loader: options.Loader = None,
    dtype: options.Dtype = None,
    log_to: options.LogTo = None,
    devices: options.Devices = None,
    hosts: options.Hosts = None,
    host_index: options.HostIndex = None,
    oversubscribe: options.Oversubscribe = False,
    model_parallel: options.ModelParallel = 1,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Print recipe, parameter groups and learning rates only.",
        ),
    ] = False,
    as_json: options.Json = False,
    **changes: str | None,
) -> None:
    """Pre-train a ConvNeXt V2 on images without labels (FCMAE).

    It learns to fill in hidden parts of images. The result is `encoder.keras`,
    which `train --weights` takes. The same command again resumes from the last
    checkpoint; it ends with the statuses of `train`.

    Example: keras-convnext pretrain --data photos --output run --epochs 200

    Example: keras-convnext pretrain --data photos --output run --model
    convnextv2_atto --batch-size 256 --epochs 100 --dry-run
    """

    check_trackers(log_to or ())
    check_model(model)
    if not dry_run:
        start_devices(devices, hosts, host_index, model_parallel, oversubscribe)
    training.make_repeatable(seed, deterministic)
    lists.refuse_columns(
        data, path_column=path_column, split_column=split_column
    )
    with progress(f"looking for images in {data}", None):
        listed = is_list(data) and sources.ListedImages(
            data, path_column, split_column, on_error=on_error
        )
        source = sources.open_images(listed or data)
    recipe = changed(pretraining.v2_pretrain, changes, len(source))
    # What is printed does not depend on the weights' values.
    network = _model(model, "none" if dry_run else weights, dtype, recipe)
    if dry_run:
        micro_batch = recipe.batch_size // recipe.gradient_accumulation_steps
        steps = len(source) // micro_batch
        typer.echo(training.describe(network, recipe, steps))
        return
    result = pretraining.train(
        network,
        recipe,
        source,
        output,
        seed=seed,
        resume=resume,
        checkpoint_minutes=checkpoint_minutes,
        checkpoint_steps=checkpoint_steps,
        keep=keep,
        on_error=on_error,
        loader=loader,
        log_to=log_to or (),
    )
    if not distribution.current().is_writer:
        return
    lines = (
        f"loss: {result['metrics']['loss']:.4f}",
        f"written: {(output / RESULT).resolve()}",
    )
    show(result, as_json, lines)


def _model(name, weights, dtype, recipe):
    """The masked autoencoder on a model by name, or on that of a file."""
    if Path(name).suffix != ".keras":
        weights = None if weights == "none" else weights
        return recipe.build(name, weights, dtype=dtype)
    if dtype:
        raise ValueError(
            "`dtype` is for a model by name; a `.keras` file has its own. "
            f"Received: the model {name} and dtype={dtype}"
        )
    return recipe.on(load_model(name, weights))
