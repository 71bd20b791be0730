"""`keras-convnext detect`: the objects in these images."""

import functools
import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from keras_convnext._util.checks import one_of
from keras_convnext._util.progress import progress
from keras_convnext._util.writing import check_writable
from keras_convnext._util.writing import make_folder
from keras_convnext._util.writing import written_aside
from keras_convnext.artifacts.running import Artifact
from keras_convnext.cli import options
from keras_convnext.cli.files import check_output
from keras_convnext.cli.files import find_images
from keras_convnext.cli.files import if_none_is_readable
from keras_convnext.cli.loading import DETECTORS
from keras_convnext.cli.loading import load_on_backbone
from keras_convnext.facts import coco
from keras_convnext.images.reading import Photograph
from keras_convnext.images.reading import Unreadable
from keras_convnext.tasks import detection
from keras_convnext.tasks.detection.ap import results_of
from keras_convnext.tasks.detection.layers import MULTIPLE
from keras_convnext.tasks.detection.model import check_detector


def detect(
    images: options.Images,
    model: Annotated[
        str,
        typer.Option(
            help="Name of the backbone, see `models`, a `.keras` file of a "
            "detector, or what `export` made of one."
        ),
    ] = "convnext_tiny",
    weights: Annotated[
        str,
        typer.Option(
            help="Weights of the detector on a backbone by name: 'coco' or "
            "another tag, a file, or 'none' for random ones."
        ),
    ] = "coco",
    detector: options.Detector = "mask_rcnn",
    output: Annotated[
        Path | None,
        typer.Option(
            help="Folder for pictures with masks, boxes, names and scores."
        ),
    ] = None,
    results: Annotated[
        Path | None,
        typer.Option(help="File for all of it in COCO's format: .json."),
    ] = None,
    score: Annotated[
        float, typer.Option(min=0, max=1, help="Leave out what scores less.")
    ] = 0.3,
    scale: options.Scales = None,
    flip: Annotated[
        bool, typer.Option("--flip", help="Look at the mirrored image, too.")
    ] = False,
    multiple: Annotated[
        int,
        typer.Option(
            min=MULTIPLE,
            help="Round sizes up to multiples of it. 256 compiles few sizes "
            "on JAX, and changes scores a little.",
        ),
    ] = MULTIPLE,
    opacity: Annotated[
        float, typer.Option(min=0, max=1, help="Of the masks.")
    ] = 0.5,
    as_json: options.Json = False,
    force: options.Force = False,
    trust: options.Trust = False,
) -> None:
    """Find the objects in images: boxes, classes, scores and masks.

    In COCO's format an image has its name without ending for an id, a number
    where it is one; classes have COCO's ids, or others from 0 on. Ends with
    status 0, or 1 if some images could not be read.

    Example: keras-convnext detect street.jpg --output pictures

    Example: keras-convnext detect photos --model convnext_base --detector
    cascade_mask_rcnn --score 0.05 --results found.json

    Example: keras-convnext detect photos --model mine.onnx

    Example: keras-convnext detect 'photos/*.jpg' --model mine.keras --scale 1
    --scale 1.5 --flip --json
    """

    # Before the weights are fetched.
    one_of("detector", detector, DETECTORS)
    paths = find_images(images)
    pictures = _pictures(paths, output, force)
    if results is not None:
        check_output(results, force, (".json",))
    rows, in_coco = if_none_is_readable(paths), []
    if not rows:
        searcher = load_on_backbone(model, weights, DETECTORS[detector], trust)
        views = {"scale": scale, "flip": flip, "multiple": multiple}
        find = _finder(searcher, score, views)
        ids = _category_ids(searcher)
        with progress("detecting", len(paths), "images") as advance:
            for path in paths:
                row, found = _searched(path, find, pictures.get(path), opacity)
                rows.append(row)
                if found is not None:
                    in_coco += results_of(found, _image_id(path), ids)
                advance()
        if results is not None:
            with written_aside(results) as unfinished:
                unfinished.write_text(json.dumps(in_coco))
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
    for row in rows:
        if "error" in row:
            typer.echo(f"keras-convnext: {row['error']}", err=True)
        elif not as_json:
            typer.echo(_as_text(row))
    if any("error" in row for row in rows):
        sys.exit(1)


def _searched(path, find, picture, opacity):
    """A dict for one image, and what was found; draws it, if wanted."""
    try:
        pixels = Photograph(path).pixels()
    except Unreadable as error:
        return {"image": str(path), "error": str(error)}, None
    found = find(pixels)
    row = {"image": str(path), **_as_dict(found)}
    if picture is not None:
        make_folder(picture.parent)
        detection.write_drawn(picture, pixels, found, opacity)
        row["output"] = str(picture)
    return row, found


def _pictures(paths, output, force):
    """The path of each image's picture, as they lie beside one another."""
    if output is None:
        return {}
    if not output.absolute().parent.is_dir() or output.is_file():
        raise ValueError(
            "`--output` must be a folder, whose own folder exists. Received: "
            f"{str(output)!r}"
        )
    common = os.path.commonpath([path.absolute().parent for path in paths])
    pictures = {
        path: output / path.absolute().relative_to(common).with_suffix(".png")
        for path in paths
    }
    if len(set(pictures.values())) < len(pictures):
        raise ValueError(
            "Expected images with names that differ before their endings, as "
            f"their pictures end in .png. Received: {len(pictures)} images "
            f"with {len(set(pictures.values()))} names"
        )
    for picture in pictures.values():
        if picture.exists() and not force:
            raise ValueError(
                "The file exists: pass --force to replace it. Received: "
                f"{str(picture)!r}"
            )
    check_writable(output)
    return pictures


def _image_id(path):
    return int(path.stem) if path.stem.isdecimal() else path.stem


def _finder(searcher, score, views):
    """A function from pixels to what is found there."""
    if isinstance(searcher, Artifact):
        usual = {"scale": None, "flip": False, "multiple": MULTIPLE}
        if others := [x for x in views if views[x] != usual[x]]:
            raise ValueError(
                "An exported detector looks at an image once, in one size. "
                f"Received: {', '.join(f'`{x}`' for x in others)} for "
                f"{str(searcher.path)!r}. Leave it out, or pass the `.keras` "
                "file"
            )
        return functools.partial(
            detection.detect_exported, searcher, score=score
        )
    check_detector(searcher)
    return functools.partial(
        detection.detect,
        searcher,
        score=score,
        scales=views["scale"] or (1.0,),
        flip=views["flip"],
        multiple=views["multiple"],
        verbose=False,
    )


def _category_ids(model):
    """COCO's, where the classes are COCO's; else the numbers themselves."""
    if isinstance(model, Artifact):
        classes = model.metadata["classes"]
        names = classes and tuple(name for _, name in classes)
    else:
        names = model.info.class_names
    return coco.CATEGORY_IDS if names == coco.NAMES else range(sys.maxsize)


def _as_dict(found):
    height, width = found.size
    return {
        "height": height,
        "width": width,
        "detections": [
            {
                "class": name,
                "id": int(number),
                "score": float(score),
                "box": box.tolist(),
            }
            for name, number, score, box in zip(
                found.names, found.classes, found.scores, found.boxes
            )
        ],
    }


def _as_text(row):
    lines = [
        f"{x['score']:8.4f}  {x['class']} at "
        + ", ".join(f"{edge:.0f}" for edge in x["box"])
        for x in row["detections"]
    ]
    return "\n".join([row["image"], *(lines or ["  nothing"])])
