"""Mixup and CutMix of whole batches, with smoothed labels (timm's `Mixup`).

What draws and what mixes are apart: the functions below mix with a given
weight or box, for NumPy arrays and TensorFlow tensors alike.
"""

import numbers
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_convnext._util import checks
from keras_convnext._util.annotations import Array
from keras_convnext._util.annotations import Tensor
from keras_convnext._util.serialization import register
from keras_convnext.data.augmentation import boxes
from keras_convnext.data.augmentation.data_layer import DataLayer
from keras_convnext.data.augmentation.data_layer import probability_of
from keras_convnext.data.augmentation.soft_labels import soft_labels
from keras_convnext.data.augmentation.soft_labels import tf_soft_labels


def mixed(values, weight, rest):
    """Every sample with its opposite: `weight * x + rest * x[::-1]`.

    Args:
        values: float array or tensor `(batch, ...)`.
        weight, rest: numbers of its dtype that add up to 1.

    Examples:
        >>> from keras_convnext.data.augmentation import mixing
        >>> mixing.mixed(np.eye(2), 0.75, 0.25).tolist()
        [[0.75, 0.25], [0.25, 0.75]]
    """
    return values * weight + values[::-1] * rest


def cut(ops, images, rows, columns, box):
    """Every image with the box of its opposite.

    Args:
        ops: the module `numpy` or `tensorflow`.
        images: `(batch, height, width, channels)`.
        rows, columns: the numbers from 0 to height and width, in the dtype of
            the box.
        box: top, left, height and width.

    Examples:
        >>> images = np.arange(8).reshape(2, 2, 2, 1)
        >>> keras_convnext.data.augmentation.mixing.cut(
        ...     np, images, np.arange(2), np.arange(2), (0, 0, 1, 2)
        ... )[0, ..., 0].tolist()
        [[4, 5], [2, 3]]
    """
    top, left, height, width = box
    in_rows = (rows >= top) & (rows < top + height)
    in_columns = (columns >= left) & (columns < left + width)
    inside = in_rows[:, None] & in_columns
    return ops.where(inside[..., None], images[::-1], images)


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
        num_classes: int, needed for labels that are ints.
        seed, **kwargs: see `DataLayer`.

    Call arguments:
        inputs: dict with `"images"`, `(batch, height, width, channels)`, and
            `"labels"`, ints `(batch,)` or `(batch, 1)`, or one-hot or soft
            labels `(batch, classes)`. Batches of any size; the middle image
            of an odd one stays itself.
        training, seed: see `DataLayer`.

    Returns:
        The same, with `float32` images and `float32` labels `(batch,
        classes)`. `training=False` is the identity.

    Raises:
        ValueError: for arguments out of range, single images, and labels that
            are missing or of other shapes; labels of classes that do not
            exist raise `InvalidArgumentError` in TensorFlow.

    Source: V1 paper, table 5; timm's `Mixup(mode="batch")`, with the same
    weight and box to the last digit.

    Examples:
        >>> layer = keras_convnext.recipes.MixupCutmix(num_classes=5, seed=0)
        >>> images, labels = np.zeros((2, 8, 8, 3)), np.array([1, 4])
        >>> batch = {"images": images, "labels": labels}
        >>> layer(batch)["labels"].shape
        (2, 5)
    """

    def __init__(
        self,
        mixup_alpha: float = 0.8,
        cutmix_alpha: float = 1.0,
        switch_probability: float = 0.5,
        label_smoothing: float = 0.1,
        num_classes: int | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(seed=seed, **kwargs)
        self.mixup_alpha = _alpha_of(mixup_alpha)
        self.cutmix_alpha = _alpha_of(cutmix_alpha)
        self.switch_probability = probability_of(
            "switch_probability", switch_probability
        )
        checks.rate("label_smoothing", label_smoothing)
        self.label_smoothing = label_smoothing
        if num_classes is not None and (
            not isinstance(num_classes, numbers.Integral) or num_classes < 2
        ):
            raise ValueError(
                "`num_classes` must be an int of at least 2, or None where "
                f"labels are one-hot. Received: num_classes={num_classes!r}"
            )
        self.num_classes = num_classes

    @property
    def _cutmix_probability(self):
        if self.mixup_alpha and self.cutmix_alpha:
            return self.switch_probability
        return 1.0 if self.cutmix_alpha else 0.0

    def draw_tf(
        self, seed: Tensor, height: Tensor, width: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Whether it is CutMix; the first image's weight; the box."""
        import tensorflow as tf

        seeds = tf.unstack(tf.random.split(seed, 3))
        draws = tf.random.stateless_uniform((3,), seeds[0], dtype=tf.float64)
        is_cutmix = draws[0] < self._cutmix_probability
        alphas = (self.mixup_alpha, self.cutmix_alpha)
        weights = [
            _tf_beta(tf, seed, alpha) for seed, alpha in zip(seeds[1:], alphas)
        ]
        weight = tf.where(is_cutmix, weights[1], weights[0])
        height, width = (tf.cast(side, tf.float64) for side in (height, width))
        box = boxes.cut_box(tf, draws[1:], weight, height, width)
        rest = box[2] * box[3] / (height * width)
        return is_cutmix, tf.where(is_cutmix, 1 - rest, weight), box

    def draw_numpy(
        self, generator: np.random.Generator, height: int, width: int
    ) -> tuple[bool, float, Any]:
        draws = generator.random(3)
        is_cutmix = draws[0] < self._cutmix_probability
        alpha = self.cutmix_alpha if is_cutmix else self.mixup_alpha
        weight = generator.beta(alpha, alpha) if alpha else 1.0
        if not is_cutmix:
            return False, weight, None
        box = boxes.cut_box(np, draws[1:], weight, height, width)
        return True, 1 - box[2] * box[3] / (height * width), box

    def augment_tf(
        self, inputs: dict[str, Any], seed: Tensor
    ) -> dict[str, Any]:
        import tensorflow as tf

        self._check_batch(inputs)
        images = tf.cast(inputs["images"], tf.float32)
        height, width = tf.unstack(tf.shape(images)[1:3])
        is_cutmix, weight, box = self.draw_tf(seed, height, width)
        weight, rest = (
            tf.cast(value, tf.float32) for value in (weight, 1 - weight)
        )
        images = tf.cond(
            is_cutmix,
            lambda: cut(
                tf,
                images,
                tf.range(height),
                tf.range(width),
                [tf.cast(value, tf.int32) for value in box],
            ),
            lambda: mixed(images, weight, rest),
        )
        labels = tf_soft_labels(
            inputs["labels"], self.num_classes, self.label_smoothing
        )
        self._check_sizes(images.shape[0], labels.shape[0])
        labels = mixed(labels, weight, rest)
        return {**inputs, "images": images, "labels": labels}

    def augment_numpy(
        self, inputs: dict[str, Any], seed: Sequence[int]
    ) -> dict[str, Any]:
        self._check_batch(inputs)
        images = inputs["images"].astype("float32")
        labels = self._mix(images, inputs["labels"], seed)
        return {**inputs, "images": images, "labels": labels}

    def mix_in_place(
        self, images: Array, labels: Array, seed: Sequence[int]
    ) -> Array:
        """What a call with this seed does, to float32 images of one's own.

        Returns:
            The labels.
        """
        return self._mix(images, labels, self.words_of(seed))

    def _mix(self, images, labels, words):
        labels = soft_labels(labels, self.num_classes, self.label_smoothing)
        self._check_sizes(images.shape[0], labels.shape[0])
        is_cutmix, weight, box = self.draw_numpy(
            np.random.default_rng(words), *images.shape[1:3]
        )
        weight, rest = float(weight), float(1 - weight)
        _mix_pairs(images, weight, rest, box if is_cutmix else None)
        return mixed(labels, weight, rest)

    def _check_batch(self, inputs):
        name = type(self).__name__
        if "labels" not in inputs:
            raise ValueError(
                f"{name} mixes labels with their images: it expects a dict "
                'with the keys "images" and "labels". Received: the keys '
                f"{list(inputs)}"
            )
        shape = inputs["images"].shape
        if len(shape) != 4:
            raise ValueError(
                f"{name} mixes batches: it expects images of shape (batch, "
                "height, width, channels). Received: images of shape "
                f"{shape}. Call it after `batch`"
            )

    def _check_sizes(self, images, labels):
        if None not in (images, labels) and images != labels:
            raise ValueError(
                "Expected one label for each image. Received: a batch of "
                f"{images} images with {labels} labels"
            )

    def get_config(self):
        own = {
            "mixup_alpha": self.mixup_alpha,
            "cutmix_alpha": self.cutmix_alpha,
            "switch_probability": self.switch_probability,
            "label_smoothing": self.label_smoothing,
            "num_classes": self.num_classes,
        }
        return {**super().get_config(), **own}


@register
class MixUp(MixupCutmix):
    """Mixes every batch by mixup; arguments and calls as of `MixupCutmix`.

    Source: arXiv:1710.09412.

    Examples:
        >>> layer = keras_convnext.recipes.MixUp(alpha=0.8, num_classes=5)
        >>> images, labels = np.zeros((2, 8, 8, 3)), np.array([1, 4])
        >>> batch = {"images": images, "labels": labels}
        >>> layer(batch)["labels"].shape
        (2, 5)
    """

    def __init__(
        self,
        alpha: float = 0.8,
        label_smoothing: float = 0.1,
        num_classes: int | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(
            alpha, 0.0, 0.0, label_smoothing, num_classes, seed, **kwargs
        )

    def get_config(self):
        return _with_one_alpha(super().get_config(), self.mixup_alpha)


@register
class CutMix(MixupCutmix):
    """Mixes every batch by CutMix; arguments and calls as of `MixupCutmix`.

    Source: arXiv:1905.04899.

    Examples:
        >>> layer = keras_convnext.recipes.CutMix(alpha=1.0, num_classes=5)
        >>> images, labels = np.zeros((2, 8, 8, 3)), np.array([1, 4])
        >>> batch = {"images": images, "labels": labels}
        >>> layer(batch)["labels"].shape
        (2, 5)
    """

    def __init__(
        self,
        alpha: float = 1.0,
        label_smoothing: float = 0.1,
        num_classes: int | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(
            0.0, alpha, 1.0, label_smoothing, num_classes, seed, **kwargs
        )

    def get_config(self):
        return _with_one_alpha(super().get_config(), self.cutmix_alpha)


def _with_one_alpha(config, alpha):
    for name in ("mixup_alpha", "cutmix_alpha", "switch_probability"):
        del config[name]
    return {**config, "alpha": alpha}


def _alpha_of(value):
    if not isinstance(value, numbers.Real) or not 0 <= value < float("inf"):
        raise ValueError(
            "The alpha of a Beta distribution must be a positive number, or 0 "
            f"to turn its mixing off. Received: alpha={value!r}"
        )
    return float(value)


def _tf_beta(tf, seed, alpha):
    if not alpha:
        return tf.constant(1.0, tf.float64)
    first, second = tf.unstack(
        tf.random.stateless_gamma((2,), seed, alpha, dtype=tf.float64)
    )
    # For tiny alphas both underflow.
    return tf.where(first + second > 0, first / (first + second), 1.0)


def _mix_pairs(images, weight, rest, box):
    """`mixed` or, with a box, `cut`, in place.

    Two images at a time stay near the processor, unlike a whole batch.
    """
    for image, other in zip(images[: (len(images) + 1) // 2], images[::-1]):
        if box is None:
            first = image * weight + other * rest
            other[...] = other * weight + image * rest
            image[...] = first
        else:
            top, left, height, width = map(int, box)
            area = slice(top, top + height), slice(left, left + width)
            image[area], other[area] = other[area].copy(), image[area].copy()
