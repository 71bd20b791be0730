"""How near predicted numbers are to the true ones: scikit-learn and SciPy.

Where something has no value by itself, it has one here: `r2` of one image, and
of targets that are all alike, is 1 if all is exact and else 0; `spearman` is 0
where either side is all alike.
"""

from typing import Any

import numpy as np

from keras_convnext._util.annotations import Array
from keras_convnext._util.requirements import require

FIGURES = ("mae", "rmse", "r2", "spearman")


def measured(true: Array, predicted: Array) -> dict[str, float]:
    """The means over targets of what `by_target` gives, as scikit-learn's.

    Args:
        true, predicted: finite arrays `(images, targets)`.
    """
    return means(by_target(true, predicted))


def means(rows: list[dict[str, Any]]) -> dict[str, float]:
    """The means over targets of the rows of `by_target`."""
    return {name: float(np.mean([x[name] for x in rows])) for name in FIGURES}


def by_target(true: Array, predicted: Array) -> list[dict[str, Any]]:
    """The figures of each target.

    Args:
        true, predicted: as for `measured`.

    Returns:
        A list of dicts with `mae` and `rmse`, the mean and root mean squared
        error in the target's units; `r2`, the part of the variance that is
        explained, at most 1; and `spearman`, the correlation of ranks, -1 to 1.
    """
    true, predicted = (np.asarray(x, "float64") for x in (true, predicted))
    return [_figures(*columns) for columns in zip(true.T, predicted.T)]


def _figures(true, predicted):
    metrics = require("sklearn.metrics", "figures of regression")
    stats = require("scipy.stats", "figures of regression")
    # Of a constant such as 0.1 scikit-learn's sums leave a variance of 1e-33.
    r2 = float((true == predicted).all())
    if np.ptp(true):
        r2 = float(metrics.r2_score(true, predicted))
    spearman = 0.0
    if np.ptp(true) and np.ptp(predicted):
        spearman = float(stats.spearmanr(true, predicted).statistic)
    return {
        "mae": float(metrics.mean_absolute_error(true, predicted)),
        "rmse": float(metrics.root_mean_squared_error(true, predicted)),
        "r2": r2,
        "spearman": spearman,
    }
