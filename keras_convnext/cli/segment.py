"""`keras-convnext segment`: what every pixel of an image shows."""

import functools
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from keras_convnext._util.checks import one_of
from keras_convnext.artifacts.running import Artifact
from keras_convnext.cli import options
from keras_convnext.cli.files import check_output
from keras_convnext.cli.loading import load_on_backbone
from keras_convnext.cli.printing import show
from keras_convnext.tasks import segmentation
from keras_convnext.tasks.segmentation.inference import MODES


def segment(
    image: Annotated[
        Path, typer.Argument(metavar="IMAGE", help="A photograph.")
    ],
    output: Annotated[
        Path,
        typer.Option(help="File for the picture with colored classes: .png."),
    ],
    model: Annotated[
        str,
        typer.Option(
            help="Name of the backbone, see `models`, a `.keras` file of an "
            "UperNet, or what `export` made of one."
        ),
    ] = "convnext_tiny",
    weights: Annotated[
        str,
        typer.Option(
            help="Weights of the UperNet on a backbone by name: 'ade20k' or "
            "another tag, a file, or 'none' for random ones."
        ),
    ] = "ade20k",
    mode: Annotated[
        str,
        typer.Option(
            help="slide (overlapping windows) or whole (all of the image)."
        ),
    ] = "slide",
    scale: options.Scales = None,
    flip: Annotated[
        bool, typer.Option("--flip", help="Average with the mirrored image.")
    ] = False,
    crop: Annotated[
        int | None,
        typer.Option(min=32, help="Pixels; as in training if not given."),
    ] = None,
    opacity: Annotated[
        float, typer.Option(min=0, max=1, help="Of the colors.")
    ] = 0.5,
    as_json: options.Json = False,
    force: options.Force = False,
    trust: options.Trust = False,
) -> None:
    """Color an image by the class of every pixel.

    Prints the share of each class. Ends with status 0, or 2 for bad input.

    Example: keras-convnext segment street.jpg --output classes.png

    Example: keras-convnext segment street.jpg --model convnext_base --weights
    upernet_convnext_base_22k_640x640.pth --crop 640 --output classes.png

    Example: keras-convnext segment street.jpg --model mine.onnx --output
    classes.png

    Example: keras-convnext segment street.jpg --model mine.keras --mode whole
    --scale 0.75 --scale 1 --flip --output classes.png --json
    """

    # Before the weights are fetched.
    check_output(output, force, (".png",))
    one_of("mode", mode, MODES)
    pixels = segmentation.read_pixels(image)
    build = functools.partial(segmentation.UperNet, auxiliary=False)
    segmenter = load_on_backbone(model, weights, build, trust)
    labels = segmentation.segment(
        segmenter, pixels, mode, scale or (1.0,), flip, crop=crop
    )
    names, of_model = _known(segmenter)
    segmentation.write_overlay(output, pixels, labels, len(names), opacity)
    result = {
        "image": str(image),
        "output": str(output),
        **of_model,
        "height": labels.shape[0],
        "width": labels.shape[1],
        "classes": _shares(labels, names),
    }
    lines = [
        f"{row['share']:8.2%}  {row['class']} ({row['id']})"
        for row in result["classes"]
    ]
    show(result, as_json, [str(output), *lines])


def _known(segmenter):
    """The names of its classes, or else numbers, and what it says it is."""
    if isinstance(segmenter, Artifact):
        metadata = segmenter.metadata
        names = [name for _, name in metadata["classes"]]
        return names, {key: metadata[key] for key in ("model", "weights")}
    info, classes = segmenter.info, segmenter.outputs[0].shape[-1]
    names = info.class_names or [str(number) for number in range(classes)]
    of_model = {"model": segmenter.variant.name, "weights": info.weights}
    return names, of_model


def _shares(labels, names):
    """The classes that have pixels, the largest first."""

    counts = np.bincount(labels.ravel())
    return [
        {
            "class": names[index],
            "id": int(index),
            "share": float(counts[index] / labels.size),
        }
        for index in np.argsort(-counts, kind="stable")
        if counts[index]
    ]
