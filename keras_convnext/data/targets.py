"""Images with numbers in place of classes, in memory or in a list."""

from collections.abc import Sequence

import numpy as np

from keras_convnext._util.annotations import ArrayLike
from keras_convnext._util.annotations import PathLike
from keras_convnext._util.ranges import Count
from keras_convnext._util.ranges import PartBelowOne
from keras_convnext._util.ranges import Seed
from keras_convnext._util.ranges import Several
from keras_convnext._util.ranges import in_range
from keras_convnext.data.lists.tables import is_list
from keras_convnext.data.lists.target_list import TargetList
from keras_convnext.data.source import ImagesInMemory
from keras_convnext.data.source import Source
from keras_convnext.data.source import names_of_columns
from keras_convnext.data.splits import open_splits


class TargetArrays(ImagesInMemory):
    """Images in memory, each with one or several numbers.

    Args:
        images: as for `Arrays`.
        targets: finite numbers `(n,)` or `(n, targets)`.
        names: of the targets; their places, `"0"` and so on, if `None`.

    Attributes:
        classes: the names of the targets.
        labels: `float64` array `(n, targets)`.

    Examples:
        >>> source = keras_convnext.data.TargetArrays(
        ...     np.zeros((2, 8, 8, 1), "uint8"), [31.5, 44], ["age"]
        ... )
        >>> source.labels.tolist(), source.classes
        ([[31.5], [44.0]], ('age',))
    """

    def __init__(
        self,
        images: ArrayLike,
        targets: ArrayLike,
        names: Sequence[str] | None = None,
    ):
        super().__init__(images)
        targets = np.asarray(targets)
        rows = targets[:, None] if targets.ndim == 1 else targets
        is_known = targets.dtype.kind in "iuf" and rows.ndim == 2
        if not is_known or len(rows) != len(self.images) or not rows.shape[1]:
            raise ValueError(
                "Expected a number for each image, or a row of them. Received: "
                f"{targets.dtype} targets of shape {targets.shape} for "
                f"{len(self.images)} images"
            )
        self.labels = rows.astype("float64")
        if not np.isfinite(self.labels).all():
            number = np.flatnonzero(~np.isfinite(self.labels).all(axis=1))[0]
            raise ValueError(
                "Every image must have finite numbers. Received: "
                f"{self.labels[number].tolist()} for image {number}"
            )
        self.classes = names_of_columns(self.labels, names)


@in_range
def open_targets(
    data: PathLike | Source,
    validation: PathLike | Source | None = None,
    validation_split: PartBelowOne = 0.1,
    seed: Seed = 0,
    folds: Several | None = None,
    fold: Count | None = None,
    target: str | Sequence[str] | None = None,
) -> tuple[Source, Source | None]:
    """Opens images with numbers to predict, and what to hold out.

    Args:
        data, validation: path of a list, or a `TargetList` or `TargetArrays`.
        validation_split, seed, folds, fold: as for `open_splits`; a part of
            all images, and folds of scikit-learn's `KFold` and `GroupKFold`.
        target: as for `TargetList`, of paths.

    Returns:
        `(train, validation)`, as `open_splits`.

    Raises:
        ValueError: as `open_splits` and `TargetList`; and for data with
            classes.

    Examples:
        >>> train, validation = keras_convnext.data.open_targets(
        ...     "photos.csv", target="age"
        ... )  # doctest: +SKIP
    """
    data = _with_targets(data, target)
    if isinstance(data, TargetList):
        target = data.classes
    validation = _with_targets(validation, target)
    train, held_out = open_splits(
        data, validation, validation_split, seed, folds, fold
    )
    if not train.is_regression:
        raise ValueError(
            "Expected images with numbers to predict: a list with a column of "
            "them, see `target`, or `TargetArrays`. Received: "
            f"{str(data)!r} with {len(train.classes)} classes. Train on it "
            f"with `task={train.task!r}`"
        )
    return train, held_out


def _with_targets(data, target):
    """A list as a `TargetList`; other data as it is."""
    if data is None or isinstance(data, Source) or not is_list(data):
        return data
    return TargetList(data, target)
