"""Figures in which every class counts alike, for each draw of a bootstrap.

`training/class_scores.py` has the figures themselves. A test compares both.
"""

import numpy as np


def figures(labels, predicted, right):
    """A function from counts to `balanced_accuracy` and `f1_macro`.

    Args:
        labels: int array `(images,)`, of the data's classes.
        predicted: likewise, -1 where it is none of them.
        right: bool array `(images,)`.
    """
    classes = int(max(labels.max(), predicted.max())) + 1
    sums = [
        _sums_by(*columns, classes)
        for columns in (
            (labels, np.ones(len(labels), bool)),
            (predicted, (predicted >= 0) & ~right),
            (labels, right),
        )
    ]

    def each(counts):
        actual, wrong, found = (of_class(counts) for of_class in sums)
        total = actual + wrong + found
        return {
            "balanced_accuracy": _means(found, actual),
            "f1_macro": _means(2 * found, total),
        }

    return each


def _means(above, below):
    """Means of quotients over those columns that have one, `(draws,)`."""
    is_met = below > 0
    quotients = np.where(is_met, above / np.maximum(below, 1), 0.0)
    return quotients.sum(axis=1) / is_met.sum(axis=1)


def _sums_by(classes, counts_in, count):
    """A function from counts `(draws, images)` to sums `(draws, classes)`.

    Args:
        classes: int array `(images,)`.
        counts_in: bool array `(images,)`, which of them count.
        count: int, of classes.
    """
    numbers = np.flatnonzero(counts_in)
    numbers = numbers[np.argsort(classes[numbers], kind="stable")]
    present, starts = np.unique(classes[numbers], return_index=True)

    def sums(counts):
        found = np.zeros((len(counts), count))
        if len(numbers):
            parts = np.add.reduceat(counts[:, numbers], starts, axis=1)
            found[:, present] = parts
        return found

    return sums
