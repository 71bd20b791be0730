"""Images without labels: those below a folder or in a list, and other data."""

import os
from pathlib import Path

import numpy as np

from keras_convnext._util.annotations import PathLike
from keras_convnext.data import splits
from keras_convnext.data.folder import Files
from keras_convnext.data.lists.image_list import ImageList
from keras_convnext.data.lists.listing import read_listing
from keras_convnext.data.lists.tables import is_list
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


class ListedImages(ImageList):
    """Images that a file lists, whether it has labels for them or not.

    Args:
        path: of a list, as for `ImageList`.
        path_column, split_column, is_upright, on_error: as for `ImageList`.

    Attributes:
        classes, labels: an empty tuple, and zeros.

    Raises:
        ValueError, ImportError: as `ImageList`, but for labels: those are not
            read.

    Examples:
        >>> source = keras_convnext.data.ListedImages(
        ...     "photos.csv", path_column="file"
        ... )  # doctest: +SKIP
    """

    def __init__(
        self,
        path: PathLike,
        path_column: str | None = None,
        split_column: str | None = None,
        is_upright: bool = True,
        on_error: str = "skip",
    ):
        super().__init__(
            path,
            path_column,
            split_column=split_column,
            classes=(),
            is_upright=is_upright,
            on_error=on_error,
        )

    def _read(self, given):
        del given["label"]
        return read_listing(self.path, given)

    def _class_names(self):
        return ()

    def _labels(self):
        return np.zeros(len(self._rows), "int32")


def open_images(data: PathLike | Source) -> Source:
    """Opens images to learn from without labels.

    Args:
        data: a folder of images, flat or with folders in it. Of one with
            `train/` beside `val/`, `test/` or the like, the first is taken.
            Or a list, see `ListedImages`, or anything else that
            `open_splits` takes, likewise. Labels are left alone.

    Returns:
        A `Source`.

    Raises:
        ValueError: for data of no known kind, or without images.

    Examples:
        >>> len(keras_convnext.data.open_images("digits"))
        1438
    """
    if not isinstance(data, Source) and is_list(data):
        data = ListedImages(data)
    elif not isinstance(data, Source) and Path(data).is_dir():
        parts = splits.folders_of(Path(data))
        folder = parts.get("train") or parts.get("")
        if folder is not None and not splits.is_of_records(folder):
            return ImageFiles(folder)
    return splits.open_data(data)
