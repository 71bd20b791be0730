"""Figures of numbers for each draw of a bootstrap, all draws at once.

SciPy and scikit-learn compute the figures themselves, for one set of images at
a time. A test compares both.
"""

import numpy as np

from keras_convnext.training import target_metrics


def figures(true, predicted):
    """A function from counts to the figures of `target_metrics.measured`.

    Where a draw has no variance of a target it has no `r2` and no `spearman`.

    Args:
        true, predicted: `float64` arrays `(images, targets)`.
    """
    targets = [_of_target(*columns) for columns in zip(true.T, predicted.T)]

    def each(counts):
        rows = [of_target(counts) for of_target in targets]
        return {
            name: np.mean([row[name] for row in rows], axis=0)
            for name in target_metrics.FIGURES
        }

    return each


def _of_target(true, predicted):
    errors = np.abs(predicted - true)
    # Sums of squares lose digits where the mean is large.
    centered = true - true.mean()
    ranks = [_ranks(x) for x in (true, predicted)]

    def each(counts):
        images = counts.sum(axis=1)
        squared = counts @ errors**2
        total = counts @ centered**2 - (counts @ centered) ** 2 / images
        with np.errstate(invalid="ignore", divide="ignore"):
            is_alike = total <= 1e-12 * (counts @ centered**2)
            r2 = np.where(is_alike, np.nan, 1 - squared / total)
            spearman = _correlation(counts, *(rank(counts) for rank in ranks))
        return {
            "mae": counts @ errors / images,
            "rmse": np.sqrt(squared / images),
            "r2": r2,
            "spearman": spearman,
        }

    return each


def _ranks(values):
    """A function from counts to the ranks of all images `(draws, images)`.

    Equal values share the mean of their ranks.
    """
    order = np.argsort(values, kind="stable")
    _, starts, place = np.unique(
        values[order], return_index=True, return_inverse=True
    )

    def of_draws(counts):
        each = np.add.reduceat(counts[:, order], starts, axis=1)
        ranks = np.empty_like(counts)
        ranks[:, order] = (np.cumsum(each, axis=1) - each / 2)[:, place]
        return ranks

    return of_draws


def _correlation(counts, one, other):
    """Pearson's of two arrays `(draws, images)`, each counted so often."""
    images = counts.sum(axis=1, keepdims=True)
    one, other = (
        x - (counts * x).sum(axis=1, keepdims=True) / images
        for x in (one, other)
    )
    variances = [(counts * x**2).sum(axis=1) for x in (one, other)]
    return (counts * one * other).sum(axis=1) / np.sqrt(np.prod(variances, 0))
