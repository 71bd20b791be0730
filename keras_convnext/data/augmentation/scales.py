"""The two policies by which the published detectors saw their images."""

from collections.abc import Sequence
from typing import Any
from typing import Self

import numpy as np

from keras_convnext._util.ranges import Count
from keras_convnext._util.ranges import Part
from keras_convnext._util.ranges import Seed
from keras_convnext._util.ranges import check_ordered
from keras_convnext._util.ranges import in_range
from keras_convnext.images.resizing import fitted_size

# Beside a seed, for draws of its own.
SALT = 1
# A step: the name of one of `View`'s methods, and its arguments.
Step = tuple[str, tuple[int, ...]]


class RandomScales:
    """Flips an image, and resizes it, or a crop of it, to a random size.

    Half of the images are resized at once. The others are resized, cropped,
    and then resized like the first. The draws depend on the image's size and
    the seed alone: the steps are known before the image is read.

    Args:
        shortest: ints, pixels of the short side, each as likely as the others.
        longest: int, pixels that the long side has at most; the short one is
            shorter where this asks for it.
        crop_shortest: ints, the same before a crop.
        crop_sides: two ints, the least and the most pixels of a crop's sides,
            which are drawn one by one; an image that is smaller is not cropped.
        horizontal_flip: float of 0–1, how often images are flipped.

    Source: arXiv:2201.03545, official object_detection/configs.

    Examples:
        >>> scales = keras_convnext.data.RandomScales()
        >>> scales.steps(480, 640, seed=(0, 3))
        [('flipped', ()), ('resized', (640, 853))]
    """

    @in_range
    def __init__(
        self,
        shortest: Sequence[Count] = tuple(range(480, 801, 32)),
        longest: Count = 1333,
        crop_shortest: Sequence[Count] = (400, 500, 600),
        crop_sides: tuple[Count, Count] = (384, 600),
        horizontal_flip: Part = 0.5,
    ):
        check_ordered("crop_sides", crop_sides)
        self.shortest, self.longest = tuple(shortest), longest
        self.crop_shortest = tuple(crop_shortest)
        self.crop_sides = tuple(crop_sides)
        self.horizontal_flip = horizontal_flip

    @classmethod
    @in_range
    def for_short_side(cls, side: Count) -> Self:
        """The published ones, in proportion to a short side of 800 pixels.

        Args:
            side: int, pixels of the short side that a model is made for.

        Examples:
            >>> keras_convnext.data.RandomScales.for_short_side(400).longest
            666
        """
        whole = cls()
        factor = side / max(whole.shortest)

        def scaled(numbers):
            return tuple(max(round(factor * x), 1) for x in numbers)

        return cls(
            shortest=scaled(whole.shortest),
            longest=max(round(factor * whole.longest), 1),
            crop_shortest=scaled(whole.crop_shortest),
            crop_sides=scaled(whole.crop_sides),
        )

    @property
    def largest(self) -> tuple[int, int]:
        """The most pixels of the short and of the long side."""
        return min(max(self.shortest), self.longest), self.longest

    @in_range
    def steps(
        self, height: Count, width: Count, seed: Sequence[Seed]
    ) -> list[Step]:
        """The steps for one image, in their order.

        Args:
            height, width: ints, pixels of the image.
            seed: ints that the draws follow from.

        Returns:
            List of pairs: the name of a method of `View`, and its arguments.
        """
        generator = np.random.default_rng([*map(int, seed), SALT])
        steps: list[Step] = []
        if generator.random() < self.horizontal_flip:
            steps.append(("flipped", ()))
        size = height, width
        if generator.random() < 0.5:
            size = self._fitted(size, self.crop_shortest, generator)
            crop = tuple(self._side(x, generator) for x in size)
            corner = (
                int(generator.integers(x - y + 1)) for x, y in zip(size, crop)
            )
            steps += [("resized", size), ("cropped", (*corner, *crop))]
            size = crop
        size = self._fitted(size, self.shortest, generator)
        return [*steps, ("resized", size)]

    def _fitted(self, size, shortest, generator):
        short = shortest[generator.integers(len(shortest))]
        return fitted_size(*size, longest=self.longest, shortest=short)

    def _side(self, side, generator):
        least, most = (min(side, x) for x in self.crop_sides)
        return int(generator.integers(least, most + 1))


def size_after(steps: list[Step]) -> Any:
    """Height and width of what the steps of `RandomScales` lead to."""
    return steps[-1][1]
