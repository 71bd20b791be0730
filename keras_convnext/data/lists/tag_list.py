"""Images that a list names with many labels each, or none."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_convnext._util.annotations import PathLike
from keras_convnext._util.checks import some
from keras_convnext._util.limits import check_memory
from keras_convnext._util.telling import tell
from keras_convnext.data.lists.image_list import ImageList
from keras_convnext.data.lists.label_columns import label_columns_of
from keras_convnext.data.lists.listing import flag_use
from keras_convnext.data.lists.listing import read_listing


class TagList(ImageList):
    """Images that a file lists, each with any number of labels.

    Labels stand in one column, as `cat;dog`, or as a list in JSON Lines and
    Parquet; a row without a label is an image without one. Or each label has a
    column of its own, of 0 and 1.

    Args:
        path, options: as for `ImageList`.
        separator: text between the labels of an image; those in lists are
            taken whole.
        label_columns: names of the columns of single labels, in a sequence or
            with commas between. If there is no `label_column` of a usual name
            and all columns of no other use hold 0 and 1, these are taken, and
            said.

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

    def __init__(
        self,
        path: PathLike,
        separator: str = ";",
        label_columns: str | Sequence[str] | None = None,
        **options: Any,
    ):
        if not separator.strip():
            raise ValueError(
                "`separator` must be what stands between two labels, such as "
                f"';'. Received: separator={separator!r}"
            )
        self.separator = separator
        self._label_columns = label_columns
        super().__init__(path, **options)

    def _read(self, given):
        columns = label_columns_of(self.path, self._label_columns, given)
        self._label_columns = columns
        if columns is None:
            return super()._read(given)
        del given["label"]
        return read_listing(self.path, given, flags=columns)

    def _classes(self, given):
        classes = super()._classes(given)
        columns = self._label_columns
        if columns and (lacking := [x for x in classes if x not in columns]):
            raise ValueError(
                "There must be a column for every class that is trained on. "
                f"Received: none for {some(lacking)} in {str(self.path)!r}. "
                "Add it, of 0 where no image has the label"
            )
        return classes

    def _labels(self):
        if self._label_columns is None:
            return super()._labels()
        shape = len(self._rows), len(self.classes)
        check_memory(shape[0] * shape[1], f"Labels of {shape[1]} classes")
        labels = np.empty(shape, "uint8")
        for column, name in zip(labels.T, self.classes):
            listed = self._listing.columns[flag_use(name)]
            column[:] = listed.values[self._rows]
        return labels

    def _class_names(self):
        if self._label_columns is not None:
            return self._label_columns
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
