"""`keras-convnext predict`: what is in these images."""

import glob
import json
import sys
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from keras_convnext._util.progress import progress
from keras_convnext.cli import options
from keras_convnext.cli.files import unreadable
from keras_convnext.cli.loading import open_classifier
from keras_convnext.facts.labels import best_classes
from keras_convnext.images.folders import SUFFIXES
from keras_convnext.images.folders import images_below
from keras_convnext.images.folders import is_hidden


def predict(
    images: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGE...",
            help="Files, folders (searched with all below them) and patterns.",
        ),
    ],
    model: options.ModelOrArtifact = "convnext_tiny",
    weights: options.Weights = "imagenet",
    top: options.Top = 5,
    as_json: options.Json = False,
    batch_size: options.BatchSize = 32,
    apply_exif: options.Exif = True,
    trust: options.Trust = False,
) -> None:
    """Name the best classes of images, with their scores.

    Ends with status 0, or 1 if some images could not be read.

    Example: keras-convnext predict cat.jpg photos 'scans/*.png' --top 3

    Example: keras-convnext predict photos --model mine.onnx --json
    """
    paths = _find_images(images)
    results = _if_none_is_readable(paths)
    if not results:
        artifact = open_classifier(model, weights, is_rgb=True, trust=trust)
        found = _predictions(artifact, paths, top, batch_size, apply_exif)
        with progress("predicting", len(paths), "images") as advance:
            for result in found:
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

    paths = []
    for argument in arguments:
        is_pattern = glob.has_magic(argument) and not Path(argument).exists()
        names = [
            name
            for name in sorted(glob.glob(argument, recursive=True))
            if not is_hidden(Path(name).name)
        ]
        below = [
            path
            for name in (names if is_pattern else [argument])
            for path in images_below(Path(name))
        ]
        if not below:
            raise ValueError(
                "Expected image files, folders that hold some, or patterns "
                f"that match some. Received: {argument!r}, where there are "
                f"none that end in one of {' '.join(SUFFIXES)}"
            )
        paths += below
    return list(dict.fromkeys(paths))


def _if_none_is_readable(paths):
    """The errors of all images; empty if there is one to predict.

    No model is needed to see that there is nothing to do.
    """
    results = []
    for path in paths:
        error = unreadable(path)
        if error is None:
            return []
        results.append({"image": str(path), "error": error})
    return results


def _predictions(artifact, paths, top, batch_size, apply_exif):
    """Yields one dict per path, in order: with `predictions` or an `error`."""

    # One width for all batches: another would be compiled anew.
    width = min(batch_size, len(paths))
    for start in range(0, len(paths), width):
        results, good, images = [], [], []
        for path in paths[start : start + width]:
            results.append({"image": str(path)})
            try:
                images.append(artifact.preprocessing(path, apply_exif))
                good.append(results[-1])
            except ValueError as error:
                results[-1]["error"] = str(error)
        if images:
            batch = np.resize(images, (width, *images[0].shape))
            scores = artifact.predict(batch)
            for result, row in zip(good, scores):
                best = best_classes(row, top)
                result["predictions"] = artifact.named(row, best)
        yield from results


def _as_text(result):
    lines = [
        f"{x['score']:8.4f}  {x['class']} ({x['id']})"
        for x in result["predictions"]
    ]
    return "\n".join([result["image"], *lines])
