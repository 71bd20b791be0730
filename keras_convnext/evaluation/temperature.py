"""The temperature at which a model's scores fit what is right.

Logits divided by one number keep their order, and cross-entropy has one
minimum over it: Guo et al., "On Calibration of Modern Neural Networks",
arXiv:1706.04599, section 4.2.
"""

from dataclasses import dataclass

import numpy as np

from keras_convnext._util.requirements import require
from keras_convnext.data.holding_out import most_folds
from keras_convnext.evaluation import calibration
from keras_convnext.evaluation.tally import cross_entropies
from keras_convnext.facts import labels as label_functions

LEAST_IMAGES = 50
# Where a temperature is looked for, as what it divides by.
RANGE = (1e-3, 1e3)
# So many logits are looked at together.
AT_ONCE = 2**22
FIGURES = ("cross_entropy", "brier", "ece")


@dataclass(frozen=True)
class Calibration:
    """A temperature, its images, and the figures before and after.

    Attributes:
        temperature: what the logits were divided by.
        images: how many it was fitted on: all that were measured.
        halves: the temperatures of two halves of them.
        before: dict of `cross_entropy`, `brier` and `ece`.
        after: the same; each half at the temperature of the other one, so
            that no image is measured that the temperature has seen.
        reliability_before, reliability_after: as `Evaluation.reliability`.
    """

    temperature: float
    images: int
    halves: tuple
    before: dict
    after: dict
    reliability_before: list
    reliability_after: list

    def lines(self) -> list[str]:
        """The same as text."""
        halves = " and ".join(f"{x:.4g}" for x in self.halves)
        return [
            f"calibrated: logits are divided by {self.temperature:.4g}, "
            f"fitted on all {self.images} images",
            f"after: each half at the other's temperature ({halves})",
        ]


def calibration_of(scores, folds):
    """The `Calibration` of a `Softmax` or of `Sigmoids`.

    Args:
        scores: one of both.
        folds: int array `(images,)` of 0 and 1, the two halves.

    Raises:
        ValueError: if there is no best temperature.
    """
    everything = np.arange(len(scores))
    first, second = (np.flatnonzero(folds == number) for number in (0, 1))
    temperature = _fitted(scores, everything, "all {} images")
    halves = tuple(
        _fitted(scores, x, "the {} images of a half") for x in (first, second)
    )
    of_each = np.empty(len(scores))
    of_each[second], of_each[first] = halves
    before, bins_before = scores.figures(np.ones(len(scores)))
    after, bins_after = scores.figures(of_each)
    return Calibration(
        temperature,
        len(scores),
        halves,
        before,
        after,
        bins_before,
        bins_after,
    )


def check_source(source):
    """Raises `ValueError` for images that cannot tell a temperature."""
    if len(source) < LEAST_IMAGES:
        raise ValueError(
            "A temperature is fitted on one half of the images and measured "
            f"on the other, so at least {LEAST_IMAGES} are needed for either "
            f"to hold some mistakes. Received: {len(source)} images. Pass more "
            "that were held out of training"
        )
    if len(np.unique(source.labels)) < 2:
        raise ValueError(
            "A temperature needs images that differ in what is right: of one "
            "class alone, the higher every score of it the better. Received: "
            f"{len(source)} images with one. Pass images of all classes"
        )
    if most_folds(source) < 2:
        raise ValueError(
            "A temperature takes two halves, each with its part of the classes "
            "and of the groups. Received: no class with two images, or one "
            "group alone. Pass more images"
        )


class Softmax:
    """Logits of which one is right.

    Args:
        logits: float array `(images, outputs)`.
        columns: int array `(images,)`, the right outputs.
    """

    def __init__(self, logits, columns):
        self._logits, self._columns = logits, columns

    def __len__(self):
        return len(self._columns)

    def slopes(self, inverse, rows):
        """The derivative of cross-entropy by the inverse temperature."""
        logits, columns = self._logits[rows].astype("float64"), self._columns
        scores = label_functions.softmax(inverse * logits)
        right = logits[np.arange(len(rows)), columns[rows]]
        return (scores * logits).sum(axis=1) - right

    def is_all_right(self, rows):
        return (self._logits[rows].argmax(axis=1) == self._columns[rows]).all()

    def figures(self, temperatures):
        """`FIGURES` at a temperature for each image, and bins."""
        found = []
        for rows in _parts(len(self), self._logits.shape[1]):
            logits = self._logits[rows] / temperatures[rows, None]
            columns = self._columns[rows]
            found.append(
                (
                    cross_entropies(logits, columns),
                    *calibration.confidences_and_briers(logits, columns),
                    logits.argmax(axis=1) == columns,
                )
            )
        losses, confidences, briers, hits = map(np.concatenate, zip(*found))
        return _summary(losses, briers, confidences, hits)


class Sigmoids:
    """Logits of labels that do not compete.

    Args:
        logits: float array `(images, labels)`.
        labels: int array of the same shape, 0 and 1.
    """

    def __init__(self, logits, labels):
        self._logits, self._labels = logits, labels

    def __len__(self):
        return len(self._labels)

    def slopes(self, inverse, rows):
        logits = self._logits[rows].astype("float64")
        with np.errstate(over="ignore"):  # scores of 0
            scores = label_functions.sigmoid(inverse * logits)
        return (logits * (scores - self._labels[rows])).mean(axis=1)

    def is_all_right(self, rows):
        return ((self._logits[rows] > 0) == (self._labels[rows] > 0)).all()

    def figures(self, temperatures):
        logits = self._logits / temperatures[:, None]
        losses = np.logaddexp(0.0, logits) - self._labels * logits
        scores = label_functions.sigmoid(logits)
        briers = np.square(scores - self._labels)
        return _summary(losses, briers, scores.ravel(), self._labels.ravel())


def _summary(losses, briers, confidences, hits):
    bins = calibration.reliability(confidences, hits)
    values = (losses.mean(), briers.mean(), calibration.expected_error(bins))
    return dict(zip(FIGURES, map(float, values))), bins


def _fitted(scores, rows, what):
    """The temperature of the least cross-entropy over some images."""
    what = what.format(len(rows))
    if scores.is_all_right(rows):
        raise ValueError(
            "A temperature is found by mistakes: where there are none, the "
            f"highest scores are the best. Received: no mistake among {what}. "
            "Pass more images, or harder ones, that were held out of training"
        )
    optimize = require("scipy.optimize", "calibration")
    width = scores._logits.shape[1]
    parts = [rows[part] for part in _parts(len(rows), width)]

    def slope(inverse):
        return sum(scores.slopes(inverse, part).sum() for part in parts)

    # It rises throughout: cross-entropy is convex in what logits are
    # multiplied by.
    if slope(RANGE[0]) >= 0:
        raise ValueError(
            "Expected a model that is right more often than by chance. "
            f"Received: one whose scores over {what} are best when all are "
            "equal. Look for classes in another order, for preprocessing that "
            "is not the model's, or for what training did"
        )
    if slope(RANGE[1]) <= 0:
        raise ValueError(
            "Expected mistakes by more than rounding. Received: scores over "
            f"{what} that are the better the higher they are"
        )
    return 1 / optimize.brentq(slope, *RANGE, xtol=1e-12, rtol=1e-12)


def _parts(count, width):
    """Slices of images whose logits are looked at together."""
    some = max(1, AT_ONCE // width)
    return [slice(i, i + some) for i in range(0, count, some)]
