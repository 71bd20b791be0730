"""`keras-convnext predict`: what is in these images."""

import glob
import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from keras_convnext._util.progress import progress
from keras_convnext.cli.loading import Weights
from keras_convnext.cli.loading import open_classifier


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
        typer.Option(
            help="A name, see `models`, a `.keras` file, or what `export` "
            "wrote: `.onnx`, `.tflite`, `.xml`, `.pt2`, a SavedModel's folder."
        ),
    ] = "convnext_tiny",
    weights: Weights = "imagenet",
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
) -> None:
    """Name the best classes of images, with their scores.

    Ends with status 0, or 1 if some images could not be read.

    Example: keras-convnext predict cat.jpg photos 'scans/*.png' --top 3

    Example: keras-convnext predict photos --model mine.onnx --json
    """
    paths = _find_images(images)
    artefact = open_classifier(model, weights, is_rgb=True)
    results = []
    with progress("predicting", len(paths), "images") as advance:
        for result in _predictions(
            artefact, paths, top, batch_size, apply_exif
        ):
            results.append(result)
            advance()
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
    from keras_convnext.images.reading import SUFFIXES
    from keras_convnext.images.reading import images_below

    paths = []
    for argument in arguments:
        is_pattern = glob.has_magic(argument) and not Path(argument).exists()
        names = sorted(glob.glob(argument, recursive=True))
        found = [
            path
            for name in (names if is_pattern else [argument])
            for path in images_below(Path(name))
        ]
        if not found:
            raise ValueError(
                "Expected image files, folders that hold some, or patterns "
                f"that match some. Received: {argument!r}, where there are "
                f"none that end in one of {' '.join(SUFFIXES)}"
            )
        paths += found
    return list(dict.fromkeys(paths))


def _predictions(artefact, paths, top, batch_size, apply_exif):
    """Yields one dict per path, in order: with `predictions` or an `error`."""
    import numpy as np

    from keras_convnext.facts.labels import decode_predictions

    # One width for all batches: another would be compiled anew.
    width = min(batch_size, len(paths))
    for start in range(0, len(paths), width):
        results, images = _read(
            paths[start : start + width], artefact.preprocessing, apply_exif
        )
        if images:
            batch = np.resize(images, (width, *images[0].shape))
            scores = artefact.predict(batch)[: len(images)]
            count = scores.shape[1]
            classes = artefact.metadata["classes"] or [
                (str(index), str(index)) for index in range(count)
            ]
            decoded = decode_predictions(scores, min(top, count), range(count))
            good = [result for result in results if "error" not in result]
            for result, best in zip(good, decoded):
                result["predictions"] = [
                    {
                        "class": classes[int(index)][1],
                        "id": classes[int(index)][0],
                        "score": score,
                    }
                    for index, _, score in best
                ]
        yield from results


def _read(paths, preprocessing, apply_exif):
    """One dict per path, and the images of those without an `error`."""
    from keras_convnext.images.transform import load_image_for

    results, images = [], []
    for path in paths:
        result = {"image": str(path)}
        try:
            images.append(load_image_for(preprocessing, path, apply_exif))
        except ValueError as error:
            result["error"] = str(error)
        results.append(result)
    return results, images


def _as_text(result):
    lines = [result["image"]]
    for prediction in result["predictions"]:
        lines.append(
            f"{prediction['score']:8.4f}  {prediction['class']} "
            f"({prediction['id']})"
        )
    return "\n".join(lines)
