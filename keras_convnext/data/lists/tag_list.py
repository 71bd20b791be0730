"""Images that a list names with many labels each, or none."""

from typing import Any

import numpy as np

from keras_convnext._util.annotations import PathLike
from keras_convnext._util.limits import check_memory
from keras_convnext._util.telling import tell
from keras_convnext.data.lists.image_list import ImageList


class TagList(ImageList):
    """Images that a file lists, each with any number of labels.

    Labels stand in one column, as `cat;dog`, or as a list in JSON Lines and
    Parquet. A row without a label is an image without one.

    Args:
        path, options: as for `ImageList`.
        separator: text between the labels of an image; those in lists are
            taken whole.

    Attributes:
        labels: `uint8` array `(n, classes)` of 0 and 1.

    Raises:
        ValueError, ImportError: as `ImageList`.

    Examples:
        >>> source = keras_convnext.data.TagList(
        ...     "photos.csv", separator="|"
        ... )  # doctest: +SKIP
    """

    _MAY_BE_EMPTY = ("label",)

    def __init__(self, path: PathLike, separator: str = ";", **options: Any):
        if not separator.strip():
            raise ValueError(
                "`separator` must be what stands between two labels, such as "
                f"';'. Received: separator={separator!r}"
            )
        self.separator = separator
        super().__init__(path, **options)

    def _class_names(self):
        texts = self._listing.columns["label"].texts
        tags = [self._tags(text) for text in texts]
        if all(len(x) < 2 for x in tags):
            tell(
                f"{self.path}: no image has several labels, with "
                f"{self.separator!r} between them"
            )
        return {tag for of_text in tags for tag in of_text}

    def _labels_of_texts(self):
        texts = self._listing.columns["label"].texts
        rank = {name: number for number, name in enumerate(self.classes)}
        shape = len(texts) + len(self._rows), len(rank)
        check_memory(shape[0] * shape[1], f"Labels of {shape[1]} classes")
        labels = np.zeros((len(texts), len(rank)), "uint8")
        for row, text in zip(labels, texts):
            row[[rank[tag] for tag in self._tags(text)]] = 1
        return labels

    def _tags(self, text):
        if isinstance(text, str):
            text = text.split(self.separator)
        return [x for x in map(str.strip, text) if x]
