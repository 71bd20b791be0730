"""Images without labels: those below a folder, and other kinds of data."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from keras_convnext._util.annotations import PathLike
from keras_convnext._util.limits import check_file
from keras_convnext.data import splits
from keras_convnext.data.source import Source
from keras_convnext.images.folders import SUFFIXES
from keras_convnext.images.folders import images_below


class ImageFiles(Source):
    """All images in a folder and below it, without labels.

    Args:
        path: the folder. What counts in it is as for `ImageFolder`, but that
            folders are no classes.
        is_upright: whether to apply the EXIF orientation of photographs.

    Attributes:
        classes, labels: an empty tuple, and zeros.

    Raises:
        ValueError: if the folder is missing, unreadable or has no images.

    Examples:
        >>> source = keras_convnext.data.ImageFiles("photos")  # doctest: +SKIP
        >>> len(source)  # doctest: +SKIP
        10000
    """

    def __init__(self, path: PathLike, is_upright: bool = True):
        self.path = Path(path)
        self.is_upright = is_upright
        names = []
        if self.path.is_dir():
            names = [os.fspath(x) for x in images_below(self.path)]
        if not names:
            raise ValueError(
                "Expected a folder with images in it or below it. Received: "
                f"{str(path)!r}, where there are none that end in one of "
                f"{' '.join(SUFFIXES)}"
            )
        # Strings would take many times the memory of their bytes.
        start = len(os.path.join(self.path, ""))
        encoded = [os.fsencode(name[start:]) for name in names]
        self._names = b"".join(encoded)
        self._ends = np.cumsum([len(x) for x in encoded])
        self.labels = np.zeros(len(names), "int32")

    def read(self, number: int) -> bytes:
        path = Path(self.name(number))
        check_file(path)  # a pipe would never end
        return path.read_bytes()

    def filename(self, number: int) -> str:
        start = self._ends[number - 1] if number else 0
        return os.fsdecode(self._names[start : self._ends[number]])

    def name(self, number: int) -> str:
        return os.path.join(self.path, self.filename(number))

    def content(self) -> Iterator[bytes]:
        yield self._names
        for number in range(len(self)):
            size = -1  # of what has been removed since
            with contextlib.suppress(OSError):
                size = os.stat(self.name(number)).st_size
            yield size.to_bytes(8, "little", signed=True)


def open_images(data: PathLike | Source) -> Source:
    """Opens images to learn from without labels.

    Args:
        data: a folder of images, flat or with folders in it; one with
            `train/` beside `val/`, `test/` or the like, of which the first
            is taken; or anything that `open_splits` takes, likewise. Its
            labels are left alone.

    Returns:
        A `Source`.

    Raises:
        ValueError: for data of no known kind, or without images.

    Examples:
        >>> len(keras_convnext.data.open_images("digits"))
        1438
    """
    if not isinstance(data, Source) and Path(data).is_dir():
        parts = splits.folders_of(Path(data))
        folder = parts.get("train") or parts.get("")
        if folder is not None and not splits.is_of_records(folder):
            return ImageFiles(folder)
    return splits.open_data(data)
