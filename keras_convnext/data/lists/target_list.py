"""Lists whose images have numbers in place of classes."""

from collections.abc import Sequence

import numpy as np

from keras_convnext._util.annotations import PathLike
from keras_convnext.data.lists.image_list import ImageList
from keras_convnext.data.lists.listing import read_listing
from keras_convnext.data.lists.listing import target_use
from keras_convnext.data.lists.listing import targets_of


class TargetList(ImageList):
    """Images that a file lists, each with one or several numbers.

    An age, a quality, a count: what a model of regression predicts.

    Args:
        path: as for `ImageList`.
        target: name of the column of the numbers; several with commas
            between, `"age,height"`, or in a sequence. A column of a usual
            name, such as `target`, if `None`.
        path_column, split_column, group_column, is_upright, on_error: as for
            `ImageList`.

    Attributes:
        classes: the names of the targets.
        labels: `float64` array `(n, targets)`.

    Raises:
        ValueError, ImportError: as `ImageList`; and for what is missing, text
            or not finite, by its line.

    Examples:
        >>> source = keras_convnext.data.TargetList(
        ...     "photos.csv", target="age"
        ... )  # doctest: +SKIP
    """

    def __init__(
        self,
        path: PathLike,
        target: str | Sequence[str] | None = None,
        path_column: str | None = None,
        split_column: str | None = None,
        group_column: str | None = None,
        is_upright: bool = True,
        on_error: str = "skip",
    ):
        self._targets = targets_of(path, target)
        super().__init__(
            path,
            path_column,
            split_column=split_column,
            group_column=group_column,
            is_upright=is_upright,
            on_error=on_error,
        )

    def _read(self, given):
        del given["label"]
        return read_listing(self.path, given, targets=self._targets)

    def _classes(self, given):
        return self._targets

    def _labels(self):
        columns = [self._listing.columns[target_use(x)] for x in self._targets]
        values = np.stack([column.values for column in columns], axis=1)
        return values[self._rows]
