"""Folders of images, one folder for each class."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from keras_convnext._util.annotations import PathLike
from keras_convnext.data.source import Source
from keras_convnext.images.reading import SUFFIXES

ARRANGEMENT = "Arrange the images as CLASS/IMAGE, one folder for each class"


class ImageFolder(Source):
    """Images below one folder for each class, as torchvision's `ImageFolder`.

    Args:
        path: the folder that holds the classes' folders. Classes are in the
            order of their names, and so are the images of a class, with those
            in folders below. Names that begin with a dot do not count.
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
        _, folders, files = next(_walk(path))
        self.classes = tuple(sorted(folders))
        self.ignored = len(files)
        if not folders:
            images = sum(map(_is_image, files))
            raise ValueError(
                "Expected a folder that holds one folder for each class. "
                f"Received: {str(path)!r} with no folders and {images} images"
                f" in it. {ARRANGEMENT}"
            )
        # Strings would take many times the memory of their bytes, and there
        # are datasets with millions.
        names, lengths = zip(*map(self._images_of, self.classes))
        labels = np.arange(len(names), dtype="int32")
        self.labels = np.repeat(labels, [len(x) for x in lengths])
        self._names = b"".join(names)
        self._ends = np.cumsum(np.concatenate(lengths))
        self.check()

    def read(self, number: int) -> bytes:
        return Path(self.name(number)).read_bytes()

    def filename(self, number: int) -> str:
        start = self._ends[number - 1] if number else 0
        name = os.fsdecode(self._names[start : self._ends[number]])
        return os.path.join(self.classes[self.labels[number]], name)

    def name(self, number: int) -> str:
        return os.path.join(self.path, self.filename(number))

    def content(self) -> Iterator[bytes]:
        yield self._names
        for number in range(len(self)):
            size = os.stat(self.name(number)).st_size
            yield size.to_bytes(8, "little")

    def _images_of(self, name):
        """Names of a class' images, as bytes in a row, and their lengths."""
        top = os.path.join(self.path, name)
        names = []
        for folder, _, files in sorted(_walk(top)):
            images = sorted(filter(_is_image, files))
            self.ignored += len(files) - len(images)
            below = folder[len(top) + 1 :]
            names += [os.fsencode(os.path.join(below, x)) for x in images]
        lengths = np.array([len(name) for name in names], "int64")
        return b"".join(names), lengths


def _walk(path):
    """`os.walk` that fails, follows links, and sees nothing that is hidden."""
    for folder, folders, files in os.walk(
        path, followlinks=True, onerror=_unreadable
    ):
        folders[:] = [x for x in folders if not x.startswith(".")]
        yield folder, folders, [x for x in files if not x.startswith(".")]


def _unreadable(error):
    raise ValueError(
        "Expected a folder of images that can be read. Received: "
        f"{error.filename!r}, {error.strerror}. {ARRANGEMENT}"
    ) from error


def _is_image(name):
    return name.lower().endswith(SUFFIXES)
