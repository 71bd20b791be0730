"""`keras-convnext train`: from a folder of images to a trained model."""

import json
from pathlib import Path
from typing import Annotated

import typer

from keras_convnext import data as data_module
from keras_convnext import training
from keras_convnext._util.progress import progress
from keras_convnext._util.ranges import PartBelowOne
from keras_convnext._util.ranges import Positive
from keras_convnext.cli import options
from keras_convnext.cli.loading import check_model
from keras_convnext.cli.loading import load_model
from keras_convnext.cli.recipe_options import changed
from keras_convnext.cli.recipe_options import recipe_options
from keras_convnext.training import distribution
from keras_convnext.training import recipes
from keras_convnext.training.recipes.base import drop_path_rate_of


@recipe_options
def train(
    data: Annotated[
        str,
        typer.Option(
            help="Folder of class folders (or with train/ and val/), of "
            "TFRecords, an .npz file, 'tfds:NAME' or 'digits'."
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(help="Folder for the results, and to go on from."),
    ],
    model: options.Model = "convnext_tiny",
    weights: options.Weights = "imagenet",
    recipe: Annotated[
        str,
        typer.Option(help=f"One of {', '.join(recipes.RECIPES)}."),
    ] = "small_data",
    validation: Annotated[
        str | None,
        typer.Option(help="Images to validate on; of --data if not given."),
    ] = None,
    validation_split: Annotated[
        PartBelowOne,
        typer.Option(
            help="Part of each class that is held out where the data has no "
            "validation images; 0 for none."
        ),
    ] = 0.1,
    seed: options.Seed = 0,
    deterministic: Annotated[
        bool,
        typer.Option(
            "--deterministic",
            help="Let no kernel depend on the order of threads; slower.",
        ),
    ] = False,
    resume: Annotated[
        str,
        typer.Option(
            help="auto: go on where the run in the folder was stopped. never: "
            "refuse a folder with a run."
        ),
    ] = "auto",
    checkpoint_minutes: Annotated[
        Positive, typer.Option(help="Between checkpoints inside an epoch.")
    ] = 10.0,
    checkpoint_steps: Annotated[
        int | None, typer.Option(min=1, help="Steps between checkpoints.")
    ] = None,
    keep: Annotated[
        int, typer.Option(min=1, help="Checkpoints that stay.")
    ] = 3,
    on_error: options.OnError = "skip",
    loader: Annotated[
        str | None,
        typer.Option(help="tf or python; tf on the TensorFlow backend."),
    ] = None,
    dtype: Annotated[
        str | None,
        typer.Option(
            help="Of a model by name: float32, mixed_bfloat16 or "
            "mixed_float16; Keras' own default if not given."
        ),
    ] = None,
    rematerialize: Annotated[
        bool,
        typer.Option(
            "--rematerialize",
            help="Compute blocks again going backward: less memory, a third "
            "more arithmetic.",
        ),
    ] = False,
    mixup_group: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Images that Mixup and CutMix treat alike; those of a device "
            "by default.",
        ),
    ] = None,
    devices: Annotated[
        str | None,
        typer.Option(
            help="How many devices of each host to train on, or 'all'."
        ),
    ] = None,
    hosts: Annotated[
        str | None,
        typer.Option(
            help="Addresses of all hosts, separated by commas; this command "
            "runs on each, and the first coordinates. 'auto' on JAX under "
            "SLURM and on TPU pods."
        ),
    ] = None,
    host_index: Annotated[
        int | None,
        typer.Option(
            min=0, help="Which of the hosts this is; found by its name."
        ),
    ] = None,
    oversubscribe: Annotated[
        bool,
        typer.Option(
            "--oversubscribe",
            help="Let --devices start more processes than there are cores; "
            "PyTorch without GPUs.",
        ),
    ] = False,
    model_parallel: Annotated[
        int,
        typer.Option(
            min=1,
            help="Devices over which Dense kernels are sharded; JAX only.",
        ),
    ] = 1,
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
    """Train a model on images; killed at any moment, it goes on.

    The same command again goes on from the last checkpoint. Ends with status
    1 if the loss is no number any more or a file cannot be written, and with
    130 or 143 after SIGINT or SIGTERM; started by torchrun, with torchrun's
    status.

    Example: keras-convnext train --data photos --output run

    Example: keras-convnext train --data imagenet --output run --model
    convnext_small --weights none --recipe imagenet1k --batch-size 256

    Example: keras-convnext train --data photos --output run --epochs 5
    --learning-rate 1e-4 --dry-run

    Example: keras-convnext train --data imagenet --output run --devices all
    """

    # Before processes are started, and images looked for.
    recipes.get_recipe(recipe)
    check_model(model)
    is_asked = devices or hosts or host_index is not None or model_parallel > 1
    if not dry_run and (is_asked or distribution.is_launched()):
        count: int | str | None = devices
        if devices and devices.isdigit():
            count = int(devices)
        distribution.start(
            count, hosts, host_index, model_parallel, oversubscribe
        )
    training.make_repeatable(seed, deterministic)
    with progress(f"looking for images in {data}", None):
        source, held_out = data_module.open_splits(
            data, validation, validation_split, seed
        )
    # What is printed does not depend on the weights' values.
    weights = "none" if dry_run else weights
    chosen, network = _model(model, weights, recipe, changes, source, dtype)
    if dry_run:
        batches = data_module.TrainLoader(
            source, chosen.train_pipeline(len(source.classes)), chosen.epochs
        )
        typer.echo(training.describe(network, chosen, batches.steps_per_epoch))
        return
    result = training.train(
        network,
        chosen,
        source,
        output,
        held_out,
        seed=seed,
        resume=resume,
        checkpoint_minutes=checkpoint_minutes,
        checkpoint_steps=checkpoint_steps,
        keep=keep,
        on_error=on_error,
        loader=loader,
        rematerialize=rematerialize,
        mixup_group=mixup_group,
    )
    if not distribution.current().is_writer:
        return
    if as_json:
        typer.echo(json.dumps(result, indent=2))
        return
    for name, value in result["best"].items():
        typer.echo(f"best {name}: {value:.2%}")
    typer.echo(f"written: {output.resolve()}")


def _model(name, weights, recipe, changes, source, dtype):
    """The recipe with its changes, and the model that it trains."""

    recipe = recipes.get_recipe(recipe)
    if Path(name).suffix != ".keras":
        recipe = changed(recipe, changes, len(source)).for_model(name)
        weights = None if weights == "none" else weights
        return recipe, recipe.build(
            name, len(source.classes), weights, dtype=dtype
        )
    if dtype is not None:
        raise ValueError(
            "`--dtype` is that of a model by name; a `.keras` file has its "
            f"own. Received: --model {name} --dtype {dtype}"
        )
    model = load_model(name, weights)
    recipe = recipe.replace(drop_path_rate=drop_path_rate_of(model))
    return changed(recipe, changes, len(source)).for_model(model), model
