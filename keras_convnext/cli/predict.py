"""`keras-convnext predict`: what is in these images."""

import json
import sys

import numpy as np
import typer

from keras_convnext._util.progress import progress
from keras_convnext.artifacts.acceleration.accelerated import of_artifact
from keras_convnext.artifacts.acceleration.engines import MODEL
from keras_convnext.artifacts.answers import answering
from keras_convnext.cli import options
from keras_convnext.cli.files import find_images
from keras_convnext.cli.files import if_none_is_readable
from keras_convnext.cli.loading import open_classifier
from keras_convnext.images import views


def predict(
    images: options.Images,
    model: options.ModelOrArtifact = "convnext_tiny",
    weights: options.Weights = "imagenet",
    top: options.TopOrReached = None,
    threshold: options.Threshold = None,
    as_json: options.Json = False,
    tta: options.Tta = None,
    batch_size: options.BatchSize = 32,
    engine: options.Engine = MODEL,
    apply_exif: options.Exif = True,
    trust: options.Trust = False,
) -> None:
    """Name the best classes of images, with their scores.

    Of a model of many labels, which ends in a sigmoid, every label whose score
    reaches its threshold; of a model of regression its numbers.

    Ends with status 0, or 1 if some images could not be read.

    Example: keras-convnext predict cat.jpg photos 'scans/*.png' --top 3

    Example: keras-convnext predict photos --model mine.onnx --json

    Example: keras-convnext predict photos --model tags.keras --threshold 0.3

    Example: keras-convnext predict photos --tta five-crop

    Example: keras-convnext predict photos --engine auto
    """
    paths = find_images(images)
    results = if_none_is_readable(paths)
    if not results:
        artifact = open_classifier(model, weights, is_rgb=True, trust=trust)
        artifact = of_artifact(artifact, engine)
        views.check(tta, artifact.preprocessing)
        answer = answering(artifact, top, threshold)
        read = _reader(artifact.preprocessing, apply_exif, tta)
        found = _predictions(artifact, paths, answer, batch_size, read)
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


def _reader(preprocessing, apply_exif, tta):
    """A function from a path to the views of its image, mostly one."""
    if tta is None:
        return lambda path: preprocessing(path, apply_exif)[None]
    return lambda path: views.of_image(tta, preprocessing, path, apply_exif)


def _predictions(artifact, paths, answer, batch_size, read):
    """Yields one dict per path, in order: with `predictions` or an `error`."""

    # One width for all batches: another would be compiled anew.
    width = min(batch_size, len(paths))
    for start in range(0, len(paths), width):
        results, good, images = [], [], []
        for path in paths[start : start + width]:
            results.append({"image": str(path)})
            try:
                images.append(read(path))
                good.append(results[-1])
            except ValueError as error:
                results[-1]["error"] = str(error)
        if images:
            batch = np.resize(images, (width, *images[0].shape))
            of_views = [artifact.predict(x) for x in batch.swapaxes(0, 1)]
            scores = np.mean(of_views, axis=0)
            for result, row in zip(good, scores):
                result["predictions"] = answer(row)
        yield from results


def _as_text(result):
    lines = [
        f"{x['target']}: {x['value']:g}"
        if "value" in x
        else f"{x['score']:8.4f}  {x['class']} ({x['id']})"
        for x in result["predictions"]
    ]
    if not lines:
        lines = ["          no label reaches its threshold"]
    return "\n".join([result["image"], *lines])
