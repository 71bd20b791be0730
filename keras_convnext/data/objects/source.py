"""Images with objects in them, by number."""

import contextlib
import hashlib
import marshal
import os
from array import array
from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace
from pathlib import Path
from typing import Any
from typing import Self

import numpy as np

from keras_convnext._util.annotations import Array
from keras_convnext._util.annotations import ArrayLike
from keras_convnext._util.limits import check_file
from keras_convnext._util.limits import check_memory
from keras_convnext._util.ranges import Whole
from keras_convnext._util.ranges import in_range
from keras_convnext.data.objects.outlines import rle_of
from keras_convnext.data.source import Source
from keras_convnext.data.source import Subset
from keras_convnext.images import rle
from keras_convnext.images.reading import Photograph
from keras_convnext.images.reading import Unreadable


@dataclass(frozen=True)
class Objects:
    """The objects of one image.

    Attributes:
        boxes: `float64` array `(n, 4)` of x1, y1, x2, y2 in pixels, as they
            are in the file: not clipped.
        classes: `int32` array `(n,)`.
        is_crowd: `bool` array `(n,)`, of what neither counts as an object nor
            as a mistake: COCO's crowds and ignored ones, VOC's difficult ones.
        areas: `float64` array `(n,)`, pixels of the mask or of the box, by
            which COCO tells small, medium and large ones.
        outlines: list of `n`: polygons or runs, see `outlines.rle_of`, or
            `None` where there is a box alone.
        height, width: ints, pixels of the image.
        name: what messages call the image.
    """

    boxes: Array
    classes: Array
    is_crowd: Array
    areas: Array
    outlines: list[Any]
    height: int
    width: int
    name: str = "an image"

    def __len__(self) -> int:
        return len(self.classes)

    def only(self, rows: ArrayLike) -> Self:
        """Some of the objects, by their numbers or by booleans."""
        rows = np.asarray(rows)
        numbers = np.arange(len(self))[rows if rows.size else slice(0)]
        return replace(
            self,
            boxes=self.boxes[numbers],
            classes=self.classes[numbers],
            is_crowd=self.is_crowd[numbers],
            areas=self.areas[numbers],
            outlines=[self.outlines[i] for i in numbers],
        )

    def rles(self) -> list[dict[str, Any]]:
        """The masks as COCO's dicts of runs.

        Raises:
            Unreadable: if an outline is damaged, or there is none.
            ImportError: for polygons, if pycocotools is not installed.
        """
        try:
            return [rle_of(x, self.height, self.width) for x in self.outlines]
        except ValueError as error:
            raise Unreadable(repr(self.name), error) from error

    def masks(self) -> Array:
        """`bool` array `(n, height, width)`; raises as `rles`."""
        size = self.height, self.width
        check_memory(
            len(self) * self.height * self.width,
            f"{len(self)} masks of {self.name!r}",
        )
        masks = [rle.decode(x) for x in self.rles()]
        return np.stack(masks) if masks else np.zeros((0, *size), bool)


class ObjectSource(Source):
    """Images with boxes, and perhaps masks, of objects in them.

    `read_coco`, `read_yolo` and `read_voc` make them; `open_objects` tells
    which of the three it takes.

    Args:
        path: of the file or folder that tells the objects.
        folder: that images are in.
        names: paths of the images below it.
        sizes: int array `(n, 2)` of their heights and widths, pixels.
        classes: names of the classes.
        table: the `Table` of all objects.
        ids: of the images, in results; their numbers if `None`.
        class_ids: of the classes, in results; their numbers if `None`.

    Attributes:
        labels: `int32` array `(n,)`: how many objects an image has.
        has_masks: whether any object that is no crowd has an outline.
        has_all_masks: whether each of them has one.
        path, folder, sizes, classes, ids, class_ids: see above.

    Examples:
        >>> source = keras_convnext.data.read_coco(
        ...     "coco/annotations/instances_val2017.json"
        ... )  # doctest: +SKIP
        >>> source.objects(0).boxes.shape  # doctest: +SKIP
        (14, 4)
    """

    sizes: Array
    ids: list[Any]
    class_ids: list[int]
    has_masks: bool
    has_all_masks: bool
    path: Path

    @in_range
    def __init__(
        self,
        path: Path,
        folder: Path,
        names: Sequence[str],
        sizes: ArrayLike,
        classes: Sequence[str],
        table: "Table",
        ids: Sequence[Any] | None = None,
        class_ids: Sequence[Whole] | None = None,
    ):
        self.path, self.folder, self._names = path, folder, list(names)
        self.sizes = np.asarray(sizes, "int32").reshape(-1, 2)
        self.classes = tuple(classes)
        self.ids = list(range(len(names)) if ids is None else ids)
        numbers = range(len(self.classes)) if class_ids is None else class_ids
        self.class_ids = list(numbers)
        self._columns, self._outlines, self._ends = table.sorted()
        counts = np.bincount(self._columns["image"], minlength=len(self.ids))
        self.labels = counts.astype("int32")
        self._starts = np.concatenate([[0], np.cumsum(counts)])
        self._is_masked = np.diff(self._ends, prepend=0) > 0
        self._is_masked = self._is_masked[self._columns["place"]]
        is_masked = self._is_masked[~self._columns["is_crowd"]]
        self.has_masks = bool(is_masked.any())
        self.has_all_masks = self.has_masks and bool(is_masked.all())

    def objects(self, number: int) -> Objects:
        """The objects of an image, by the image's number."""
        rows = slice(*self._starts[number : number + 2])
        part = {key: x[rows] for key, x in self._columns.items()}
        height, width = self.sizes[number].tolist()
        return Objects(
            part["box"],
            part["class"],
            part["is_crowd"],
            part["area"],
            [self._outline(x) for x in part["place"]],
            height,
            width,
            self.name(number),
        )

    def all_objects(self) -> dict[str, Array]:
        """All of them at once, without their outlines.

        Returns:
            A dict of arrays with a row for each object: `image` and `class`,
            numbers, `box`, `area`, `is_crowd` and `is_masked`.
        """
        columns = {k: x for k, x in self._columns.items() if k != "place"}
        return {**columns, "is_masked": self._is_masked}

    def image(
        self, number: int, photograph: type[Photograph] = Photograph
    ) -> Photograph | Array:
        image = super().image(number, photograph)
        size = tuple(self.sizes[number].tolist())
        if image.shape[:2] != size:
            raise Unreadable(
                repr(self.name(number)),
                f"it has {'×'.join(map(str, image.shape[:2]))} pixels, and its "
                f"objects are those of {'×'.join(map(str, size))}",
            )
        return image

    def read(self, number: int) -> bytes:
        path = Path(self.name(number))
        check_file(path)  # a pipe would never end
        return path.read_bytes()

    def filename(self, number: int) -> str:
        return self._names[number]

    def name(self, number: int) -> str:
        return os.path.join(self.folder, self._names[number])

    def content(self) -> Iterator[bytes]:
        yield "\n".join(self._names).encode(errors="surrogateescape")
        yield self.sizes.astype("<i4").tobytes()
        for column in self._columns.values():
            yield column.astype(column.dtype.newbyteorder("<")).tobytes()
        yield hashlib.sha256(self._outlines).digest()
        for number in range(len(self)):
            # Of what is not there reading tells.
            size = -1
            with contextlib.suppress(OSError):
                size = os.stat(self.name(number)).st_size
            yield size.to_bytes(8, "little", signed=True)

    def check(self) -> Self:
        """Raises what makes training on it impossible; returns itself."""
        if not self.labels.any():
            raise ValueError(
                "To train a detector takes images with objects. Received: "
                f"{len(self)} images without any in {str(self.path)!r}"
            )
        return self

    def _outline(self, place):
        start = self._ends[place - 1] if place else 0
        content = self._outlines[start : self._ends[place]]
        return marshal.loads(content) if content else None


class ObjectSubset(Subset):
    """Some images of an `ObjectSource`.

    Args:
        source: an `ObjectSource`, or a subset of one.
        numbers: int array of the numbers of its images to keep, in order.
    """

    source: "ObjectSource | ObjectSubset"
    sizes: Array
    ids: list[Any]
    class_ids: list[int]
    has_masks: bool
    has_all_masks: bool
    path: Path

    def __init__(
        self, source: "ObjectSource | ObjectSubset", numbers: ArrayLike
    ):
        super().__init__(source, numbers)
        self.sizes = source.sizes[self.numbers]
        self.ids = [source.ids[i] for i in self.numbers]
        self.class_ids, self.path = source.class_ids, source.path
        # Of the whole, so that all parts of a data set are batches alike.
        self.has_masks = source.has_masks
        self.has_all_masks = source.has_all_masks

    def objects(self, number: int) -> Objects:
        return self.source.objects(self.numbers[number])

    def image(
        self, number: int, photograph: type[Photograph] = Photograph
    ) -> Photograph | Array:
        return self.source.image(self.numbers[number], photograph)

    def all_objects(self) -> dict[str, Array]:
        columns = self.source.all_objects()
        places = np.full(len(self.source), -1)
        places[self.numbers] = np.arange(len(self))
        images = places[columns["image"]]
        kept = np.flatnonzero(images >= 0)
        kept = kept[np.argsort(images[kept], kind="stable")]
        columns = {key: x[kept] for key, x in columns.items()}
        return {**columns, "image": images[kept]}

    def check(self) -> Self:
        self.source.check()
        return self


class Table:
    """All objects of a data set, as they are read.

    There are data sets with millions: neither outlines nor rows are kept as
    objects of Python.
    """

    def __init__(self):
        self._images, self._classes = array("q"), array("i")
        self._boxes, self._areas = array("d"), array("d")
        self._is_crowd, self._ends = array("b"), array("q")
        self._outlines = bytearray()

    def add(self, image, label, box, area, is_crowd=False, outline=None):
        """One object.

        Args:
            image, label: ints, numbers of the image and of the class.
            box: x1, y1, x2, y2, pixels.
            area: float, pixels.
            is_crowd: bool.
            outline: see `outlines.rle_of`; `None` for a box alone.
        """
        self._images.append(image)
        self._classes.append(label)
        self._boxes.extend(box)
        self._areas.append(area)
        self._is_crowd.append(is_crowd)
        if outline is not None:
            # Read in this process alone; a tenth of JSON's time. Version 2 is
            # the last whose bytes follow from the values alone.
            self._outlines += marshal.dumps(outline, 2)
        self._ends.append(len(self._outlines))

    def sorted(self):
        """By image: columns, all outlines, and where each ends."""
        images = np.array(self._images, "int64")
        order = np.argsort(images, kind="stable")
        columns = {
            "image": images,
            "class": np.array(self._classes, "int32"),
            "box": np.array(self._boxes, "float64").reshape(-1, 4),
            "area": np.array(self._areas, "float64"),
            "is_crowd": np.array(self._is_crowd, bool),
            "place": np.arange(len(images)),
        }
        columns = {key: x[order] for key, x in columns.items()}
        return columns, bytes(self._outlines), np.array(self._ends, "int64")
