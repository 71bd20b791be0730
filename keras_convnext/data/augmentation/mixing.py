"""Mixup and CutMix of whole batches, with smoothed labels (timm's `Mixup`)."""

from typing import Any

import numpy as np

from keras_convnext._util.ranges import Count
from keras_convnext._util.ranges import NotNegative
from keras_convnext._util.ranges import Part
from keras_convnext._util.ranges import PartBelowOne
from keras_convnext._util.ranges import in_range
from keras_convnext._util.serialization import register
from keras_convnext.data.augmentation import boxes
from keras_convnext.data.augmentation.data_layer import DataLayer
from keras_convnext.data.augmentation.data_layer import is_tf_tensor
from keras_convnext.data.augmentation.soft_labels import meaning
from keras_convnext.data.augmentation.soft_labels import soft_labels


@register
class MixupCutmix(DataLayer):
    """Mixes a batch by mixup or by CutMix, and smooths its labels.

    Every image is mixed with its opposite in the batch, all with one weight
    of Beta(alpha, alpha), and the labels alike.

    Args:
        mixup_alpha, cutmix_alpha: floats of at least 0; 0 turns one off, and
            with both off labels are smoothed alone.
        switch_probability: float of 0–1, the part of batches that get CutMix.
        label_smoothing: float of 0–1, the part of a label that is spread over
            all classes.
        num_classes: int, needed for labels that are ints; 1 for floats of one
            column, which are numbers and no classes.
        seed, **kwargs: see `DataLayer`.

    Call arguments:
        inputs: dict with `"images"`, `(batch, height, width, channels)`, and
            `"labels"`, ints `(batch,)` or `(batch, 1)`, or one-hot or soft
            labels `(batch, classes)`. Batches of any size; the middle image
            of an odd one stays itself.
        training, seed: see `DataLayer`.
        out: `float32` array for the images of the result, as in NumPy; it may
            be those given.

    Returns:
        The same, with `float32` images and `float32` labels `(batch,
        classes)`. `training=False` is the identity.

    Raises:
        ValueError: for arguments out of range, single images, and labels that
            are missing, of other shapes or of classes that do not exist. The
            last raise `InvalidArgumentError` when a graph of TensorFlow runs.

    Source: V1 paper, table 5; timm's `Mixup(mode="batch")`, with the same
    weight and box to the last digit.

    Examples:
        >>> layer = keras_convnext.recipes.MixupCutmix(num_classes=5, seed=0)
        >>> images, labels = np.zeros((2, 8, 8, 3)), np.array([1, 4])
        >>> batch = {"images": images, "labels": labels}
        >>> layer(batch)["labels"].shape
        (2, 5)
    """

    figures: tuple[str, ...] = (
        "mixup_alpha",
        "cutmix_alpha",
        "switch_probability",
        "label_smoothing",
        "num_classes",
    )

    @in_range
    def __init__(
        self,
        mixup_alpha: NotNegative = 0.8,
        cutmix_alpha: NotNegative = 1.0,
        switch_probability: Part = 0.5,
        label_smoothing: PartBelowOne = 0.1,
        num_classes: Count | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.mixup_alpha = float(mixup_alpha)
        self.cutmix_alpha = float(cutmix_alpha)
        self.switch_probability = float(switch_probability)
        self.label_smoothing = label_smoothing
        self.num_classes = num_classes

    def _draw(self, generator, height, width):
        """The first image's weight, and the box of CutMix or `None`."""
        draws = generator.random(3)
        is_cutmix = bool(self.cutmix_alpha) and (
            not self.mixup_alpha or draws[0] < self.switch_probability
        )
        alpha = self.cutmix_alpha if is_cutmix else self.mixup_alpha
        weight = generator.beta(alpha, alpha) if alpha else 1.0
        if not is_cutmix:
            return weight, None
        box = boxes.cut_box(draws[1:], weight, height, width)
        return 1 - box[2] * box[3] / (height * width), box

    def _augment(self, inputs, words, out=None):
        if out is None:
            out = np.empty(inputs["images"].shape, "float32")
        out[...] = inputs["images"]
        labels = soft_labels(
            inputs["labels"], self.num_classes, self.label_smoothing
        )
        if len(out) != len(labels):
            raise ValueError(
                "Expected one label for each image. Received: a batch of "
                f"{len(out)} images with {len(labels)} labels"
            )
        generator = np.random.default_rng(words)
        weight, box = self._draw(generator, *out.shape[1:3])
        weight, rest = float(weight), float(1 - weight)
        _mix_pairs(out, weight, rest, box)
        labels = labels * weight + labels[::-1] * rest
        return {**inputs, "images": out, "labels": labels}

    def _specs(self, inputs):
        shape, labels = inputs["images"].shape, inputs["labels"]
        labels = labels if is_tf_tensor(labels) else np.asarray(labels)
        classes, _ = meaning(labels, self.num_classes)
        return {
            "images": ("float32", shape),
            "labels": ("float32", (shape[0], classes)),
        }

    def _check(self, features, training):
        super()._check(features, training)
        if not training:
            return
        name = type(self).__name__
        if "labels" not in features:
            raise ValueError(
                f"{name} mixes labels with their images: it expects a dict "
                'with the keys "images" and "labels". Received: the keys '
                f"{list(features)}"
            )
        shape = features["images"].shape
        if len(shape) != 4:
            raise ValueError(
                f"{name} mixes batches: it expects images of shape (batch, "
                "height, width, channels). Received: images of shape "
                f"{shape}. Call it after `batch`"
            )


@register
class MixUp(MixupCutmix):
    """Mixes every batch by mixup; calls as of `MixupCutmix`.

    Args:
        alpha: float, `mixup_alpha` of `MixupCutmix`.
        label_smoothing, num_classes: its own.
        **kwargs: `seed`, and the arguments of every Keras layer.

    Source: arXiv:1710.09412.

    Examples:
        >>> layer = keras_convnext.recipes.MixUp(alpha=0.8, num_classes=5)
        >>> images, labels = np.zeros((2, 8, 8, 3)), np.array([1, 4])
        >>> batch = {"images": images, "labels": labels}
        >>> layer(batch)["labels"].shape
        (2, 5)
    """

    figures = ("alpha", "label_smoothing", "num_classes")

    @in_range
    def __init__(
        self,
        alpha: NotNegative = 0.8,
        label_smoothing: PartBelowOne = 0.1,
        num_classes: Count | None = None,
        **kwargs: Any,
    ):
        super().__init__(
            alpha, 0.0, 0.0, label_smoothing, num_classes, **kwargs
        )
        self.alpha = self.mixup_alpha


@register
class CutMix(MixupCutmix):
    """Mixes every batch by CutMix; calls as of `MixupCutmix`.

    Args:
        alpha: float, `cutmix_alpha` of `MixupCutmix`.
        label_smoothing, num_classes: its own.
        **kwargs: `seed`, and the arguments of every Keras layer.

    Source: arXiv:1905.04899.

    Examples:
        >>> layer = keras_convnext.recipes.CutMix(alpha=1.0, num_classes=5)
        >>> images, labels = np.zeros((2, 8, 8, 3)), np.array([1, 4])
        >>> batch = {"images": images, "labels": labels}
        >>> layer(batch)["labels"].shape
        (2, 5)
    """

    figures = ("alpha", "label_smoothing", "num_classes")

    @in_range
    def __init__(
        self,
        alpha: NotNegative = 1.0,
        label_smoothing: PartBelowOne = 0.1,
        num_classes: Count | None = None,
        **kwargs: Any,
    ):
        super().__init__(
            0.0, alpha, 1.0, label_smoothing, num_classes, **kwargs
        )
        self.alpha = self.cutmix_alpha


def _mix_pairs(images, weight, rest, box):
    """Mixes images with their opposites, or swaps a box of them, in place.

    Two images at a time stay near the processor, unlike a whole batch.
    """
    for image, other in zip(images[: (len(images) + 1) // 2], images[::-1]):
        if box is None:
            first = image * weight + other * rest
            other[...] = other * weight + image * rest
            image[...] = first
        else:
            area = boxes.area_of(box)
            image[area], other[area] = other[area].copy(), image[area].copy()
