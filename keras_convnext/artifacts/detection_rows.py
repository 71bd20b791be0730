"""Detections of two runtimes, row by row."""

import numpy as np

# Scores so near to one another may come in either order.
TIE = 1e-4


def in_order(expected, found):
    """What one runtime found, in the order of another's rows.

    A row changes its place only for one of the same class whose score is the
    same but for rounding.

    Args:
        expected, found: dicts of the outputs of a detector: arrays `(batch,
            n, …)`, among them `boxes`, `scores` and `classes`.

    Returns:
        `found` with the rows of each image in another order.
    """
    pairs = zip(_rows(expected), _rows(found))
    orders = [_order(*pair) for pair in pairs]
    return {
        name: np.stack([x[order] for x, order in zip(array, orders)])
        for name, array in found.items()
    }


def _rows(outputs):
    """The three arrays of each image."""
    names = ("boxes", "scores", "classes")
    return zip(*(np.asarray(outputs[name]) for name in names))


def _order(expected, found):
    left, order = list(range(len(found[0]))), []
    for box, score, number in zip(*expected):
        boxes, scores, classes = (x[left] for x in found)
        alike = (np.abs(scores - score) <= TIE) & (classes == number)
        distance = np.abs(boxes - box).max(axis=1)
        # Without any that is alike, the first.
        best = np.argmin(np.where(alike, distance, np.inf))
        order.append(left.pop(best))
    return order
