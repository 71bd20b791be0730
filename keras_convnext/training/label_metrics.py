"""How well scores tell the labels of images that may have many: scikit-learn.

A class without a single image counts as 0 in means over classes, as there.
"""

import warnings
from typing import Any

import numpy as np

from keras_convnext._util.annotations import Array
from keras_convnext._util.requirements import require
from keras_convnext.facts.labels import THRESHOLD


def measured(
    labels: Array, scores: Array, thresholds: Array | float = THRESHOLD
) -> dict[str, float]:
    """The figures of all classes together, 0–1.

    Args:
        labels: int array `(images, classes)` of 0 and 1.
        scores: float array of the same shape.
        thresholds: of all classes, or of each `(classes,)`: the score from
            which on an image has it.

    Returns:
        A dict with `map_macro` and `map_micro`, the mean average precision
        over classes and that of all labels in one row; `f1_…`, `precision_…`
        and `recall_…` of both kinds, and `subset_accuracy`, the part of images
        with all labels right, at the thresholds.
    """
    metrics = _metrics()
    return {
        **{
            f"map_{average}": float(
                _quiet(
                    metrics.average_precision_score,
                    labels,
                    scores,
                    average=average,
                )
            )
            for average in ("macro", "micro")
        },
        **at(labels, scores, thresholds),
    }


def at(labels: Array, scores: Array, thresholds: Array | float) -> dict:
    """Those of `measured` that depend on thresholds."""
    metrics = _metrics()
    found = (scores >= thresholds).astype("int8")
    figures = {}
    for average in ("macro", "micro"):
        values = metrics.precision_recall_fscore_support(
            labels, found, average=average, zero_division=0.0
        )
        for name, value in zip(("precision", "recall", "f1"), values):
            figures[f"{name}_{average}"] = float(value)
    figures["subset_accuracy"] = float(metrics.accuracy_score(labels, found))
    return figures


def by_class(
    labels: Array, scores: Array, thresholds: Array | float
) -> list[dict[str, Any]]:
    """The figures of each class.

    Args:
        labels, scores, thresholds: as for `measured`.

    Returns:
        A list of dicts with `images`, how many have it, `average_precision`,
        `threshold`, and at it `precision`, `recall` and `f1`. Without images
        the average precision is `None`.
    """
    metrics = _metrics()
    thresholds = np.broadcast_to(thresholds, labels.shape[1:])
    found = (scores >= thresholds).astype("int8")
    rates = metrics.precision_recall_fscore_support(
        labels, found, average=None, zero_division=0.0
    )
    precision = _quiet(
        metrics.average_precision_score, labels, scores, average=None
    )
    rows = zip(*rates, np.atleast_1d(precision), thresholds)
    return [
        {
            "images": int(images),
            "average_precision": float(area) if images else None,
            "threshold": float(threshold),
            "precision": float(right),
            "recall": float(seen),
            "f1": float(f1),
        }
        for right, seen, f1, images, area, threshold in rows
    ]


def best_thresholds(labels: Array, scores: Array) -> Array:
    """Of each class the threshold with the highest F1.

    It lies midway between two scores. Choose them on images that were held
    out of training, and measure them on others.

    Args:
        labels, scores: as for `measured`.

    Returns:
        `float64` array `(classes,)`; 0.5 where a class has no images.
    """
    metrics = _metrics()
    chosen = np.full(labels.shape[1], THRESHOLD)
    for number, (has, score) in enumerate(zip(labels.T, scores.T)):
        if not has.any():
            continue
        precision, recall, edges = metrics.precision_recall_curve(has, score)
        total = np.maximum(precision + recall, np.finfo("float64").tiny)
        best = int(np.argmax((2 * precision * recall / total)[: len(edges)]))
        below = edges[best - 1] if best else 0.0
        chosen[number] = (float(edges[best]) + float(below)) / 2
    return chosen


def _metrics():
    return require("sklearn.metrics", "figures of many labels")


def _quiet(function, *args, **kwargs):
    """Of classes without images scikit-learn warns; the tables tell them."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "No positive class", UserWarning)
        return function(*args, **kwargs)
