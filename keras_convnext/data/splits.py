"""Data sets by what is written on a command line, and their parts."""

import os
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from keras_convnext._util.annotations import PathLike
from keras_convnext._util.limits import check_archive
from keras_convnext._util.ranges import PartBelowOne
from keras_convnext._util.ranges import PartBetween
from keras_convnext._util.ranges import Seed
from keras_convnext._util.ranges import in_range
from keras_convnext.data import tfds
from keras_convnext.data.digits import load_digits
from keras_convnext.data.folder import ImageFolder
from keras_convnext.data.records import INDEX
from keras_convnext.data.records import Records
from keras_convnext.data.source import Arrays
from keras_convnext.data.source import Source
from keras_convnext.data.source import Subset
from keras_convnext.data.source import same_classes
from keras_convnext.images.folders import subfolders

# What the parts are called, as folders and as splits of TFDS, in letters of
# any case; of several the first counts.
NAMES = {
    "train": ("train", "training"),
    "validation": (
        "val",
        "validation",
        "valid",
        "dev",
        "eval",
        "test",
        "testing",
    ),
}
# And as arrays in a file; the data has no parts in the last.
ARRAYS = {
    "train": ("x_train", "y_train"),
    "validation": ("x_test", "y_test"),
    "": ("images", "labels"),
}


@in_range
def open_splits(
    data: PathLike,
    validation: PathLike | None = None,
    validation_split: PartBelowOne = 0.1,
    seed: Seed = 0,
) -> tuple[Source, Source | None]:
    """Opens what to train on, and what to hold out.

    Args:
        data: string or path. A folder with a folder of images for each class,
            or with `train/` and `val/` (`validation/`, `valid/`, `dev/`,
            `eval/`, `test/`, `testing/`; upper or lower case) that are
            arranged so; a folder of records, see `write_records`, or
            two of them, likewise; an `.npz` file with `images` and `labels`,
            or with `x_train`, `y_train`, `x_test` and `y_test`;
            `"tfds:NAME"` or `"tfds:NAME@FOLDER"`, see `Tfds`; `"digits"`, see
            `load_digits`.
        validation: what to hold out, of the same kinds, if it is not part of
            `data`.
        validation_split: float of at least 0 and below 1, the part of every
            class that is held out of data without a part for it; 0 holds
            nothing out.
        seed: int, which images that are.

    Returns:
        `(train, validation)`: two sources with the same classes; the second
        is `None` if nothing is held out.

    Raises:
        ValueError: if the data is of no known kind, and if the two differ in
            their classes.

    Examples:
        >>> train, validation = keras_convnext.data.open_splits("digits")
        >>> len(train), len(validation)
        (1438, 359)
    """
    parts = parts_of(data)
    train = opened(parts, "train", data)
    if validation is not None:
        held_out = open_data(validation, "validation")
    elif "validation" in parts:
        held_out = parts["validation"]()
    elif validation_split:
        train, held_out = split(train, validation_split, seed)
    else:
        return train, None
    same_classes(train, held_out)
    return train, held_out


def open_data(data: PathLike, part: str = "train") -> Source:
    """Opens one part of a data set, or the whole if it has no parts.

    Args:
        data: see `open_splits`.
        part: `"train"` or `"validation"`.

    Returns:
        A `Source`.

    Raises:
        ValueError: if the data is of no known kind, or has other parts alone.

    Examples:
        >>> len(keras_convnext.data.splits.open_data("digits", "validation"))
        359
    """
    return opened(parts_of(data), part, data)


def parts_of(data: PathLike) -> dict[str, Callable[[], Source]]:
    """What data consists of.

    Returns:
        A dict from `"train"` and `"validation"`, or `""` where data has no
        parts, to functions that open them.

    Examples:
        >>> list(keras_convnext.data.splits.parts_of("digits"))
        ['train', 'validation']
    """
    data = os.fspath(data)
    if data == "digits":
        return _of_arrays(dict(zip(NAMES, load_digits())))
    if data.startswith("tfds:"):
        name, _, folder = data.removeprefix("tfds:").partition("@")
        splits = by_part(tfds.splits_of(name, folder or None))
        return {
            part: partial(tfds.Tfds, name, split, folder or None)
            for part, split in splits.items()
        }
    path = Path(data)
    if path.suffix == ".npz" and path.is_file():
        return _of_arrays(_arrays_in(path), path)
    if not path.is_dir():
        raise ValueError(
            "Expected a folder of images, arranged as CLASS/IMAGE, or as "
            "train/CLASS/IMAGE and val/CLASS/IMAGE; a folder of records; an "
            ".npz file; 'tfds:NAME'; or 'digits'. Received: "
            f"{data!r}, which is none of them"
        )
    aliases = {alias for names in NAMES.values() for alias in names}
    records = {x.parent.name for x in path.glob(f"*/{INDEX}")}
    folders = {*subfolders(path)}
    folders |= {name for name in records if name.lower() in aliases}
    parts = by_part(folders)
    # A class may be called `train`, too.
    if parts and (
        len(parts) == len(NAMES) or aliases.issuperset(map(str.lower, folders))
    ):
        return {x: partial(_open, path / name) for x, name in parts.items()}
    return {"": partial(_open, path)}


@in_range
def split(
    source: Source, validation_split: PartBetween, seed: Seed
) -> tuple[Source, Source]:
    """Two parts of a source; the second has its part of each class."""
    generator = np.random.default_rng(seed)
    is_held_out = np.zeros(len(source), bool)
    by_class = np.argsort(source.labels, kind="stable")
    ends = np.cumsum(np.bincount(source.labels, minlength=len(source.classes)))
    for name, numbers in zip(source.classes, np.split(by_class, ends[:-1])):
        if len(numbers) < 2:
            raise ValueError(
                "Every class needs two images, one to train on and one to "
                f"hold out. Received: {len(numbers)} of {name!r}. Add some, "
                "pass a `validation` of its own, or hold out none with "
                "validation_split=0"
            )
        count = round(validation_split * len(numbers))
        count = min(max(count, 1), len(numbers) - 1)
        is_held_out[generator.permutation(numbers)[:count]] = True
    return (
        Subset(source, np.flatnonzero(~is_held_out)),
        Subset(source, np.flatnonzero(is_held_out)),
    )


def opened(parts, part, data):
    """One of the parts, or the whole where there are none."""
    open_part = parts.get(part) or parts.get("")
    if open_part is None:
        raise ValueError(
            f"Expected data with a part for {part}, called one of "
            f"{', '.join(NAMES[part])}. Received: {str(data)!r} with one for "
            f"{' and '.join(parts)} alone. Pass what is in it"
        )
    return open_part()


def by_part(names):
    """The first name of each part that is among `names`."""
    # Of names that differ in case alone the last in order is in small letters.
    by_alias = {name.lower(): name for name in sorted(names)}
    parts = {}
    for part, aliases in NAMES.items():
        for alias in aliases:
            if alias in by_alias:
                parts.setdefault(part, by_alias[alias])
    return parts


def _open(path):
    return Records(path) if (path / INDEX).exists() else ImageFolder(path)


def _arrays_in(path):
    """The images and labels of each part in an `.npz` file."""
    try:
        with zipfile.ZipFile(path) as archive:
            check_archive(archive, path)
            # NumPy alone compares no checksum where a header is wrong.
            if archive.testzip():
                raise ValueError("whose checksums do not fit")
        with np.load(path) as file:
            parts = {
                part: (file[images], file[labels].reshape(-1))
                for part, (images, labels) in ARRAYS.items()
                if images in file and labels in file
            }
            names = list(file)
    # Broken headers end in anything: SyntaxError, tokenize.TokenError …
    except Exception as error:
        raise ValueError(
            "Expected an .npz file that NumPy reads without pickles. Received:"
            f" {str(path)!r}, {error}. Write it by `numpy.savez`"
        ) from error
    if not parts:
        raise ValueError(
            "Expected arrays `images` and `labels`, or `x_train`, `y_train`, "
            f"`x_test` and `y_test`. Received: {names} in {str(path)!r}. "
            "Rename them"
        )
    return parts


def _of_arrays(parts, path="digits"):
    """Sources of arrays, whose classes are those of all parts together."""
    try:
        sources = {part: Arrays(*arrays) for part, arrays in parts.items()}
    except ValueError as error:
        raise ValueError(f"In {os.fspath(path)!r}: {error}") from error
    classes = max((x.classes for x in sources.values()), key=len)
    return {
        part: partial(Arrays, *arrays, classes)
        for part, arrays in parts.items()
    }
