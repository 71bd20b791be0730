"""Pascal VOC's XML: one file beside each image, or in a folder of its own."""

import math
import os
from pathlib import Path
from xml.etree import ElementTree
from xml.parsers import expat

from keras_convnext._util.annotations import PathLike
from keras_convnext._util.checks import some
from keras_convnext._util.limits import check_file
from keras_convnext.data.objects import voc_masks
from keras_convnext.data.objects.places import sizes_of
from keras_convnext.data.objects.source import ObjectSource
from keras_convnext.data.objects.source import Table
from keras_convnext.images import rle
from keras_convnext.images.folders import is_image
from keras_convnext.images.folders import walk

ANNOTATIONS, IMAGES, SETS = "Annotations", "JPEGImages", "ImageSets/Main"
# Bytes of the description of one image.
LARGEST = 2**24


def read_voc(path: PathLike, part: str | None = None) -> ObjectSource:
    """Images with objects, from files in the format of Pascal VOC.

    VOC's numbers count pixels from 1; here a box from pixel 1 to pixel `w` is
    0 to `w`, and difficult objects are crowds.

    A PNG in `SegmentationObject/` has the masks of an image's objects. The
    pixels of one number are a mask. The number is that of the object in the XML
    file, unless the mask fits another object's box better. The border, 255, is
    part of no mask.

    Args:
        path: a folder with `Annotations/`, `JPEGImages/` and perhaps
            `SegmentationObject/`, or one with images and an XML file beside
            each.
        part: `"train"` or the like, for the images that
            `ImageSets/Main/train.txt` lists; all if `None`.

    Returns:
        An `ObjectSource`, with classes in the order of their names. Images
        without a description have no objects.

    Raises:
        ValueError: for damaged files, naming what is wrong where.

    Warns:
        If a PNG has a mask that no object has, or lacks one.

    Examples:
        >>> source = keras_convnext.data.read_voc(
        ...     "VOCdevkit/VOC2012", "train"
        ... )  # doctest: +SKIP
    """
    path = Path(path)
    folder, descriptions = path, path
    if (path / ANNOTATIONS).is_dir():
        folder, descriptions = path / IMAGES, path / ANNOTATIONS
    names = [
        os.path.relpath(os.path.join(place, name), folder)
        for place, _, files in walk(folder)
        for name in files
        if is_image(name)
    ]
    contents = {}
    for name in sorted(names):
        file = (descriptions / name).with_suffix(".xml")
        contents[name] = _objects(file) if file.exists() else []
    # Of all parts: one may lack a class.
    classes = {name for rows in contents.values() for name, *_ in rows}
    labels = {name: label for label, name in enumerate(sorted(classes))}
    names = [*contents]
    if part is not None:
        names = _listed(path / SETS / f"{part}.txt", names)
    sizes = sizes_of(folder, names)
    pictures = [
        (path / voc_masks.FOLDER / name).with_suffix(".png") for name in names
    ]
    outlines = voc_masks.outlines_of(
        [x if x.exists() else None for x in pictures],
        [[box for _, box, _ in contents[name]] for name in names],
        sizes,
    )
    table = Table()
    for number, image in enumerate(names):
        for (name, box, is_difficult), outline in zip(
            contents[image], outlines[number]
        ):
            left, top, right, bottom = box
            area = max(right - left, 0) * max(bottom - top, 0)
            if outline is not None:
                area = rle.area(outline)
            table.add(number, labels[name], box, area, is_difficult, outline)
    return ObjectSource(path, folder, names, sizes, sorted(classes), table)


def _listed(path, names):
    """Those images that a list of names without endings has, in its order."""
    by_stem = {os.path.splitext(name)[0]: name for name in names}
    try:
        check_file(path)
        lines = path.read_text(encoding="utf-8").splitlines()
    except (ValueError, OSError) as error:
        raise ValueError(
            f"Expected a list of images. Received: {str(path)!r}, {error}"
        ) from error
    stems = [line.split()[0] for line in lines if line.strip()]
    if missing := [x for x in stems if x not in by_stem]:
        raise ValueError(
            f"Expected the images that {str(path)!r} lists. Received: none for "
            f"{some(missing)}"
        )
    return [by_stem[x] for x in dict.fromkeys(stems)]


def _objects(path):
    """Name, box and whether it is difficult, of each object in a file."""
    try:
        root = _parsed(path)
        return [_object(x) for x in root.iter("object")]
    except (ValueError, OSError, expat.ExpatError) as error:
        raise ValueError(
            "Expected an XML file with objects in the format of Pascal VOC. "
            f"Received: {str(path)!r}, {error}"
        ) from error


def _object(element):
    name = (element.findtext("name") or "").strip()
    if not name:
        raise ValueError("with an object that has no name")
    box = element.find("bndbox")
    values = []
    for field in ("xmin", "ymin", "xmax", "ymax"):
        text = "" if box is None else box.findtext(field) or ""
        try:
            values.append(float(text))
        except ValueError:
            values.append(math.nan)
        if not abs(values[-1]) < 1e9:
            raise ValueError(f"with {text[:40]!r} as {field} of {name!r}")
    difficult = (element.findtext("difficult") or "0").strip()
    left, top, right, bottom = values
    return name, (left - 1, top - 1, right, bottom), difficult not in ("0", "")


def _parsed(path):
    """The root element; a file that defines entities is refused."""
    check_file(path)
    if os.path.getsize(path) > LARGEST:
        raise ValueError(f"which has more than {LARGEST} bytes")
    tree = ElementTree.TreeBuilder()
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = tree.start
    parser.EndElementHandler = tree.end
    parser.CharacterDataHandler = tree.data
    parser.StartDoctypeDeclHandler = _refuse
    parser.Parse(path.read_bytes(), True)
    return tree.close()


def _refuse(*_):
    raise ValueError(
        "with a document type, by which a small file may become a huge one. "
        "Remove it"
    )
