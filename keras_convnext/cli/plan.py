"""`keras-convnext plan`: a training on many devices, on paper."""

from typing import Annotated
from typing import Any

import typer

from keras_convnext._util.progress import progress
from keras_convnext._util.ranges import Positive
from keras_convnext.cli import options
from keras_convnext.cli import printing
from keras_convnext.training import distribution


def plan(
    model: Annotated[
        str, typer.Option(help="A name, see `models`, or the end of one.")
    ],
    devices: Annotated[
        int | None, typer.Option(min=1, help="Of all hosts together.")
    ] = None,
    memory: Annotated[
        str | None, typer.Option(help="Of a device, such as 80GB.")
    ] = None,
    topology: Annotated[
        str | None,
        typer.Option(
            help="TPUs to compile the training step for, which none of them "
            "has to be here for: v5e:8x8, v5p:2x2x1, v6e:2x4 and others. In "
            "place of --devices and --memory; JAX with libtpu."
        ),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            help="With --topology: whose step it is; that for models of this "
            "size."
        ),
    ] = None,
    batch_size: Annotated[
        int, typer.Option(min=1, help="Images per step over all devices.")
    ] = 4096,
    gradient_accumulation_steps: Annotated[
        int | None,
        typer.Option(min=1, help="Micro-batches; the fewest that fit."),
    ] = None,
    rematerialize: Annotated[
        bool | None,
        typer.Option(
            help="Compute blocks again in place of keeping them; where "
            "nothing else fits."
        ),
    ] = None,
    image_size: Annotated[int, typer.Option(min=1, help="Pixels.")] = 224,
    classes: Annotated[int, typer.Option(min=1, help="Of the data.")] = 1000,
    dtype: Annotated[
        str, typer.Option(help="float32, mixed_bfloat16 or mixed_float16.")
    ] = "mixed_bfloat16",
    average: Annotated[
        bool, typer.Option(help="Keep a moving average of the weights.")
    ] = True,
    model_parallel: options.ModelParallel = 1,
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

    Example: KERAS_BACKEND=jax keras-convnext plan --model convnext_tiny
    --topology v5e:8x8
    """
    common: dict[str, Any] = {
        "batch_size": batch_size,
        "image_size": image_size,
        "classes": classes,
        "dtype": dtype,
        "average": average,
        "gradient_accumulation_steps": gradient_accumulation_steps,
        "rematerialize": rematerialize,
    }
    result: Any
    if topology:
        _check_unset(
            "A topology says how many chips there are, and their figures are "
            "known",
            devices=devices,
            memory=memory,
            rate=rate,
            bandwidth=bandwidth,
        )
        with progress(f"compiling {model} for {topology}", None):
            result = distribution.compiled_plan(
                model, topology, recipe, model_parallel=model_parallel, **common
            )
    elif devices is None or memory is None:
        raise ValueError(
            "Expected `devices` and `memory`, or a `topology` of TPUs. "
            f"Received: devices={devices}, memory={memory!r}. Pass the others"
        )
    else:
        _check_unset(
            "These are part of what is compiled for a `topology`",
            recipe=recipe,
            model_parallel=model_parallel if model_parallel > 1 else None,
        )
        with progress(f"counting the layers of {model}", None):
            result = distribution.plan(
                model, devices, memory, rate=rate, bandwidth=bandwidth, **common
            )
    printing.show(result.as_dict(), as_json, [str(result)])


def _check_unset(reason, **values):
    """Raises `ValueError` for options of the other kind of plan."""
    given = [f"{name}={x!r}" for name, x in values.items() if x is not None]
    if given:
        raise ValueError(
            f"{reason}. Received: {', '.join(given)}. Leave them out"
        )
