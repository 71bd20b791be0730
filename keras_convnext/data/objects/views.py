"""Images that are flipped, resized and cropped, and their objects with them."""

from dataclasses import dataclass
from dataclasses import replace
from typing import Self

import numpy as np

from keras_convnext._util.annotations import Array
from keras_convnext.data.objects.source import Objects
from keras_convnext.images import resizing


@dataclass(frozen=True)
class View:
    """What an image becomes, step by step, as mmdetection computes it.

    Attributes:
        image: `uint8` array `(height, width, channels)`.
        boxes: `float32` array `(n, 4)`, x1, y1, x2, y2 in pixels of it.
        kept: int array `(n,)`, which of the objects these are.
        rows, columns: int arrays `(height,)` and `(width,)`, which pixel of
            the first image each one shows: masks are not interpolated, so all
            steps are one.
    """

    image: Array
    boxes: Array
    kept: Array
    rows: Array
    columns: Array

    @classmethod
    def of(cls, image: Array, boxes: Array) -> Self:
        """The whole image."""
        rows, columns = map(np.arange, image.shape[:2])
        kept = np.arange(len(boxes))
        return cls(image, boxes.astype("float32"), kept, rows, columns)

    def flipped(self) -> Self:
        """Left and right exchanged."""
        left, top, right, bottom = self.boxes.T
        width = np.float32(len(self.columns))
        return replace(
            self,
            image=self.image[:, ::-1],
            boxes=np.stack([width - right, top, width - left, bottom], axis=1),
            columns=self.columns[::-1],
        )

    def resized(self, height: int, width: int) -> Self:
        """In another size; boxes are clipped to it."""
        old = self.image.shape[:2]
        scale = [np.float32(x / y) for x, y in zip((width, height), old[::-1])]
        rows, columns = map(resizing.nearest_pixels, old, (height, width))
        return replace(
            self,
            image=resizing.linear(self.image, height, width),
            boxes=_clipped(self.boxes * np.tile(scale, 2), height, width),
            rows=self.rows[rows],
            columns=self.columns[columns],
        )

    def cropped(self, top: int, left: int, height: int, width: int) -> Self:
        """A part of it, with those objects whose boxes reach into it."""
        rows, columns = slice(top, top + height), slice(left, left + width)
        offset = np.tile(np.array([left, top], "float32"), 2)
        boxes = _clipped(self.boxes - offset, height, width)
        cropped = replace(
            self,
            image=self.image[rows, columns],
            boxes=boxes,
            rows=self.rows[rows],
            columns=self.columns[columns],
        )
        return cropped.only((boxes[:, 2:] > boxes[:, :2]).all(axis=1))

    def only(self, rows: Array) -> Self:
        """Some of the objects."""
        return replace(self, boxes=self.boxes[rows], kept=self.kept[rows])

    def masks(self, objects: Objects) -> Array:
        """`bool` array `(n, height, width)` of the objects that are left."""
        masks = objects.only(self.kept).masks()
        return masks[:, self.rows[:, None], self.columns]


def _clipped(boxes, height, width):
    return np.clip(boxes, 0, np.tile(np.array([width, height], "float32"), 2))
