"""Figures of many labels for each draw of a bootstrap, all draws at once.

scikit-learn computes the figures themselves, for one set of images at a time:
a thousand draws would take it minutes. A test compares both.
"""

import numpy as np

AT_ONCE = 2**17


def figures(labels, scores, thresholds):
    """A function from counts to the figures of `label_metrics.measured`.

    A class whose images a draw leaves out altogether has no part in that
    draw's means over classes.

    Args:
        labels: array `(images, classes)` of 0 and 1.
        scores, thresholds: as for `label_metrics.measured`.
    """
    precisions = [
        _average_precision(has, score, np.arange(len(has)))
        for has, score in zip(labels.T, scores.T)
    ]
    images = np.repeat(np.arange(len(labels)), labels.shape[1])
    of_all = _average_precision(labels.ravel(), scores.ravel(), images)
    rates = rates_at(labels, scores, thresholds)
    known = labels.any(axis=0)

    def each(counts):
        by_class = np.stack([area(counts) for area in precisions], axis=1)
        drawn = counts @ labels.astype("float64") > 0
        return {
            "map_macro": _mean_over_classes(by_class, drawn, known),
            "map_micro": of_all(counts),
            **rates(counts),
        }

    return each


def rates_at(labels, scores, thresholds):
    """The same of those of `label_metrics.at`."""
    found = scores >= thresholds
    has = labels.astype(bool)
    right = (found & has).astype("float64")
    found, has = found.astype("float64"), has.astype("float64")
    exact = (found == has).all(axis=1).astype("float64")
    known = has.any(axis=0)

    def each(counts):
        sums = [counts @ x for x in (right, found, has)]
        values = {}
        for name, rate in _rates(*sums).items():
            drawn = sums[-1] > 0
            values[f"{name}_macro"] = _mean_over_classes(rate, drawn, known)
        for name, rate in _rates(*(x.sum(axis=1) for x in sums)).items():
            values[f"{name}_micro"] = rate
        values["subset_accuracy"] = counts @ exact / counts.sum(axis=1)
        return values

    return each


def _rates(right, found, there):
    """Precision, recall and F1; 0 where there is nothing to divide by."""
    pairs = {
        "precision": (right, found),
        "recall": (right, there),
        "f1": (2 * right, found + there),
    }
    return {
        name: above / np.maximum(below, 1)
        for name, (above, below) in pairs.items()
    }


def _mean_over_classes(values, drawn, known):
    """Means `(draws,)`; a class that never has images counts as 0."""
    classes = drawn.sum(axis=1) + np.sum(~known)
    sums = np.where(drawn, values, 0.0).sum(axis=1)
    return np.where(classes > 0, sums / np.maximum(classes, 1), np.nan)


def _average_precision(labels, scores, images):
    """A function from counts to average precisions `(draws,)`.

    The sum over falling thresholds of the gain in recall times precision, as
    in scikit-learn. Scores are put in order once, for all draws.

    Args:
        labels, scores: arrays `(n,)`.
        images: int array `(n,)`, to which image each of them belongs.
    """
    order = np.argsort(-scores, kind="stable")
    labels, scores, images = labels[order] > 0, scores[order], images[order]
    # Equal scores pass a threshold together: the last of them counts.
    is_last = np.append(scores[1:] != scores[:-1], True)
    lasts = np.flatnonzero(is_last)
    places = np.flatnonzero(labels)
    ends = lasts[np.searchsorted(lasts, places)]
    positives = np.searchsorted(places, ends, side="right") - 1

    def of_draws(counts):
        """Of counts `(images, draws)`: whole rows are moved and added."""
        there = counts[images[places]]
        right = np.cumsum(there, axis=0)[positives]
        found = np.cumsum(counts[images], axis=0)[ends]
        sums = (there * right / np.maximum(found, 1)).sum(axis=0)
        return sums / np.maximum(there.sum(axis=0), 1)

    def each(counts):
        some = max(1, AT_ONCE // len(images))
        starts = range(0, len(counts), some)
        parts = (counts[start : start + some] for start in starts)
        return np.concatenate(
            [of_draws(np.ascontiguousarray(part.T)) for part in parts]
        )

    return each
