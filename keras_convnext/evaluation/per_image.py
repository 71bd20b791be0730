"""What is known of each image, in some bytes: never all outputs at once."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_convnext.data.source import Source
from keras_convnext.evaluation import bootstrap
from keras_convnext.evaluation import calibration
from keras_convnext.evaluation import class_draws
from keras_convnext.evaluation import corruptions


class PerImage:
    """Columns with a number for each image, filled batch by batch."""

    def __init__(self):
        self._batches = {}

    def add(self, **columns):
        """Adds a batch: arrays `(n,)` by name, the same names each time."""
        for name, values in columns.items():
            self._batches.setdefault(name, []).append(np.asarray(values))

    def __contains__(self, name):
        return name in self._batches

    def __getitem__(self, name):
        """One number of each image, `(images,)`."""
        batches = self._batches[name]
        if len(batches) > 1:
            batches[:] = [np.concatenate(batches)]
        return batches[0]


@dataclass(frozen=True)
class Measured:
    """An evaluation, and what it is made of.

    Attributes:
        result: the evaluation.
        each: a `PerImage`; its `place` is a number in a source, that of its
            `part` where there are several.
        classifier: the `Classifier`.
        sources: the parts.
        outputs: of each output of the model its id and its name.
        truth: the `GroundTruth`, or `None` where there are many labels or
            numbers.
    """

    result: Any
    each: PerImage
    classifier: Any
    sources: Sequence[Source]
    outputs: Sequence[Any]
    truth: Any = None


def groups_of(each, source):
    """The group of each image of a source, `None` if all are apart."""
    groups = source.groups
    return None if groups is None else groups[each["place"]]


def calibration_of(each):
    """How far scores can be taken at their word, where there are some."""
    if "brier" not in each:
        return {}
    bins = calibration.reliability(each["confidence"], each["right"])
    return {
        "brier": float(each["brier"].mean()),
        "ece": calibration.expected_error(bins),
        "reliability": bins,
    }


def intervals_of(each, truth, accuracy, mce):
    """The intervals of an evaluation of one class for each image.

    Images of the same place in several parts are one image, corrupted: they
    are drawn together, as are those of a group.

    Args:
        each: a `PerImage`.
        truth: a `GroundTruth`.
        accuracy, mce: figures of the evaluation; `None` where there is none.
    """
    groups = groups_of(each, next(iter(truth.parts.values())))
    units = each["place"] if groups is None else groups
    _, numbers = np.unique(units, return_inverse=True)
    count = int(numbers.max()) + 1
    figures = [_sums(each, numbers, accuracy)]
    if mce is not None:
        shape = (count, len(truth.parts))
        wrong, there = np.zeros(shape), np.zeros(shape)
        wrong[numbers, each["part"]] = ~each["right"]
        there[numbers, each["part"]] = 1
        figures.append(
            lambda x: {"mce": corruptions.mce((x @ wrong) / (x @ there))}
        )
    found = bootstrap.intervals(count, *figures)
    if not truth.is_by_image and len(truth.parts) == 1:
        by_class = class_draws.figures(
            each["label"], _labels_of(each["output"], truth), each["right"]
        )
        images = len(each["label"])
        found.update(bootstrap.intervals(images, by_class, groups=groups))
    return found


def _sums(each, numbers, accuracy):
    """The figures that are sums over images, summed over units first."""
    present = np.bincount(numbers).astype("float64")
    top = [name for name in accuracy if name != "top1"]
    columns = {"top1": "right", **dict.fromkeys(top, "in_top")}
    if "loss" in each:
        columns.update(cross_entropy="loss", brier="brier")
    sums = {
        name: (np.bincount(numbers, weights=each[column]), present)
        for name, column in columns.items()
    }
    return bootstrap.ratios(**sums)


def _labels_of(outputs, truth):
    """The data's class of each output, -1 for what is none of them."""
    labels = np.full(len(truth.competes), -1)
    labels[truth.columns] = np.arange(len(truth.columns))
    return labels[outputs]
