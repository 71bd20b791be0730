"""YOLO's text files: boxes or polygons, as parts of the image's sides."""

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from keras_convnext._util.annotations import PathLike
from keras_convnext._util.checks import one_of
from keras_convnext._util.limits import check_file
from keras_convnext.data.objects.places import sizes_of
from keras_convnext.data.objects.source import ObjectSource
from keras_convnext.data.objects.source import Table
from keras_convnext.images.folders import is_image
from keras_convnext.images.folders import walk

PARTS = {"train": ("train",), "validation": ("val", "test")}
# Bytes of a file that lists classes, and of one with the objects of an image.
LARGEST = 2**24


def read_yolo(path: PathLike, part: str = "train") -> ObjectSource:
    """Images with objects, from text files in the format of YOLO.

    Each line is a class number and either the center and the size of a box or
    the corners of a polygon, in parts of the image's width and height.

    Args:
        path: the YAML file with `names`, and `train` and `val`: folders of
            images, below its own folder or the one that it calls `path`; or a
            folder with a `data.yaml`.
        part: `"train"` or `"validation"`.

    Returns:
        An `ObjectSource`. The text of `images/train/1.jpg` is
        `labels/train/1.txt`, or beside it; images without one have no objects.

    Raises:
        ValueError: for damaged files, naming what is wrong where.

    Examples:
        >>> source = keras_convnext.data.read_yolo(
        ...     "coco128/data.yaml"
        ... )  # doctest: +SKIP
    """
    path = Path(path)
    if path.is_dir():
        path = path / "data.yaml"
    one_of("part", part, tuple(PARTS))
    content = contents_of(path)
    classes = content["names"]
    places = [content[x] for x in PARTS[part] if content.get(x)][:1]
    if not places:
        raise _error(path, f"which has nothing to call {part}")
    folder = _folder(path, content.get("path"), places[0])
    names = sorted(
        os.path.relpath(os.path.join(place, name), folder)
        for place, _, files in walk(folder)
        for name in files
        if is_image(name)
    )
    sizes = sizes_of(folder, names)
    table = Table()
    for number, (name, (height, width)) in enumerate(zip(names, sizes)):
        text = _text_of(folder / name)
        for row in _rows(text, len(classes)) if text else ():
            _add(table, number, row, int(height), int(width))
    return ObjectSource(path, folder, names, sizes, classes, table)


def contents_of(path):
    """The mapping in a YAML file, with `names` as a list."""
    import yaml  # what few need, all would import

    try:
        check_file(path)
        if os.path.getsize(path) > LARGEST:
            raise ValueError(f"which has more than {LARGEST} bytes")
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError, yaml.YAMLError) as error:
        raise _error(path, error) from error
    if not isinstance(content, Mapping):
        raise _error(path, "which holds no fields")
    names = content.get("names")
    if isinstance(names, Mapping):
        numbers = sorted(x for x in names if isinstance(x, int))
        if numbers != list(range(len(names))):
            raise _error(path, f"whose names have the numbers {[*names]}"[:200])
        names = [names[x] for x in numbers]
    # Aliases make lists of lists that nobody can write out.
    is_flat = isinstance(names, list) and all(
        isinstance(x, (str, int, float)) for x in names
    )
    if not is_flat or not names:
        raise _error(path, "which has no list of `names`")
    return {**content, "names": [str(x) for x in names]}


def _folder(path, top, place):
    """Where images are, by what the YAML file says or what it means."""
    if not isinstance(place, str) or not isinstance(top, (str, type(None))):
        raise _error(path, "in which `path` or the part names no folder")
    own = path.absolute().parent
    tops = [own / top, own] if top else [own]
    places = [x / place for x in tops]
    # Roboflow writes ../train/images into a file that is beside train/.
    places += [own / place.removeprefix("../")]
    for found in places:
        if found.is_dir():
            return found
    raise _error(
        path, f"whose folder {place!r} is none of {[*map(str, places)]}"
    )


def _text_of(image):
    """The path of the text of an image; `None` if there is none."""
    parts = list(image.parts)
    beside = image.with_suffix(".txt")
    if "images" in parts:
        place = len(parts) - 1 - parts[::-1].index("images")
        parts[place] = "labels"
        beside = [Path(*parts).with_suffix(".txt"), beside]
    else:
        beside = [beside]
    return next((x for x in beside if x.exists()), None)


def _rows(path, classes):
    """A class number and coordinates, for each line."""
    check_file(path)
    if os.path.getsize(path) > LARGEST:
        raise _wrong(path, 0, f"more than {LARGEST} bytes")
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except ValueError as error:
        raise _wrong(path, 0, error) from error
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            label, *values = map(float, line.split() or ["nan"])
        except ValueError as error:
            raise _wrong(path, number, repr(line[:60])) from error
        if not line.strip():
            continue
        is_whole = len(values) == 4 or len(values) >= 6 and not len(values) % 2
        if not is_whole or not all(-1 <= x <= 2 for x in values):
            raise _wrong(path, number, repr(line[:60]))
        if label not in range(classes):
            raise _wrong(path, number, f"class {label:g} of {classes}")
        rows.append((int(label), values))
    return rows


def _add(table: Table, image: int, row: Any, height: int, width: int) -> None:
    label, values = row
    outline = None
    if len(values) == 4:
        x, y, across, down = values
        x, y = x - across / 2, y - down / 2
        box = x * width, y * height, (x + across) * width, (y + down) * height
    else:
        columns = [x * width for x in values[::2]]
        rows = [y * height for y in values[1::2]]
        box = min(columns), min(rows), max(columns), max(rows)
        outline = [[x for pair in zip(columns, rows) for x in pair]]
    area = (box[2] - box[0]) * (box[3] - box[1])
    if outline:
        area = _polygon_area(columns, rows)
    table.add(image, label, box, area, outline=outline)


def _polygon_area(columns, rows):
    """By the shoelace formula."""
    pairs = zip(columns, rows, columns[1:] + columns[:1], rows[1:] + rows[:1])
    return abs(math.fsum(x * v - u * y for x, y, u, v in pairs)) / 2


def _wrong(path, line, what):
    where = f", line {line}" if line else ""
    return ValueError(
        "Expected lines of a class number and the box or polygon of an object,"
        f" in parts of the image's sides. Received: {str(path)!r}{where}: "
        f"{what}"
    )


def _error(path, what):
    return ValueError(
        "Expected a YAML file with `names`, `train` and `val` in the format of "
        f"YOLO. Received: {str(path)!r}, {what}"
    )
