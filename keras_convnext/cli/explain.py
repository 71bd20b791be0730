"""`keras-convnext explain`: where in an image its classes are seen."""

from pathlib import Path
from typing import Annotated

import typer

import keras_convnext
from keras_convnext import visualize
from keras_convnext.artifacts import running
from keras_convnext.cli import options
from keras_convnext.cli.files import check_image
from keras_convnext.cli.files import check_picture
from keras_convnext.cli.loading import load_model
from keras_convnext.cli.printing import show
from keras_convnext.facts.labels import best_classes
from keras_convnext.models import inspection


def explain(
    image: Annotated[str, typer.Argument(metavar="IMAGE", help="A file.")],
    model: options.Model = "convnext_tiny",
    weights: options.Weights = "imagenet",
    output: Annotated[
        Path, typer.Option(help="The picture: .png, .jpg, .pdf or .svg.")
    ] = Path("explanation.png"),
    top: options.Top = 3,
    class_name: Annotated[
        list[str] | None,
        typer.Option(
            "--class",
            help="A class by name or number in place of the best ones; may be "
            "repeated.",
        ),
    ] = None,
    layer: Annotated[
        str | None,
        typer.Option(
            help="Last layer of a block; the network's last block if not given."
        ),
    ] = None,
    apply_exif: options.Exif = True,
    force: options.Force = False,
    as_json: options.Json = False,
) -> None:
    """Draw which parts of an image speak for its classes, by Grad-CAM.

    Example: keras-convnext explain cat.jpg --output cat_explained.png

    Example: keras-convnext explain scan.png --model mine.keras --class tumor
    """

    # Before the weights are fetched.
    check_picture(output, force)
    check_image(image)
    network = load_model(model, weights)
    preprocessing = inspection.preprocessing_of(network)
    if preprocessing is None:
        raise ValueError(
            "Expected a ConvNeXt of this package, or a model with one inside. "
            f"Received: {model!r}, a {type(network).__name__}"
        )
    if not inspection.normalizes(network):
        raise ValueError(
            "Expected a model that takes pixels of 0–255. Received: "
            f"{model!r}, built with `include_preprocessing=False`. Normalize "
            "images yourself, and call `keras_convnext.visualize.grad_cam`"
        )
    pixels = keras_convnext.load_image_for(preprocessing, image, apply_exif)
    artifact = running.of_model(network, model)
    (scores,) = artifact.predict(pixels[None])
    rows = artifact.named(scores, range(len(scores)))
    names = [row["class"] for row in rows]
    chosen = best_classes(scores, top)
    if class_name:
        chosen = [_number(name, names) for name in class_name]
    if inspection.data_format(network) == "channels_first":
        pixels = pixels.transpose(2, 0, 1)
    figure = visualize.explanation(
        network, pixels, chosen, layer=layer, names=names
    )
    visualize.written_figure(figure, output)
    classes = [{**rows[i], "number": i} for i in chosen]
    lines = [
        f"{row['score']:8.4f}  {row['class']} ({row['id']})" for row in classes
    ]
    lines.append(f"written: {output}")
    show({"picture": str(output), "classes": classes}, as_json, lines)


def _number(name, names):
    if name in names:
        return names.index(name)
    if name.isdecimal() and int(name) < len(names):
        return int(name)
    raise ValueError(
        f"Expected a class by name, or by number of 0 to {len(names) - 1}. "
        f"Received: --class {name!r}"
    )
