"""Figures of numbers equal scikit-learn's and SciPy's, where these have one."""

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics

from keras_convnext.training import target_metrics

pytestmark = pytest.mark.once

THEIRS = {
    "mae": metrics.mean_absolute_error,
    "rmse": metrics.root_mean_squared_error,
    "r2": metrics.r2_score,
}


def sample(kind):
    generator = np.random.default_rng(4)
    true = generator.normal(2000, 7, (30, 2)) * [1, 1e-3]
    predicted = true + generator.normal(0, 3, (30, 2)) * [1, 1e-3]
    if kind == "ties":
        true, predicted = np.round(true, 2), np.round(predicted)
    if kind == "constant targets":
        true[:, 0] = 0.5
    if kind == "constant predictions":
        predicted[:, 1] = 2
    if kind == "exact":
        predicted = true.copy()
    if kind == "two images":
        true, predicted = true[:2], predicted[:2]
    return true, predicted


@pytest.mark.parametrize(
    "kind",
    [
        *("random", "ties", "constant targets", "constant predictions"),
        *("exact", "two images"),
    ],
)
def test_figures_are_theirs(kind):
    true, predicted = sample(kind)
    found = target_metrics.measured(true, predicted)
    rows = target_metrics.by_target(true, predicted)
    for name, theirs in THEIRS.items():
        expected = theirs(true, predicted)
        assert found[name] == pytest.approx(expected, rel=1e-12, abs=0)
        of_each = theirs(true, predicted, multioutput="raw_values")
        assert [x[name] for x in rows] == pytest.approx(of_each, rel=1e-12)
    for row, a, b in zip(rows, true.T, predicted.T):
        expected = 0.0
        if np.ptp(a) and np.ptp(b):
            expected = stats.spearmanr(a, b).statistic
        assert row["spearman"] == pytest.approx(expected, rel=1e-12, abs=0)
    assert np.isfinite([*found.values()]).all()


def test_a_constant_that_floats_lack_explains_nothing():
    true = np.full((30, 1), 0.1)
    assert target_metrics.measured(true, true)["r2"] == 1
    assert target_metrics.measured(true, true + np.eye(30, 1))["r2"] == 0


@pytest.mark.parametrize(("predicted", "r2"), [(3.0, 1.0), (5.0, 0.0)])
def test_one_image_has_stated_values(predicted, r2):
    found = target_metrics.measured(np.array([[3.0]]), np.array([[predicted]]))
    error = predicted - 3
    assert found == {"mae": error, "rmse": error, "r2": r2, "spearman": 0.0}
