"""Data sets by what is written on a command line, and their parts."""

import os
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from keras_convnext._util.annotations import PathLike
from keras_convnext._util.limits import check_archive
from keras_convnext._util.ranges import Count
from keras_convnext._util.ranges import PartBelowOne
from keras_convnext._util.ranges import Seed
from keras_convnext._util.ranges import Several
from keras_convnext._util.ranges import in_range
from keras_convnext.data import tfds
from keras_convnext.data.digits import load_digits
from keras_convnext.data.folder import ImageFolder
from keras_convnext.data.holding_out import fold_of
from keras_convnext.data.holding_out import split
from keras_convnext.data.lists.image_list import ImageList
from keras_convnext.data.lists.image_list import check_apart
from keras_convnext.data.lists.tables import is_list
from keras_convnext.data.parts import NAMES
from keras_convnext.data.parts import by_part
from keras_convnext.data.parts import opened
from keras_convnext.data.records import INDEX
from keras_convnext.data.records import Records
from keras_convnext.data.source import Arrays
from keras_convnext.data.source import Source
from keras_convnext.data.source import same_classes
from keras_convnext.images.folders import subfolders

# What the parts are called as arrays in a file; data of the last has none.
ARRAYS = {
    "train": ("x_train", "y_train"),
    "validation": ("x_test", "y_test"),
    "": ("images", "labels"),
}


@in_range
def open_splits(
    data: PathLike | Source,
    validation: PathLike | Source | None = None,
    validation_split: PartBelowOne = 0.1,
    seed: Seed = 0,
    folds: Several | None = None,
    fold: Count | None = None,
) -> tuple[Source, Source | None]:
    """Opens what to train on, and what to hold out.

    Args:
        data: string or path. A folder with a folder of images for each class,
            or with `train/` and `val/` (`validation/`, `valid/`, `dev/`,
            `eval/`, `test/`, `testing/`; upper or lower case) that are
            arranged so. A folder of records, see `write_records`, or two of
            them, likewise. A list, see `ImageList`. An `.npz` file with
            `images` and `labels` as for `Arrays`, or with `x_train`,
            `y_train`, `x_test` and `y_test`, and perhaps the names of the
            `classes`. `"tfds:NAME"` or `"tfds:NAME@FOLDER"`, see `Tfds`.
            `"digits"`, see `load_digits`. Or a `Source`.
        validation: what to hold out, of the same kinds, if it is not part of
            `data`.
        validation_split: float of at least 0 and below 1, the part of every
            class that is held out of data without a part for it; 0 holds
            nothing out. Of classes with one image that is trained on. Where
            images may have many labels, it is a part of all images, with each
            label in it. Groups, see `ImageList`, stay whole, and take
            scikit-learn.
        seed: int, which images that are.
        folds: int of at least 2: in place of a part, hold out one of so many
            folds. They are those of scikit-learn's `StratifiedKFold` or, where
            there are groups, `StratifiedGroupKFold`, with `shuffle=True` and
            `random_state=seed`. Of many labels: `KFold` and `GroupKFold`. A
            class that training would lack keeps an image, or a group.
        fold: int, which of them, from 1 to `folds`.

    Returns:
        `(train, validation)`: two sources with the same classes; the second
        is `None` if nothing is held out.

    Raises:
        ValueError: if the data is of no known kind, and if the two differ in
            their classes; and for folds of data that has validation images.
        ImportError: if scikit-learn is not installed, for folds and groups.

    Examples:
        >>> train, validation = keras_convnext.data.open_splits("digits")
        >>> len(train), len(validation)
        (1438, 359)
    """
    if (folds is None) != (fold is None):
        raise ValueError(
            "`folds` says how many, and `fold` which of them, from 1. "
            f"Received: folds={folds}, fold={fold}. Pass both or neither"
        )
    parts = parts_of(data)
    train = opened(parts, "train", data)
    if folds is not None and (validation is not None or "validation" in parts):
        raise ValueError(
            "`folds` are for data without validation images of its own. "
            f"Received: folds={folds} for {str(data)!r} with some. Leave one "
            "of them out"
        )
    if folds is not None and fold is not None:
        train, held_out = fold_of(train, folds, fold, seed)
    elif validation is not None:
        held_out = open_data(validation, "validation")
        check_apart(train, held_out)
    elif "validation" in parts:
        held_out = parts["validation"]()
    elif validation_split:
        train, held_out = split(train, validation_split, seed)
    else:
        return train, None
    same_classes(train, held_out)
    return train, held_out


def open_data(data: PathLike | Source, part: str = "train") -> Source:
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


def parts_of(data: PathLike | Source) -> dict[str, Callable[[], Source]]:
    """What data consists of.

    Returns:
        A dict from `"train"` and `"validation"`, or `""` where data has no
        parts, to functions that open them.

    Examples:
        >>> list(keras_convnext.data.splits.parts_of("digits"))
        ['train', 'validation']
    """
    if isinstance(data, Source):
        return data.parts()
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
        parts, names = _arrays_in(path)
        return _of_arrays(parts, names, path)
    if is_list(path):
        return ImageList(path).parts()
    if not path.is_dir():
        raise ValueError(
            "Expected a folder of images, arranged as CLASS/IMAGE, or as "
            "train/CLASS/IMAGE and val/CLASS/IMAGE; a folder of records; a "
            ".csv, .jsonl or .parquet file that lists images; an .npz file; "
            "'tfds:NAME'; or 'digits'. Received: "
            f"{data!r}, which is none of them"
        )
    parts = folders_of(path)
    return {part: partial(_open, folder) for part, folder in parts.items()}


def folders_of(path: Path) -> dict[str, Path]:
    """The folders of the parts of a data set, or itself as `""`."""
    aliases = {alias for names in NAMES.values() for alias in names}
    records = {x.parent.name for x in path.glob(f"*/{INDEX}")}
    folders = {*subfolders(path)}
    folders |= {name for name in records if name.lower() in aliases}
    parts = by_part(folders)
    # A class may be called `train`, too.
    if parts and (
        len(parts) == len(NAMES) or aliases.issuperset(map(str.lower, folders))
    ):
        return {part: path / name for part, name in parts.items()}
    return {"": path}


def is_of_records(path: Path) -> bool:
    """Whether a folder holds records, see `write_records`."""
    return (path / INDEX).exists()


def _open(path):
    return Records(path) if is_of_records(path) else ImageFolder(path)


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
                part: (file[images], _labels_in(file[labels]))
                for part, (images, labels) in ARRAYS.items()
                if images in file and labels in file
            }
            names = list(file)
            classes = file["classes"].tolist() if "classes" in file else None
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
    return parts, classes


def _labels_in(labels):
    """Some files have one class number in each row."""
    is_row = labels.ndim == 2 and labels.shape[1] > 1
    return labels if is_row else labels.reshape(-1)


def _of_arrays(parts, names=None, path="digits"):
    """Sources of arrays, whose classes are those of all parts together."""
    try:
        sources = {
            part: Arrays(*arrays, names) for part, arrays in parts.items()
        }
    except ValueError as error:
        raise ValueError(f"In {os.fspath(path)!r}: {error}") from error
    classes = max((x.classes for x in sources.values()), key=len)
    return {
        part: partial(Arrays, *arrays, classes)
        for part, arrays in parts.items()
    }
