"""The augmentation of single images in the papers' recipes, as layers."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_convnext._util.ranges import Count
from keras_convnext._util.ranges import Finite
from keras_convnext._util.ranges import NotNegative
from keras_convnext._util.ranges import Part
from keras_convnext._util.ranges import PartAboveZero
from keras_convnext._util.ranges import Positive
from keras_convnext._util.ranges import check_ordered
from keras_convnext._util.ranges import in_range
from keras_convnext._util.serialization import register
from keras_convnext.data.augmentation import boxes
from keras_convnext.data.augmentation import operations
from keras_convnext.data.augmentation.data_layer import ImageLayer
from keras_convnext.data.augmentation.data_layer import channel_numbers
from keras_convnext.data.augmentation.data_layer import gray_levels
from keras_convnext.data.augmentation.data_layer import mapped
from keras_convnext.images.geometry import IMAGENET_MEAN
from keras_convnext.images.geometry import IMAGENET_STD
from keras_convnext.images.geometry import checked
from keras_convnext.images.reading import Photograph
from keras_convnext.images.reading import to_pil
from keras_convnext.images.transform import RESAMPLING
from keras_convnext.images.transform import load_image

OPERATIONS = tuple(operations.OPERATIONS)


@register
class RandomResizedCrop(ImageLayer):
    """Crops a random box of each image and resizes it.

    Args:
        size: side of the result, or `(height, width)`.
        scale: the least and greatest part of the area that is kept.
        ratio: the least and greatest width by height; their logarithm is
            drawn uniformly. After ten boxes that do not fit, the crop is the
            largest in the center.
        interpolation: `"bicubic"` or `"bilinear"`, antialiased.
        seed, **kwargs: see `DataLayer`.

    Call arguments:
        inputs, training, seed: see `DataLayer`. Images have one or three
            channels; floats are rounded and clipped to 0–255 first. In a
            batch of one size, all images come in it. A `Photograph` in the
            place of an image is decoded only where it is cropped.

    Returns:
        The same, with `uint8` images of the size. `training=False` is the
        official evaluation transform, `load_image`.

    Raises:
        ValueError: for arguments out of range and other images.

    Source: V1 paper, table 5; equal to torchvision's `RandomResizedCrop` on
    PIL images.

    Examples:
        >>> layer = keras_convnext.recipes.RandomResizedCrop(224, seed=0)
        >>> layer(np.zeros((480, 640, 3), "uint8")).shape
        (224, 224, 3)
    """

    channels = (1, 3)
    figures = ("size", "scale", "ratio", "interpolation")
    takes = (np.ndarray, Photograph)

    @in_range
    def __init__(
        self,
        size: Count | Sequence[Count],
        scale: Sequence[PartAboveZero] = (0.08, 1.0),
        ratio: Sequence[Positive] = (3 / 4, 4 / 3),
        interpolation: str = "bicubic",
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.size, *_ = checked(size, None, None, interpolation, IMAGENET_MEAN)
        self.scale = _ordered("scale", scale)
        self.ratio = _ordered("ratio", ratio)
        self.interpolation = interpolation

    def _augment_image(self, image, generator):
        draws = generator.random((boxes.TRIES, 4))
        height, width, channels = image.shape
        box = boxes.crop_box(draws, height, width, self.scale, self.ratio)
        resampling = RESAMPLING[self.interpolation]
        pixels = _photograph(image).resized(box, self.size, resampling)
        return pixels[..., :channels]

    def _evaluate(self, inputs):
        def evaluate(image, _):
            pixels = load_image(
                _photograph(image), self.size, interpolation=self.interpolation
            )
            return pixels[..., : image.shape[-1]]

        return mapped(evaluate, inputs)

    def _specs(self, inputs):
        *batch, _, _, channels = inputs["images"].shape
        return {"images": ("uint8", (*batch, *self.size, channels))}


@register
class RandomFlip(ImageLayer):
    """Mirrors some images, left to right.

    Args:
        probability: float of 0–1, the part of images that are mirrored.
        seed, **kwargs: see `DataLayer`.

    Call arguments:
        inputs, training, seed: see `DataLayer`.

    Returns:
        The same, with images of the same shape and dtype. `training=False`
        is the identity.

    Source: the official code.

    Examples:
        >>> layer = keras_convnext.recipes.RandomFlip(probability=1.0)
        >>> layer(np.array([[[1], [2]]], "uint8")).tolist()
        [[[2], [1]]]
    """

    figures = ("probability",)

    @in_range
    def __init__(self, probability: Part = 0.5, **kwargs: Any):
        super().__init__(**kwargs)
        self.probability = float(probability)

    def _augment_image(self, image, generator):
        if generator.random() >= self.probability:
            return image
        # Four times as fast as a copy of all channels at once.
        channels = range(image.shape[-1])
        return np.stack([image[:, ::-1, c] for c in channels], axis=-1)


@register
class RandAugment(ImageLayer):
    """Some of fifteen distortions, drawn anew for every image.

    As the papers used it: timm's, with increasing operations.

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

    @in_range
    def __init__(
        self,
        config: str = "rand-m9-mstd0.5-inc1",
        mean: Finite | Sequence[Finite] = IMAGENET_MEAN,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.config = config
        self.mean = channel_numbers("mean", mean, self.channels)
        self._parsed = operations.parse(config)

    def _augment_image(self, image, generator):
        picture = to_pil(gray_levels(image))
        fill = operations.fill_color(self.mean, image.shape[-1])
        for k, is_applied, magnitude, sign in zip(*self._draw(generator)):
            if is_applied:
                picture = operations.distorted(
                    picture, OPERATIONS[k], magnitude, sign, fill
                )
        return np.asarray(picture).reshape(image.shape).astype(image.dtype)

    def _draw(self, generator):
        """Numbers of operations, whether applied, magnitudes and signs."""
        config, count = self._parsed, self._parsed.count
        chosen = generator.integers(len(OPERATIONS), size=count)
        deviations = generator.normal(0, config.deviation, count)
        draws = generator.random((2, count))
        return (
            chosen,
            draws[0] < config.probability,
            np.clip(config.magnitude + deviations, 0, operations.MAXIMUM),
            np.where(draws[1] < 0.5, -1.0, 1.0),
        )


@register
class RandomErasing(ImageLayer):
    """Fills a random rectangle of some images with noise.

    The official code erases what is normalized already, with normal noise.
    This layer stands before a model that normalizes, and erases with what
    becomes the same noise there: `255 * (mean + std * noise)`.

    Args:
        probability: float of 0–1, the part of images that are erased.
        mean, std: numbers, one for each channel or one for all, by which the
            model normalizes pixels of 0–1.
        seed, **kwargs: see `DataLayer`.

    Call arguments:
        inputs, training, seed: see `DataLayer`. Images have as many channels
            as `mean` has numbers.
        out: `float32` array for the result of a single image, as in NumPy; it
            may be the image.

    Returns:
        The same, with `float32` images of the same shape, whose erased
        pixels may leave 0–255. `training=False` is the identity.

    Raises:
        ValueError: for probabilities outside 0–1, and for statistics that do
            not fit each other or the images.

    Source: V1 paper, table 5 (0.25); area of 0.02–1/3, aspect of 0.3–1/0.3
    and at most ten tries as in the official code.

    Examples:
        >>> layer = keras_convnext.recipes.RandomErasing(1.0, seed=0)
        >>> bool((layer(np.zeros((9, 9, 3), "uint8")) != 0).any())
        True
    """

    figures = ("probability", "mean", "std")
    result_dtype = "float32"

    @in_range
    def __init__(
        self,
        probability: Part = 0.25,
        mean: Finite | Sequence[Finite] = IMAGENET_MEAN,
        std: NotNegative | Sequence[NotNegative] = IMAGENET_STD,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.probability = float(probability)
        self.mean = channel_numbers("mean", mean)
        self.std = channel_numbers("std", std, (len(self.mean),))
        self.channels = None if len(self.mean) == 1 else (len(self.mean),)

    def _augment_image(self, image, generator, out=None):
        if out is None:
            out = np.empty(image.shape, "float32")
        out[...] = image
        if generator.random() >= self.probability:
            return out
        draws = generator.random((boxes.TRIES, 4))
        box = boxes.erased_box(draws, *image.shape[:2])
        if box is not None:
            area = out[boxes.area_of(box)]
            noise = generator.standard_normal(area.shape, dtype="float32")
            mean, std = (np.array(x, "float32") for x in (self.mean, self.std))
            area[...] = 255 * (mean + std * noise)
        return out


def _ordered(name, values):
    values = tuple(float(value) for value in values)
    check_ordered(name, values)
    return values


def _photograph(image):
    if isinstance(image, Photograph):
        return image
    return Photograph(gray_levels(image))
