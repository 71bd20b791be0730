"""`keras-convnext plan`: a training on many devices, on paper."""

import json
from typing import Annotated

import typer

from keras_convnext._util.progress import progress
from keras_convnext._util.ranges import Positive
from keras_convnext.cli import options
from keras_convnext.training import distribution


def plan(
    model: Annotated[
        str, typer.Option(help="A name, see `models`, or the end of one.")
    ],
    devices: Annotated[int, typer.Option(min=1, help="Of all hosts together.")],
    memory: Annotated[str, typer.Option(help="Of a device, such as 80GB.")],
    batch_size: Annotated[
        int, typer.Option(min=1, help="Images per step over all devices.")
    ] = 4096,
    image_size: Annotated[int, typer.Option(min=1, help="Pixels.")] = 224,
    classes: Annotated[int, typer.Option(min=1, help="Of the data.")] = 1000,
    dtype: Annotated[
        str, typer.Option(help="float32, mixed_bfloat16 or mixed_float16.")
    ] = "mixed_bfloat16",
    average: Annotated[
        bool, typer.Option(help="Keep a moving average of the weights.")
    ] = True,
    rate: Annotated[
        Positive | None,
        typer.Option(
            help="Images/s of one such device, measured in this dtype and "
            "without --rematerialize: images_per_second in the history.csv of "
            "a short training on it."
        ),
    ] = None,
    bandwidth: Annotated[
        str | None,
        typer.Option(help="Bytes/s between devices, each way, such as 50GB."),
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Print memory, batches and time of a training on many devices.

    Example: keras-convnext plan --model huge --devices 64 --memory 80GB

    Example: keras-convnext plan --model convnext_xlarge --devices 64 --memory
    80GB --classes 21841 --rate 300 --bandwidth 50GB
    """

    with progress(f"counting the layers of {model}", None):
        result = distribution.plan(
            model,
            devices,
            memory,
            batch_size,
            image_size,
            classes,
            dtype,
            average,
            rate,
            bandwidth,
        )
    text = json.dumps(result.as_dict(), indent=2) if as_json else str(result)
    typer.echo(text)
