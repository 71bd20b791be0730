"""RandAugment as the papers used it: timm's, with increasing operations."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_convnext._util.serialization import register
from keras_convnext.data.augmentation.data_layer import ImageLayer
from keras_convnext.data.augmentation.data_layer import channel_numbers
from keras_convnext.data.augmentation.data_layer import gray_levels
from keras_convnext.data.augmentation.operations import MAXIMUM
from keras_convnext.data.augmentation.operations import OPERATIONS
from keras_convnext.data.augmentation.operations import distorted
from keras_convnext.data.augmentation.operations import fill_color
from keras_convnext.data.augmentation.operations import parse
from keras_convnext.images.geometry import IMAGENET_MEAN
from keras_convnext.images.reading import to_pil

NAMES = tuple(OPERATIONS)


@register
class RandAugment(ImageLayer):
    """Some of fifteen distortions, drawn anew for every image.

    Args:
        config: timm's string. `m` is the magnitude of 0–10, `mstd` its
            standard deviation (0), `n` how many operations are drawn (2), `p`
            the probability with which each is applied (0.5); `inc1` is
            required.
        mean: one or three numbers of 0–1, the color of what comes from
            outside the image; gray images get the gray of a color.
        seed, **kwargs: see `DataLayer`.

    Call arguments:
        inputs, training, seed: see `DataLayer`. Images have one or three
            channels; floats are rounded and clipped to 0–255 first.

    Returns:
        The same, with images of the same shape and dtype. `training=False`
        is the identity.

    Raises:
        ValueError: for other strings, means and numbers of channels.

    Source: V1 paper, table 5 (`rand-m9-mstd0.5-inc1`); equal to timm's
    operations on PIL images, pixel for pixel.

    Examples:
        >>> layer = keras_convnext.recipes.RandAugment(seed=0)
        >>> layer(np.zeros((224, 224, 3), "uint8")).shape
        (224, 224, 3)
    """

    channels = (1, 3)
    figures = ("config", "mean")

    def __init__(
        self,
        config: str = "rand-m9-mstd0.5-inc1",
        mean: float | Sequence[float] = IMAGENET_MEAN,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(seed=seed, **kwargs)
        self.config = config
        self.mean = channel_numbers("mean", mean, self.channels)
        self._parsed = parse(config)

    def _augment_image(self, image, generator):
        picture = to_pil(gray_levels(image))
        fill = fill_color(self.mean, image.shape[-1])
        for k, is_applied, magnitude, sign in zip(*self._draw(generator)):
            if is_applied:
                picture = distorted(picture, NAMES[k], magnitude, sign, fill)
        return np.asarray(picture).reshape(image.shape).astype(image.dtype)

    def _draw(self, generator):
        """Numbers of operations, whether applied, magnitudes and signs."""
        config, count = self._parsed, self._parsed.count
        chosen = generator.integers(len(NAMES), size=count)
        deviations = generator.normal(0, config.deviation, count)
        draws = generator.random((2, count))
        return (
            chosen,
            draws[0] < config.probability,
            np.clip(config.magnitude + deviations, 0, MAXIMUM),
            np.where(draws[1] < 0.5, -1.0, 1.0),
        )
