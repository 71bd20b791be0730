"""`keras-convnext predict`: what is in these images."""

import glob
import json
import sys
from pathlib import Path
from typing import Annotated

import typer

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
CLASSIFIER = "head_classifier"


def predict(
    images: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGE...",
            help="Files, folders (searched with all below them) and patterns.",
        ),
    ],
    model: Annotated[
        str,
        typer.Option(help="A name, see `models`, or a `.keras` file."),
    ] = "convnext_tiny",
    weights: Annotated[
        str,
        typer.Option(
            help="Weights of a model by name: a tag, a file, or 'none' for "
            "random ones."
        ),
    ] = "imagenet",
    top: Annotated[
        int,
        typer.Option(min=1, help="Classes per image, as far as there are."),
    ] = 5,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON list.")
    ] = False,
    batch_size: Annotated[
        int, typer.Option(min=1, help="Images at a time.")
    ] = 32,
    apply_exif: Annotated[
        bool,
        typer.Option(
            "--exif/--no-exif",
            help="Turn photographs upright; published results do not.",
        ),
    ] = True,
):
    """Name the best classes of images, with their scores.

    Ends with status 0, or 1 if some images could not be read.

    Example: keras-convnext predict cat.jpg photos 'scans/*.png' --top 3

    Example: keras-convnext predict photos --model mine.keras --json
    """
    paths = _find_images(images)
    model = _load_model(model, weights)
    results = _with_progress(
        _predictions(model, paths, top, batch_size, apply_exif), len(paths)
    )
    if as_json:
        typer.echo(json.dumps(results, indent=2))
    for result in results:
        if "error" in result:
            typer.echo(f"keras-convnext: {result['error']}", err=True)
        elif not as_json:
            typer.echo(_as_text(result))
    if any("error" in result for result in results):
        sys.exit(1)


def _find_images(arguments):
    """Paths of the images that files, folders and patterns stand for.

    A pattern stands for files and folders as if the shell had filled it in.
    A missing file remains: reading it will say so.
    """
    paths = []
    for argument in arguments:
        is_pattern = glob.has_magic(argument) and not Path(argument).exists()
        names = sorted(glob.glob(argument, recursive=True))
        found = [
            path
            for name in (names if is_pattern else [argument])
            for path in _images_below(Path(name))
        ]
        if not found:
            raise ValueError(
                "Expected image files, folders that hold some, or patterns "
                f"that match some. Received: {argument!r}, where there are "
                f"none that end in one of {' '.join(SUFFIXES)}"
            )
        paths += found
    return list(dict.fromkeys(paths))


def _images_below(path):
    if not path.is_dir():
        return [path]
    return sorted(
        below
        for below in path.rglob("*")
        if below.suffix.lower() in SUFFIXES and below.is_file()
    )


def _load_model(name, weights):
    """A classifier of RGB images, by name or from a `.keras` file."""
    import keras

    import keras_convnext

    if name.endswith(".keras"):
        model = keras.saving.load_model(name)
    else:
        if weights == "none":
            typer.echo(
                "keras-convnext: the weights are random, and the predictions "
                "mean nothing",
                err=True,
            )
            weights = None
        model = keras_convnext.create_model(name, weights=weights)
    _check_model(model, name)
    return model


def _check_model(model, name):
    import keras_convnext

    # The classifier is the last layer, or the last but its activation.
    is_classifier = isinstance(model, keras_convnext.ConvNeXtModel) and any(
        layer.name.endswith(CLASSIFIER) for layer in model.layers[-2:]
    )
    if is_classifier and model.info.label_set == "clip":
        raise ValueError(
            "Expected a classifier; these weights project images for "
            "comparison with texts. Choose a tag whose classes are those of "
            f"ImageNet, see `keras-convnext weights`. Received: {name!r} with "
            f"weights {model.info.weights!r}"
        )
    if not is_classifier or 3 not in (
        model.input_shape[1],
        model.input_shape[-1],
    ):
        raise ValueError(
            "Expected a ConvNeXt of this package that classifies RGB images. "
            f"Received: {name!r}, a {type(model).__name__} from "
            f"{model.input_shape} to {model.output_shape}. Pass a model "
            "saved with its classifier"
        )


def _predictions(model, paths, top, batch_size, apply_exif):
    """Yields one dict per path, in order: with `predictions` or an `error`."""
    import numpy as np

    from keras_convnext.labels import LABEL_SETS
    from keras_convnext.labels import decode_predictions

    names, classes = model.info.class_names, model.output_shape[-1]
    if names is None and classes not in LABEL_SETS:
        names = range(classes)
    # One width for all batches: another would be compiled anew.
    width = min(batch_size, len(paths))
    for start in range(0, len(paths), width):
        results, images = _read(
            paths[start : start + width], model.preprocessing, apply_exif
        )
        if images:
            batch = np.resize(images, (width, *images[0].shape))
            scores = _scores(model, batch)[: len(images)]
            decoded = decode_predictions(scores, min(top, classes), names)
            good = [result for result in results if "error" not in result]
            for result, best in zip(good, decoded):
                result["predictions"] = [
                    {"class": name, "id": identifier, "score": score}
                    for identifier, name, score in best
                ]
        yield from results


def _read(paths, preprocessing, apply_exif):
    """One dict per path, and the images of those without an `error`."""
    from keras_convnext.images import load_image_for

    results, images = [], []
    for path in paths:
        result = {"image": str(path)}
        try:
            images.append(load_image_for(preprocessing, path, apply_exif))
        except ValueError as error:
            result["error"] = str(error)
        results.append(result)
    return results, images


def _scores(model, images):
    """What the model makes of `uint8` images; logits become probabilities."""
    import numpy as np

    from keras_convnext.layers import ImageNormalization

    if not any(isinstance(x, ImageNormalization) for x in model.layers):
        preprocessing = model.preprocessing
        images = (images / 255 - preprocessing.mean) / preprocessing.std
        images = images.astype("float32")
    if model.input_shape[-1] != 3:
        images = images.transpose(0, 3, 1, 2)
    scores = np.asarray(model.predict_on_batch(images), "float64")
    if not model.layers[-1].name.endswith(CLASSIFIER):
        return scores
    exponentials = np.exp(scores - scores.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def _with_progress(results, total):
    """The results as a list; a bar on stderr, where that is a terminal."""
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    return list(
        track(
            results,
            "predicting",
            total=total,
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
    )


def _as_text(result):
    lines = [result["image"]]
    for prediction in result["predictions"]:
        lines.append(
            f"{prediction['score']:8.4f}  {prediction['class']} "
            f"({prediction['id']})"
        )
    return "\n".join(lines)
