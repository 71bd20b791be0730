"""Figures of many labels equal scikit-learn's, also where there is little."""

import numpy as np
import pytest
from sklearn import metrics

from keras_convnext.training import label_metrics

pytestmark = pytest.mark.once

AVERAGES = ("macro", "micro")


def sample(kind):
    generator = np.random.default_rng(5)
    count = 1 if kind == "one image" else 40
    labels = (generator.random((count, 4)) < 0.4).astype("uint8")
    scores = np.clip(0.4 * labels + generator.random((count, 4)) * 0.6, 0, 1)
    if kind == "class without images":
        labels[:, 2] = 0
    if kind == "class of all images":
        labels[:, 1] = 1
    if kind == "ties":
        scores = np.round(scores * 3) / 3
    if kind == "all alike":
        scores[:] = 0.5
    if kind == "no labels":
        labels[:] = 0
    return labels, scores


KINDS = [
    *("random", "one image", "class without images", "class of all images"),
    *("ties", "all alike", "no labels"),
]


@pytest.mark.filterwarnings("ignore:No positive class")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("thresholds", [0.5, np.array([0.2, 0.5, 0.7, 0.4])])
def test_figures_are_scikit_learns(kind, thresholds):
    labels, scores = sample(kind)
    found = label_metrics.measured(labels, scores, thresholds)
    has = (scores >= thresholds).astype(int)
    expected = {"subset_accuracy": metrics.accuracy_score(labels, has)}
    functions = {
        "f1": metrics.f1_score,
        "precision": metrics.precision_score,
        "recall": metrics.recall_score,
    }
    for average in AVERAGES:
        expected[f"map_{average}"] = metrics.average_precision_score(
            labels, scores, average=average
        )
        for name, function in functions.items():
            expected[f"{name}_{average}"] = function(
                labels, has, average=average, zero_division=0
            )
    assert found == pytest.approx(expected, rel=0, abs=1e-12)
    rows = label_metrics.by_class(labels, scores, thresholds)
    assert [x["images"] for x in rows] == labels.sum(axis=0).tolist()
    for number, row in enumerate(rows):
        own = labels[:, number], has[:, number]
        for name, function in functions.items():
            value = function(*own, zero_division=0)
            assert row[name] == pytest.approx(value, rel=0, abs=1e-12)
        if not row["images"]:
            assert row["average_precision"] is None
            continue
        value = metrics.average_precision_score(own[0], scores[:, number])
        assert row["average_precision"] == pytest.approx(value, abs=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_no_threshold_is_better_than_the_best(kind):
    labels, scores = sample(kind)
    chosen = label_metrics.best_thresholds(labels, scores)
    assert chosen.shape == (4,) and ((chosen >= 0) & (chosen <= 1)).all()

    def f1(number, threshold):
        has = scores[:, number] >= threshold
        return metrics.f1_score(labels[:, number], has, zero_division=0)

    for number in range(4):
        tried = [*np.linspace(0, 1, 101), *scores[:, number]]
        best = max(f1(number, x) for x in tried)
        assert f1(number, chosen[number]) == pytest.approx(best, abs=1e-12)


def test_a_threshold_lies_between_the_scores():
    labels = np.array([[0], [0], [1], [1]])
    scores = np.array([[0.1], [0.3], [0.7], [0.9]])
    assert label_metrics.best_thresholds(labels, scores) == pytest.approx(0.5)


def test_without_scikit_learn_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "sklearn.metrics", None)
    with pytest.raises(ImportError, match=r"keras-convnext\[demo\]"):
        label_metrics.measured(*sample("random"))
