"""Rare classes: how often their images are drawn, and how much these weigh."""

import numpy as np

from keras_convnext._util.annotations import Array
from keras_convnext._util.annotations import ArrayLike
from keras_convnext._util.ranges import CountOrZero
from keras_convnext._util.ranges import Part
from keras_convnext._util.ranges import Seed
from keras_convnext._util.ranges import in_range


def class_weights(counts: ArrayLike, exponent: float) -> Array:
    """Weights of classes by inverse frequency; their mean over images is 1.

    With the exponent 1 they are those of scikit-learn's
    `compute_class_weight("balanced")`.

    Args:
        counts: ints `(classes,)`, images of each class.
        exponent: 0–1; with 0 all weights are 1.

    Returns:
        `float64` array `(classes,)`.
    """
    images = np.asarray(counts, "float64")
    weights = np.maximum(images, 1) ** -exponent
    return weights * images.sum() / max((weights * images).sum(), 1)


def positive_weights(counts: ArrayLike, images: int, exponent: float) -> Array:
    """Weights of the labels that images have, where these may be many.

    Of each label how many images lack it for one that has it, as PyTorch's
    `BCEWithLogitsLoss` advises for its `pos_weight`.

    Args:
        counts: ints `(classes,)`, images that have each label.
        images: how many there are.
        exponent: 0–1; with 0 all weights are 1.

    Returns:
        `float64` array `(classes,)`.
    """
    present = np.maximum(np.asarray(counts, "float64"), 1)
    return (np.maximum(images - present, 1) / present) ** exponent


class BalancedOrder:
    """The images of an epoch, those of rare classes more often.

    An image is drawn in proportion to the number of images of its class to
    the power of minus the exponent: with 0 each comes once, with 1 every class
    comes equally often. Of several labels the rarest counts, and an image
    without labels is like one of the most frequent. Draws are as even as they
    can be: an image comes as often as expected, rounded up or down, and so
    does a class.

    Args:
        labels: class numbers `(n,)`, or rows `(n, classes)` of labels.
        exponent: 0–1.

    Attributes:
        expected: `float64` array `(n,)`: how often each image comes in an
            epoch of n draws, in the mean.

    Source: the sampling in proportion to a power of Mahajan et al.,
    arXiv:1805.00932, section 2.2; the rarest label of several as in Gupta et
    al., arXiv:1908.03195, section 5.
    """

    @in_range
    def __init__(self, labels: ArrayLike, exponent: Part):
        labels = np.asarray(labels)
        if labels.shape[1:] == (1,):
            labels = labels.reshape(-1)
        if labels.ndim == 1:
            weights = _rarity(np.bincount(labels), exponent)[labels]
            self._strata = labels
        else:
            weights = _of_rarest(labels, exponent)
            self._strata = weights
        self.expected = weights * (len(weights) / weights.sum())

    @in_range
    def __call__(self, seed: Seed, epoch: CountOrZero) -> Array:
        """The numbers of the images in an epoch, which follow from both.

        Returns:
            `int32` array `(n,)`, of which some come again and others not.
        """
        count = len(self.expected)
        generator = np.random.default_rng([seed, epoch])
        numbers = generator.permutation(np.arange(count, dtype="int32"))
        # Class by class, and in a class each time in another order: what is
        # left over of whole repeats falls on other images in every epoch.
        numbers = numbers[np.argsort(self._strata[numbers], kind="stable")]
        ends = np.cumsum(self.expected[numbers])
        marks = generator.random() + np.arange(count)
        drawn = np.searchsorted(ends, marks, side="right")
        # Sums of floats may end a little below the number of draws.
        return generator.permutation(numbers[np.minimum(drawn, count - 1)])


def _rarity(counts, exponent):
    """Larger for rare classes; of those without images it does not count."""
    return np.maximum(counts, 1).astype("float64") ** -exponent


def _of_rarest(labels, exponent):
    has = labels > 0
    rarity = _rarity(has.sum(axis=0), exponent)
    weights = np.zeros(len(labels))
    for of_class, value in zip(has.T, rarity):
        np.maximum(weights, value, out=weights, where=of_class)
    least = rarity[has.any(axis=0)].min(initial=1.0)
    return np.where(weights > 0, weights, least)
