"""COCO's JSON: boxes, polygons, runs, crowds, and numbers with holes."""

from collections.abc import Mapping
from pathlib import Path

from keras_convnext._util.annotations import PathLike
from keras_convnext._util.checks import is_positive_int
from keras_convnext._util.json_files import check_fields
from keras_convnext._util.json_files import read_object
from keras_convnext.data.objects.places import below
from keras_convnext.data.objects.places import sizes_of
from keras_convnext.data.objects.source import ObjectSource
from keras_convnext.data.objects.source import Table

LISTS = {"images": list, "annotations": list, "categories": list}
IMAGE = {"id": int, "file_name": str}
CATEGORY = {"id": int, "name": str}
# Beyond it areas in float32 are infinite.
FAR = 1e18
OBJECT = {"image_id": int, "category_id": int, "bbox": list}


def read_coco(path: PathLike, images: PathLike | None = None) -> ObjectSource:
    """Images with objects, from a file in COCO's format.

    Args:
        path: of the JSON file.
        images: the folder that its `file_name`s are in. If `None`, the first
            folder that has the first image: the file's own, or one beside it
            or beside its folder. That is called `images`, or as the part in
            the file's name: `train2017` for `instances_train2017.json`.

    Returns:
        An `ObjectSource`. Images without annotations are among them, and
        classes are in the order of their numbers.

    Raises:
        ValueError: for files of other kinds and damaged ones, naming what is
            wrong where.

    Examples:
        >>> source = keras_convnext.data.read_coco(
        ...     "coco/annotations/instances_val2017.json"
        ... )  # doctest: +SKIP
        >>> len(source), len(source.classes)  # doctest: +SKIP
        (5000, 80)
    """
    path = Path(path)
    try:
        return _read(path, images)
    except (ValueError, OSError) as error:
        raise ValueError(
            "Expected a JSON file with objects in COCO's format. Received: "
            f"{str(path)!r}, {error}"
        ) from error


def _read(path, images):
    content = read_object(path, LISTS)
    for name, fields in (("categories", CATEGORY), ("images", IMAGE)):
        for number, record in enumerate(content[name]):
            check_fields(record, fields, f"{name}[{number}]")
    records = sorted(content["categories"], key=lambda x: x["id"])
    class_ids = _unlike("categories", [x["id"] for x in records])
    ids = _unlike("images", [x["id"] for x in content["images"]])
    names = [x["file_name"] for x in content["images"]]
    folder = _folder_of(path, names) if images is None else Path(images)
    names = [below(folder, name) for name in names]
    table, by_id = Table(), {x: i for i, x in enumerate(ids)}
    labels = {x: i for i, x in enumerate(class_ids)}
    for number, record in enumerate(content["annotations"]):
        where = f"annotations[{number}]"
        check_fields(record, OBJECT, where)
        image, label = record["image_id"], record["category_id"]
        if image not in by_id:
            raise ValueError(f"{where} is of image {image!r}, which is missing")
        if label not in labels:
            raise ValueError(
                f"{where} is of category {label}, which is missing"
            )
        x, y, width, height = _numbers(where, record["bbox"], 4)
        (area,) = _numbers(where, [record.get("area", width * height)], 1)
        table.add(
            by_id[image],
            labels[label],
            (x, y, x + width, y + height),
            area,
            bool(record.get("iscrowd") or record.get("ignore")),
            _outline(where, record.get("segmentation")),
        )
    return ObjectSource(
        path,
        folder,
        names,
        _sizes(content["images"], folder, names),
        [x["name"] for x in records],
        table,
        ids,
        class_ids,
    )


def _folder_of(path, names):
    """Where the first image is, of the places that tools know."""
    top = path.absolute().parent
    part = path.stem.split("_")[-1]
    places = [top, top / "images", top / part, top.parent / part]
    places += [top.parent / "images", top.parent / "images" / part]
    places += [top.parent]
    if not names:
        return top
    for place in places:
        if (place / names[0]).is_file():
            return place
    raise ValueError(
        f"whose first image, {names[0]!r}, is in none of "
        f"{', '.join(map(str, places))}. Pass the folder as `images`"
    )


def _sizes(records, folder, names):
    """By the file where it tells them, or else by the images themselves."""
    sizes = [(x.get("height"), x.get("width")) for x in records]
    if all(is_positive_int(x) and x < 2**31 for size in sizes for x in size):
        return sizes
    return sizes_of(folder, names)


def _outline(where, value):
    """Polygons or runs, or `None`; what is in them is checked when needed."""
    if not value:
        return None
    if isinstance(value, Mapping):
        if {"size", "counts"} <= value.keys():
            counts = value["counts"]
            if isinstance(counts, str):
                counts = counts.encode(errors="replace")
            return {"size": value["size"], "counts": counts}
    elif isinstance(value, list) and all(isinstance(x, list) for x in value):
        return value
    raise ValueError(
        f"{where} has a segmentation that is neither a list of polygons nor "
        f"of `size` and `counts`: {str(value)[:60]}"
    )


def _numbers(where, values, count):
    # Neither NaN nor what has an infinite area; a bool is no number here.
    if len(values) != count or not all(
        type(x) in (int, float) and -FAR < x < FAR for x in values
    ):
        raise ValueError(
            f"{where} must have {count} finite numbers as bbox or area, and "
            f"has {str(values)[:60]}"
        )
    return values


def _unlike(what, ids):
    seen = set()
    for x in ids:
        if x in seen:
            raise ValueError(f"two of its {what} have the id {x!r}")
        seen.add(x)
    return ids
