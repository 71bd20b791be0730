"""`keras-convnext export`: models for other runtimes."""

import json
from pathlib import Path
from typing import Annotated

import typer

import keras_convnext
from keras_convnext._util.progress import progress
from keras_convnext.artifacts import options as export_options
from keras_convnext.artifacts import real_images
from keras_convnext.cli import options
from keras_convnext.cli.loading import load_model


def export(
    model: Annotated[
        str, typer.Argument(help="A name, see `models`, or a `.keras` file.")
    ],
    output: Annotated[
        Path,
        typer.Option(help="File to write, or folder: SavedModel, Triton, web."),
    ],
    format: Annotated[
        str | None,
        typer.Option(
            help="saved_model, tflite, onnx, openvino, torch, triton or web; "
            "by the ending of the output if not given."
        ),
    ] = None,
    weights: options.Weights = "imagenet",
    quantization: Annotated[
        str | None,
        typer.Option(
            help="TFLite: float16, dynamic or int8. ONNX, Triton, web: "
            "float16, int8_weight_only or int8."
        ),
    ] = None,
    representative_data: Annotated[
        Path | None,
        typer.Option(help="For int8: folder of images, or `.npy` array."),
    ] = None,
    image_size: Annotated[
        str | None,
        typer.Option(
            help="'dynamic', SIZE or HEIGHTxWIDTH; the model's own if not "
            "given."
        ),
    ] = None,
    batch_size: Annotated[
        str | None,
        typer.Option(
            help="For TFLite: 'dynamic' for any number of images at once; 1 if "
            "not given."
        ),
    ] = None,
    data_format: Annotated[
        str | None,
        typer.Option(help="channels_last or channels_first, of the input."),
    ] = None,
    input_dtype: Annotated[
        str, typer.Option(help="float32 or uint8.")
    ] = "float32",
    features: Annotated[
        bool,
        typer.Option(
            "--features", help="Give out the classifier's input as well."
        ),
    ] = False,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify/--no-verify",
            help="Compare the artifact with the model on real images.",
        ),
    ] = True,
    verification_data: Annotated[
        Path | None,
        typer.Option(
            help="Images to compare on: folder or `.npy` array; two "
            "photographs if not given."
        ),
    ] = None,
    force: options.Force = False,
    as_json: options.Json = False,
) -> None:
    """Export a model, on any backend, and prove the artifact equal to it.

    Example: keras-convnext export mine.keras --output mine.onnx

    Example: keras-convnext export convnext_tiny --format saved_model
    --output tiny

    Example: keras-convnext export mine.keras --output mine.tflite
    --quantization int8 --representative-data photos

    Example: keras-convnext export mine.keras --output site --format web
    """

    # Before the weights are fetched.
    format = export_options.format_of(output, format)
    export_options.check_target(output, format, force)
    export_options.check_choices(
        format, data_format, input_dtype, quantization, batch_size
    )
    images = {
        "representative_data": representative_data,
        "verification_data": verification_data,
    }
    for argument, path in images.items():
        if path is not None:
            real_images.check_there(argument, path)
    with progress(f"exporting {model} to {output}", total=None):
        report = keras_convnext.export(
            load_model(model, weights),
            output,
            format,
            quantization=quantization,
            image_size=_size(image_size),
            batch_size=batch_size,
            data_format=data_format,
            input_dtype=input_dtype,
            features=features,
            verify=verify,
            **images,
            overwrite=force,
            verbose=False,
        )
    if as_json:
        typer.echo(json.dumps(report.as_dict(), indent=2))
        return
    report.print()
    typer.echo(f"written: {report.path}")


def _size(text):
    """`None`, `"dynamic"`, one number or two."""
    if text is None or text == "dynamic":
        return text
    try:
        sides = [int(side) for side in text.split("x")]
    except ValueError:
        return text  # `export` says what was expected
    return sides[0] if len(sides) == 1 else tuple(sides)
