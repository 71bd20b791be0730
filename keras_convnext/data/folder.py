"""Folders of images, one folder per class."""

import os
from pathlib import Path

import numpy as np

from keras_convnext.data.source import Source
from keras_convnext.images import SUFFIXES

ARRANGEMENT = "Arrange the images as CLASS/IMAGE, one folder for each class"


class ImageFolder(Source):
    """Images below one folder per class, as in torchvision's `ImageFolder`.

    Args:
        path: the folder that holds the classes' folders. Classes are in the
            order of their names, and so are the images of a class, with all
            that is in folders below. Names that start with a dot do not
            count.
        is_upright: whether the EXIF orientation of photographs is applied.

    Attributes:
        path, classes, labels, is_upright: see `Source`.
        ignored: int, how many files are there that are no images by their
            suffix.

    Raises:
        ValueError: if the folder is missing or unreadable, holds no classes,
            or a class has no images.

    Example:

    >>> source = keras_convnext.data.ImageFolder("photos")  # doctest: +SKIP
    >>> source.classes  # doctest: +SKIP
    ('cat', 'dog')
    """

    def __init__(self, path, is_upright=True):
        self.path = Path(path)
        self.is_upright = is_upright
        folders, files = _listed(self.path)
        if not folders:
            images = sum(_is_image(name) for name in files)
            raise ValueError(
                "Expected a folder that holds one folder for each class. "
                f"Received: {str(path)!r}, with {images} images and no "
                f"folders in it. {ARRANGEMENT}"
            )
        self.classes = tuple(folders)
        self.ignored = len(files)
        counts, names = [], []
        for folder in folders:
            found = self._images_in(os.path.join(path, folder))
            counts.append(len(found))
            names += found
        self.labels = np.repeat(np.arange(len(counts), dtype="int32"), counts)
        # Millions of strings would take ten times the memory of their bytes.
        self._ends = np.cumsum([len(name) for name in names], dtype="int64")
        self._names = b"".join(names)
        self.check()

    def path_of(self, number):
        """The path of an image."""
        start = self._ends[number - 1] if number else 0
        name = os.fsdecode(self._names[start : self._ends[number]])
        return os.path.join(self.path, self.classes[self.labels[number]], name)

    def read(self, number):
        with open(self.path_of(number), "rb") as file:
            return file.read()

    def name(self, number):
        return self.path_of(number)

    def content(self):
        yield self._names
        for number in range(len(self)):
            size = os.stat(self.path_of(number)).st_size
            yield size.to_bytes(8, "little")

    def _images_in(self, folder):
        """Names of images in a folder, then of those in folders below."""
        below = [""]
        names = []
        for inner in below:
            folders, files = _listed(os.path.join(folder, inner))
            images = [name for name in files if _is_image(name)]
            self.ignored += len(files) - len(images)
            names += [os.fsencode(os.path.join(inner, x)) for x in images]
            below += [os.path.join(inner, name) for name in folders]
        return names


def _listed(folder):
    """Names of the folders and of the files in a folder, each sorted."""
    try:
        with os.scandir(folder) as entries:
            shown = [x for x in entries if not x.name.startswith(".")]
    except OSError as error:
        raise ValueError(
            "Expected a folder of images that can be read. Received: "
            f"{str(folder)!r} ({error.strerror}). {ARRANGEMENT}"
        ) from error
    folders = sorted(x.name for x in shown if x.is_dir())
    files = sorted(x.name for x in shown if x.is_file())
    return folders, files


def _is_image(name):
    return name.lower().endswith(SUFFIXES)
