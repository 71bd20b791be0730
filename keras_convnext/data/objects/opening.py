"""Data sets of objects by what is written on a command line."""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from keras_convnext._util.annotations import PathLike
from keras_convnext._util.ranges import PartBelowOne
from keras_convnext._util.ranges import Seed
from keras_convnext._util.ranges import in_range
from keras_convnext.data.objects import voc
from keras_convnext.data.objects import yolo
from keras_convnext.data.objects.coco import read_coco
from keras_convnext.data.objects.source import ObjectSource
from keras_convnext.data.objects.source import ObjectSubset
from keras_convnext.data.parts import by_part
from keras_convnext.data.parts import opened
from keras_convnext.data.source import order_of
from keras_convnext.data.source import same_classes
from keras_convnext.images.folders import subfolders

KINDS = (
    "a JSON file in COCO's format; a folder with annotations/instances_*.json,"
    " or with such a file beside the images, in it or in train/ and val/; a "
    "YAML file of YOLO, or a folder with data.yaml; or a folder with Pascal "
    "VOC's XML files"
)
Objects = ObjectSource | ObjectSubset


@in_range
def open_objects(
    data: PathLike,
    validation: PathLike | None = None,
    validation_split: PartBelowOne = 0.1,
    seed: Seed = 0,
) -> tuple[Objects, Objects | None]:
    """Opens images with objects to train on, and what to hold out.

    Args:
        data: string or path. A JSON file in COCO's format, or a folder with
            `annotations/instances_train2017.json` and the like, or with a JSON
            file in it, or in `train/` and `valid/`. A YAML file of YOLO, or a
            folder with `data.yaml`. A folder with Pascal VOC's XML files.
        validation: what to hold out, of the same kinds, if it is not part of
            `data`.
        validation_split: float of at least 0 and below 1, the part of the
            images that is held out of data without a part for it; 0 holds
            nothing out.
        seed: int, which images that are.

    Returns:
        `(train, validation)`: two sources with the same classes; the second
        is `None` if nothing is held out.

    Raises:
        ValueError: if the data is of no known kind or damaged, and if the two
            differ in their classes.

    Examples:
        >>> train, validation = keras_convnext.data.open_objects(
        ...     "coco"
        ... )  # doctest: +SKIP
    """
    parts = parts_of(data)
    train = opened(parts, "train", data)
    if validation is not None:
        held_out = open_part(validation, "validation")
    elif "validation" in parts:
        held_out = parts["validation"]()
    elif validation_split:
        count = min(round(validation_split * len(train)), len(train) - 1)
        order = order_of(len(train), seed, 0)
        held_out, train = (
            ObjectSubset(train, np.sort(x))
            for x in np.split(order, [max(count, 1)])
        )
    else:
        return train, None
    same_classes(train, held_out)
    return train, held_out


def open_part(data: PathLike, part: str = "train") -> Objects:
    """Opens one part of a data set of objects, or the whole if it has none.

    Args:
        data: see `open_objects`.
        part: `"train"` or `"validation"`.
    """
    return opened(parts_of(data), part, data)


def is_objects(data: PathLike) -> bool:
    """Whether data is of a kind that tells objects, by its files' names."""
    return bool(_parts(Path(data)))


def parts_of(data: PathLike) -> dict[str, Callable[[], Objects]]:
    """What data consists of, see `splits.parts_of`."""
    parts = _parts(Path(data))
    if not parts:
        raise ValueError(
            f"Expected images with objects: {KINDS}. Received: "
            f"{os.fspath(data)!r}, which is none of them"
        )
    return parts


def _parts(path):
    if path.suffix == ".json" and path.is_file():
        return {"": partial(read_coco, path)}
    if path.suffix in (".yaml", ".yml") and path.is_file():
        return _yolo(path)
    if not path.is_dir():
        return {}
    if (path / "data.yaml").is_file():
        return _yolo(path / "data.yaml")
    return _coco(path) or _voc(path)


def _yolo(path):
    content = yolo.contents_of(path)
    return {
        part: partial(yolo.read_yolo, path, part)
        for part, names in yolo.PARTS.items()
        if any(content.get(x) for x in names)
    }


def _coco(path):
    """By a file for each part, or by a folder with one for each."""
    files = {_part_of(x): x for x in path.glob("annotations/instances_*.json")}
    if parts := by_part(files):
        return {x: partial(read_coco, files[name]) for x, name in parts.items()}
    found = {x: [*(path / x).glob("*.json")] for x in subfolders(path)}
    found = {x: files for x, files in found.items() if len(files) == 1}
    if parts := by_part(found):
        return {x: partial(read_coco, *found[y]) for x, y in parts.items()}
    files = [*path.glob("*.json")]
    return {"": partial(read_coco, *files)} if len(files) == 1 else {}


def _part_of(path):
    """`train` of `instances_train2017.json`."""
    return path.stem.removeprefix("instances_").rstrip("0123456789")


def _voc(path):
    if (path / voc.ANNOTATIONS).is_dir():
        lists = {x.stem for x in path.glob(f"{voc.SETS}/*.txt")}
        if parts := by_part(lists):
            return {x: partial(voc.read_voc, path, y) for x, y in parts.items()}
        return {"": partial(voc.read_voc, path)}
    return {"": partial(voc.read_voc, path)} if [*path.glob("*.xml")] else {}
