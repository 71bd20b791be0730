"""`keras-convnext convert`: weight files between packages."""

from pathlib import Path
from typing import Annotated

import typer

from keras_convnext._util.progress import progress
from keras_convnext.cli import options
from keras_convnext.models.conversion import convert_weights


def convert(
    source: Annotated[
        Path,
        typer.Argument(
            help="Weight file of any layout; of several models in it "
            "FILE#NAME chooses one."
        ),
    ],
    target: Annotated[
        Path,
        typer.Argument(
            help="File to write: .keras, .weights.h5, .safetensors, .pth."
        ),
    ],
    to: Annotated[
        str,
        typer.Option(
            help="Layout: keras, official, timm, transformers, torchvision, "
            "mmpretrain or fcmae; of whole detectors official_mmdet or mmdet."
        ),
    ] = "keras",
    model: Annotated[
        str | None,
        typer.Option(help="Name of the model; recognized if not given."),
    ] = None,
    force: options.Force = False,
) -> None:
    """Convert a weight file, bit for bit, between Keras and PyTorch.

    Example: keras-convnext convert mine.keras mine.safetensors --to timm
    """

    with progress(f"converting {source}", None):
        name = convert_weights(source, target, to, model, overwrite=force)
    typer.echo(f"{name}: {source} -> {target} ({to})")
