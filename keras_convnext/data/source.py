"""What all data sets have in common: images and labels by number."""

import hashlib
import os
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any
from typing import Self

import numpy as np

from keras_convnext._util.annotations import Array
from keras_convnext._util.annotations import ArrayLike
from keras_convnext._util.checks import some
from keras_convnext._util.limits import check_memory
from keras_convnext._util.ranges import CountOrZero
from keras_convnext._util.ranges import Seed
from keras_convnext._util.ranges import in_range
from keras_convnext.data.threads import in_order
from keras_convnext.images.levels import check_levels
from keras_convnext.images.reading import Photograph
from keras_convnext.images.reading import Unreadable

# The least that a class takes: its name, and a row of a classifier's weights.
CLASS_BYTES = 4096
# Images that a fingerprint reads, and bytes after which it ends.
SAMPLED, SAMPLED_BYTES = 4096, 2**28
# What fingerprints take labels as.
DIGESTED = {"single-label": "<i4", "multi-label": "u1", "regression": "<f8"}


class Source:
    """Labeled images by number, wherever they are kept.

    Subclasses read; order, decoding, augmentation and batches are the same
    for all of them.

    Attributes:
        classes: tuple of class names in the order of the labels.
        labels: `int32` array `(n,)` of class numbers. Where an image may have
            several classes or none, `uint8` array `(n, classes)` of 0 and 1.
            Where images have numbers in place of classes, finite `float64`
            array `(n, targets)`. Then `classes` names the targets.
        groups: `int32` array `(n,)`: images of one number are never parted by
            a hold-out; `None` if all are apart.
        is_upright: whether the EXIF orientation of photographs is to be
            applied; published results ignore it.
        is_encoded: whether `read` gives encoded bytes, or arrays.
        ignored: int, how many files beside the images are none.
    """

    classes: tuple[str, ...] = ()
    labels: Array
    groups: Array | None = None
    is_upright = True
    is_encoded = True
    ignored = 0

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def task(self) -> str:
        """`"single-label"`, `"multi-label"` or `"regression"`."""
        if self.labels.ndim == 1:
            return "single-label"
        is_number = self.labels.dtype.kind == "f"
        return "regression" if is_number else "multi-label"

    @property
    def is_multi_label(self) -> bool:
        """Whether an image may have several classes, or none."""
        return self.task == "multi-label"

    @property
    def is_regression(self) -> bool:
        """Whether images have numbers in place of classes."""
        return self.task == "regression"

    def counts(self) -> Array:
        """How many images each class has: `int64` array `(classes,)`.

        Every image has every target.
        """
        if self.is_regression:
            return np.full(len(self.classes), len(self), "int64")
        if self.is_multi_label:
            return self.labels.sum(axis=0, dtype="int64")
        return np.bincount(self.labels, minlength=len(self.classes))

    def has(self, label: int) -> Array:
        """Which images have a class: `bool` array `(n,)`."""
        if self.is_regression:
            return np.ones(len(self), bool)
        if self.is_multi_label:
            return self.labels[:, label] == 1
        return self.labels == label

    def __getitem__(self, number: int) -> tuple[Photograph | Array, Any]:
        """An image, not decoded yet, and its label or row of labels."""
        return self.image(number), self.labels[number]

    def image(
        self, number: int, photograph: type[Photograph] = Photograph
    ) -> Photograph | Array:
        """The image of encoded bytes, or the array.

        Raises:
            Unreadable: if the bytes cannot be read.
        """
        if not self.is_encoded:
            image = self.read(number)
            check_levels(image, f"`{type(self).__name__}`")
            return image
        name = repr(self.name(number))
        try:
            content = self.read(number)
        except Exception as error:
            raise Unreadable(name, error) from error
        return photograph(content, self.is_upright, name)

    def read(self, number: int) -> Any:
        """Encoded bytes, or `uint8` array `(height, width, channels)`."""
        raise NotImplementedError

    def name(self, number: int) -> str:
        """The name of an image in messages: a path, or a number in a file."""
        raise NotImplementedError

    def filename(self, number: int) -> str:
        """The same within the source: the path below its folder."""
        return self.name(number)

    def content(self) -> Iterator[bytes]:
        """Yields what tells other images: sizes of files, or all arrays."""
        raise NotImplementedError

    def parts(self) -> dict[str, Callable[[], "Source"]]:
        """Functions that open `"train"` and `"validation"`.

        Or one that opens the whole, as `""`, where it has no parts.
        """
        return {"": lambda: self}

    def fingerprint(self) -> dict[str, Any]:
        """Images, classes and digests of them, by which a run knows its data.

        Up to 4096 images, or 256 MiB of them, are read: all of a small data
        set, and of a large one those that chance takes, always the same.

        Returns:
            A dict of JSON's types: `images`, `classes`; `digest` of names,
            sizes and labels; and, unless that covers the pixels, `sample` of
            the images that are read.
        """
        digest = hashlib.sha256(os.fsencode("\n".join(self.classes)))
        digest.update(np.asarray(self.labels, DIGESTED[self.task]).tobytes())
        for part in self.content():
            digest.update(part)
        sample = {"sample": self._sample()} if self.is_encoded else {}
        return {
            "images": len(self),
            "classes": len(self.classes),
            "digest": digest.hexdigest()[:16],
            **sample,
        }

    def _sample(self):
        digest, size = hashlib.sha256(), 0
        chosen = order_of(len(self), 0, 0)[:SAMPLED]
        for content in in_order(self._bytes, chosen):
            digest.update(content)
            size += len(content)
            if size > SAMPLED_BYTES:
                break
        return digest.hexdigest()[:16]

    def _bytes(self, number):
        """Of an image as it is kept; what cannot be read has none."""
        try:
            return self.read(number)
        except Exception:
            return b""

    def check(self) -> Self:
        """Raises what makes training on it impossible; returns itself."""
        empty = [x for x, n in zip(self.classes, self.counts()) if not n]
        if empty:
            raise ValueError(
                f"Every class needs images. Received: none for {some(empty)} "
                f"of {len(self.classes)} classes. Remove what is no class, or "
                "add its images"
            )
        if len(self.classes) < 2 and not self.is_regression:
            raise ValueError(
                "A classifier needs at least two classes. Received: "
                f"{list(self.classes)}"
            )
        return self


class ImagesInMemory(Source):
    """Those of an array; classes that derive from it have labels.

    Args:
        images: `uint8` array `(n, height, width, channels)` of 0–255, or
            `(n, height, width)` of gray ones.
    """

    is_encoded = False

    def __init__(self, images: ArrayLike):
        images = np.asarray(images)
        if images.ndim == 3:
            images = images[..., None]
        if images.ndim != 4 or images.dtype != "uint8":
            raise ValueError(
                "Expected a uint8 array (n, height, width, channels) of 0–255."
                f" Received: {images.dtype} array of shape {images.shape}"
            )
        self.images = images

    def read(self, number: int) -> Array:
        return self.images[number]

    def name(self, number: int) -> str:
        return f"image {number}"

    def content(self) -> Iterator[bytes]:
        yield np.ascontiguousarray(self.images).tobytes()


class Arrays(ImagesInMemory):
    """Images in memory, with their classes.

    Args:
        images: `uint8` array `(n, height, width, channels)` of 0–255, or
            `(n, height, width)` of gray ones.
        labels: int array `(n,)` of class numbers from 0; or, where an image
            may have several classes or none, array `(n, classes)` of 0 and 1,
            of two classes or more.
        classes: names; the numbers themselves if `None`.

    Examples:
        >>> source = keras_convnext.data.Arrays(
        ...     np.zeros((4, 8, 8, 1), "uint8"), [0, 1, 0, 1]
        ... )
        >>> len(source), source.classes
        (4, ('0', '1'))
        >>> source = keras_convnext.data.Arrays(
        ...     np.zeros((2, 8, 8, 1), "uint8"), [[1, 1], [0, 0]]
        ... )
        >>> source.is_multi_label, source.counts().tolist()
        (True, [1, 1])
    """

    def __init__(
        self,
        images: ArrayLike,
        labels: ArrayLike,
        classes: Sequence[Any] | None = None,
    ):
        super().__init__(images)
        images, labels = self.images, np.asarray(labels)
        if labels.ndim == 2 and labels.shape[1] > 1:
            self.labels = _rows_of_labels(labels, len(images))
            self.classes = names_of_columns(self.labels, classes)
            return
        if labels.shape != images.shape[:1] or labels.dtype.kind not in "iu":
            raise ValueError(
                "Expected one class number for each image, or a row of 0 and 1 "
                f"with a column for each of two classes or more. Received: "
                f"{labels.dtype} labels of shape {labels.shape} for "
                f"{len(images)} images"
            )
        count = 1 + int(labels.max()) if len(labels) else 0
        if classes is None:
            check_memory(
                CLASS_BYTES * count, f"Classes up to number {count - 1}"
            )
        classes = range(count) if classes is None else classes
        if count > len(classes) or labels.min(initial=0) < 0:
            raise ValueError(
                f"Expected class numbers of 0 to {len(classes) - 1}. "
                f"Received: {labels.min()} to {labels.max()}"
            )
        self.labels = labels.astype("int32")
        self.classes = tuple(str(name) for name in classes)


def _rows_of_labels(labels, count):
    """A row of 0 and 1 for each image, as `uint8`."""
    is_known = labels.dtype.kind in "biuf" and len(labels) == count
    if is_known and np.isin(labels, (0, 1)).all():
        return labels.astype("uint8")
    values = [x for x in np.unique(labels).tolist() if x not in (0, 1)][:3]
    raise ValueError(
        "Expected a row of 0 and 1 for each image, with a column for each "
        f"class. Received: {labels.dtype} labels of shape {labels.shape} for "
        f"{count} images"
        + (f", with values such as {some(values)}" if values else "")
    )


def names_of_columns(labels, classes):
    """The names of the columns; their numbers if `None`."""
    count = labels.shape[1]
    names = tuple(
        str(x) for x in (range(count) if classes is None else classes)
    )
    if len(names) == count:
        return names
    raise ValueError(
        "Expected a name for each column of labels. Received: "
        f"{len(names)} names for {count} columns"
    )


class Subset(Source):
    """Some images of a source, under its classes.

    Args:
        source: a `Source`.
        numbers: int array of the numbers of its images to keep, in order.

    Examples:
        >>> source = keras_convnext.data.Arrays(
        ...     np.zeros((4, 8, 8, 1), "uint8"), [0, 1, 0, 1]
        ... )
        >>> keras_convnext.data.Subset(source, [2, 3]).labels.tolist()
        [0, 1]
    """

    def __init__(self, source: Source, numbers: ArrayLike):
        self.source = source
        self.numbers = np.asarray(numbers, "int64")
        self.classes = source.classes
        self.labels = source.labels[self.numbers]
        if source.groups is not None:
            self.groups = source.groups[self.numbers]
        self.is_upright = source.is_upright
        self.is_encoded = source.is_encoded

    def read(self, number: int) -> bytes | Array:
        return self.source.read(self.numbers[number])

    def name(self, number: int) -> str:
        return self.source.name(self.numbers[number])

    def filename(self, number: int) -> str:
        return self.source.filename(self.numbers[number])

    def content(self) -> Iterator[bytes]:
        yield self.numbers.tobytes()
        yield from self.source.content()


def same_classes(train, held_out):
    """Raises `ValueError` where labels of two sources mean other classes."""
    if train.classes == held_out.classes:
        return
    first, second = set(train.classes), set(held_out.classes)
    raise ValueError(
        "What is trained on and what is held out must have the same classes, "
        f"in the same order. Received: {len(first)} and {len(second)} classes,"
        f" in the first alone {sorted(first - second)[:5]}, in the second "
        f"alone {sorted(second - first)[:5]}. Rename or remove them"
    )


@in_range
def order_of(count: CountOrZero, seed: Seed, epoch: CountOrZero) -> Array:
    """The order in which training sees the images in an epoch.

    The same whatever the loader, and known without what went before: a run
    goes on anywhere.

    Returns:
        `int32` array `(count,)`: half the memory of NumPy's default.
    """
    numbers = np.arange(count, dtype="int32")
    return np.random.default_rng([seed, epoch]).permutation(numbers)
