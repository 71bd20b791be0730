"""Images without labels: those below a folder, and other kinds of data."""

import os
from pathlib import Path

import numpy as np

from keras_convnext._util.annotations import PathLike
from keras_convnext.data import splits
from keras_convnext.data.folder import Files
from keras_convnext.data.source import Source
from keras_convnext.images.folders import SUFFIXES
from keras_convnext.images.folders import images_below


class ImageFiles(Files):
    """All images in a folder and below it, without labels.

    Args:
        path: the folder. The same files count as for `ImageFolder`, but
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
        start = len(os.path.join(self.path, ""))
        encoded = [os.fsencode(name[start:]) for name in names]
        self._keep(b"".join(encoded), [len(x) for x in encoded])
        self.labels = np.zeros(len(names), "int32")


def open_images(data: PathLike | Source) -> Source:
    """Opens images to learn from without labels.

    Args:
        data: a folder of images, flat or with folders in it. Of one with
            `train/` beside `val/`, `test/` or the like, the first is taken.
            Or anything that `open_splits` takes, likewise. Its labels are
            left alone.

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
