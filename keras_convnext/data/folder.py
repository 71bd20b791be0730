"""Folders of images, one folder for each class."""

import contextlib
import os
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from keras_convnext._util.annotations import PathLike
from keras_convnext._util.checks import some
from keras_convnext._util.limits import check_file
from keras_convnext.data.source import Source
from keras_convnext.images.folders import ending_of
from keras_convnext.images.folders import is_image
from keras_convnext.images.folders import subfolders
from keras_convnext.images.folders import tell_ignored
from keras_convnext.images.folders import walk

ARRANGEMENT = "Arrange the images as CLASS/IMAGE, one folder for each class"


class Files(Source):
    """Images that are files below the folder `path`."""

    path: Path

    def _keep(self, names, lengths):
        """Names as bytes in a row: strings would take many times the memory,
        and there are data sets with millions."""
        self._names, self._ends = names, np.cumsum(lengths)

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
            # Links that lead nowhere, and files removed since, have no size:
            # reading skips them.
            size = -1
            with contextlib.suppress(OSError):
                size = os.stat(self.name(number)).st_size
            yield size.to_bytes(8, "little", signed=True)


class ImageFolder(Files):
    """Images below one folder for each class, as torchvision's `ImageFolder`.

    Args:
        path: the folder that holds the classes' folders. Classes are in the
            order of their names, and so are the images of a class, with those
            in folders below. Links count as folders, but for those that lead
            in circles. Names that begin with a dot, what systems leave
            (`Thumbs.db`, `__MACOSX` …) and the results of runs do not count.
        is_upright: whether to apply the EXIF orientation of photographs.

    Attributes:
        path, classes, labels, is_upright: see `Source`.
        ignored: int, how many files there are no images by their suffix.

    Raises:
        ValueError: if the folder is missing or unreadable, holds no classes
            or only one, or a class has no images.

    Examples:
        >>> source = keras_convnext.data.ImageFolder("photos")  # doctest: +SKIP
        >>> source.classes  # doctest: +SKIP
        ('cat', 'dog')
    """

    def __init__(self, path: PathLike, is_upright: bool = True):
        self.path = Path(path)
        self.is_upright = is_upright
        _, _, files = next(walk(path))
        self.classes = tuple(subfolders(path))
        self._ignored = Counter(map(ending_of, files))
        if not self.classes:
            images = sum(map(is_image, files))
            raise ValueError(
                "Expected a folder that holds one folder for each class. "
                f"Received: {str(path)!r} with no folders and {images} images"
                f" in it. {ARRANGEMENT}"
            )
        self._class_of: dict[str, str] = {}  # by the real path of a folder
        self._shared: list[str] = []
        names, lengths = zip(*map(self._images_of, self.classes))
        labels = np.arange(len(names), dtype="int32")
        self.labels = np.repeat(labels, [len(x) for x in lengths])
        self._keep(b"".join(names), np.concatenate(lengths))
        self.ignored = self._ignored.total()
        tell_ignored(path, self._ignored)
        self.check()
        if self._shared:
            warnings.warn(
                "Links put the same images into two classes. Received: "
                f"{some(self._shared)} in {str(path)!r}. Remove the links if "
                "that is not meant",
                stacklevel=2,
            )

    def filename(self, number: int) -> str:
        name = super().filename(number)
        return os.path.join(self.classes[self.labels[number]], name)

    def _images_of(self, name):
        """Names of a class' images, as bytes in a row, and their lengths."""
        top = os.path.join(self.path, name)
        names = []
        for folder, _, files in sorted(walk(top, self.path)):
            images = [*filter(is_image, files)]
            self._ignored.update(ending_of(x) for x in files if not is_image(x))
            place = os.path.realpath(folder)
            if images and self._class_of.setdefault(place, name) != name:
                self._shared.append(os.path.relpath(folder, self.path))
            below = folder[len(top) + 1 :]
            names += [os.fsencode(os.path.join(below, x)) for x in images]
        lengths = np.array([len(name) for name in names], "int64")
        return b"".join(names), lengths
