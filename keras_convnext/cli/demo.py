"""`keras-convnext demo`: train on handwritten digits."""

from pathlib import Path
from typing import Annotated

import typer

from keras_convnext.cli import options
from keras_convnext.cli.digits_demo import run_demo


def demo(
    output: Annotated[
        Path, typer.Option(help="Folder for the model and the picture.")
    ] = Path("demo_output"),
    epochs: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Passes over the training scans; the recipe's by default.",
        ),
    ] = None,
    seed: options.Seed = 0,
) -> None:
    """Train a small ConvNeXt on handwritten digits, in 2 minutes.

    Saves the trained model and a picture with learning curves and
    predictions. Needs no network.

    Example: KERAS_BACKEND=jax keras-convnext demo --output /tmp/digits
    """

    result = run_demo(output, epochs=epochs, seed=seed)
    typer.echo(
        f"held-out accuracy: {result['accuracy']:.2%}\n"
        f"model:   {result['model'].resolve()}\n"
        f"picture: {result['picture'].resolve()}"
    )
