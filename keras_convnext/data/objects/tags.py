"""Images with objects as images with labels: which classes are in them."""

from collections.abc import Iterator

import numpy as np

from keras_convnext._util.annotations import Array
from keras_convnext._util.annotations import PathLike
from keras_convnext._util.limits import check_memory
from keras_convnext._util.ranges import Count
from keras_convnext._util.ranges import PartBelowOne
from keras_convnext._util.ranges import Seed
from keras_convnext._util.ranges import Several
from keras_convnext._util.ranges import in_range
from keras_convnext.data.lists.tables import is_list
from keras_convnext.data.lists.tag_list import TagList
from keras_convnext.data.objects.opening import Objects
from keras_convnext.data.objects.opening import is_objects
from keras_convnext.data.objects.opening import open_objects
from keras_convnext.data.source import Source
from keras_convnext.data.splits import open_splits


class Tags(Source):
    """The classes of the objects in each image, as its labels.

    Every object counts, crowds and difficult ones too.

    Args:
        source: of `open_objects`, `read_coco`, `read_yolo` or `read_voc`.

    Attributes:
        labels: `uint8` array `(n, classes)` of 0 and 1.

    Examples:
        >>> source = keras_convnext.data.read_coco(
        ...     "coco/annotations/instances_val2017.json"
        ... )  # doctest: +SKIP
        >>> keras_convnext.data.Tags(source).counts()[:2]  # doctest: +SKIP
        array([2693,  149])
    """

    def __init__(self, source: Objects):
        self.source, self.classes = source, source.classes
        self.is_upright = source.is_upright
        shape = len(source), len(self.classes)
        check_memory(shape[0] * shape[1], f"Labels of {shape[1]} classes")
        self.labels = np.zeros(shape, "uint8")
        objects = source.all_objects()
        self.labels[objects["image"], objects["class"]] = 1

    def read(self, number: int) -> bytes | Array:
        return self.source.read(number)

    def name(self, number: int) -> str:
        return self.source.name(number)

    def filename(self, number: int) -> str:
        return self.source.filename(number)

    def content(self) -> Iterator[bytes]:
        return self.source.content()


@in_range
def open_many_labels(
    data: PathLike | Source,
    validation: PathLike | Source | None = None,
    validation_split: PartBelowOne = 0.1,
    seed: Seed = 0,
    folds: Several | None = None,
    fold: Count | None = None,
) -> tuple[Source, Source | None]:
    """Opens images of many labels: as `open_splits`, or `Tags` of objects.

    Args:
        data, validation, validation_split, seed, folds, fold: as for
            `open_splits`; data may be a list for `TagList`, or what
            `open_objects` opens, too.

    Returns:
        `(train, validation)`, as `open_splits`.

    Raises:
        ValueError: as `open_splits` and `open_objects`; and for data with one
            label for each image.

    Examples:
        >>> train, validation = keras_convnext.data.open_many_labels(
        ...     "coco"
        ... )  # doctest: +SKIP
    """
    data = _with_tags(data)
    validation = None if validation is None else _with_tags(validation)
    if not isinstance(data, Source) and is_objects(data):
        if isinstance(validation, Source):
            raise ValueError(
                "`validation` must be of the kind of the data. Received: "
                f"{validation!r} for {str(data)!r}. Pass a path"
            )
        objects, others = open_objects(data, validation, 0.0)
        if others is not None:
            return Tags(objects), Tags(others)
        data = Tags(objects)
    train, held_out = open_splits(
        data, validation, validation_split, seed, folds, fold
    )
    if not train.is_multi_label:
        raise ValueError(
            "Expected images of many labels: a list with a column such as "
            "'cat;dog', rows of 0 and 1 in an .npz file, or a JSON file in "
            "COCO's format. Received: "
            f"{str(data)!r} with one of {len(train.classes)} classes for each "
            "image. Train on it with `task='single-label'`"
        )
    return train, held_out


def _with_tags(data: PathLike | Source) -> PathLike | Source:
    """A list as a `TagList`; other data as it is."""
    if isinstance(data, Source) or not is_list(data):
        return data
    return TagList(data)
