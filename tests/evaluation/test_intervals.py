"""Intervals beside SciPy's, on simulated data, and of what evaluations find."""

import tracemalloc

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics
from table_classifier import TableClassifier
from table_classifier import named
from test_evaluation import TWO
from test_evaluation import c_of_two_classes  # noqa: F401
from test_evaluation import colored_arrays
from test_evaluation import one_hot
from test_evaluation import scored
from test_evaluation import write_c

from keras_convnext.evaluation import bootstrap
from keras_convnext.evaluation import calibration
from keras_convnext.evaluation import class_draws
from keras_convnext.evaluation import corruptions
from keras_convnext.evaluation import label_draws
from keras_convnext.training import label_metrics

pytestmark = pytest.mark.once


def scipys(values, statistic=np.mean):
    """SciPy's percentile interval of the same draws."""
    found = stats.bootstrap(
        (values,),
        statistic,
        n_resamples=bootstrap.DRAWS,
        method="percentile",
        random_state=np.random.default_rng(bootstrap.SEED),
        vectorized=statistic is np.mean,
    )
    return tuple(found.confidence_interval)


def test_intervals_are_those_of_scipy():
    values = np.random.default_rng(1).exponential(size=150)
    found = bootstrap.intervals(
        150,
        bootstrap.means(mean=values),
        bootstrap.ratios(ratio=(values, 0 * values + 2)),
        bootstrap.of_each_draw(lambda x: {"deviation": np.std(x)}, values),
    )
    low, high = scipys(values)
    assert found["mean"] == pytest.approx((low, high), rel=1e-12)
    assert found["ratio"] == pytest.approx((low / 2, high / 2), rel=1e-12)
    deviation = scipys(values, np.std)
    assert found["deviation"] == pytest.approx(deviation, rel=1e-12)


def test_intervals_hold_the_truth_about_as_often_as_they_say():
    generator = np.random.default_rng(0)
    held = []
    for _ in range(400):
        right = generator.random(200) < 0.8
        found = bootstrap.intervals(200, bootstrap.means(top1=right))
        low, high = found["top1"]
        held.append(low <= 0.8 <= high)
    assert 0.92 <= np.mean(held) <= 0.97


def test_draws_take_no_more_memory_for_more_images():
    peaks = []
    for count in (1000, 1000, 10_000):
        column = np.ones(count)
        tracemalloc.start()
        bootstrap.intervals(count, bootstrap.means(a=column))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # All draws of the many at once would be 80 MB.
    assert peaks[2] - peaks[1] < 5e6


def test_images_of_a_group_are_drawn_together():
    generator = np.random.default_rng(0)
    groups = np.repeat([7, 3, 5, 9, 1, 2, 8, 0], 10)
    values = np.repeat(generator.random(8), 10)
    found = bootstrap.intervals(80, bootstrap.means(mean=values), groups=groups)
    # SciPy's of the groups, in the order of their numbers.
    _, firsts = np.unique(groups, return_index=True)
    assert found["mean"] == pytest.approx(scipys(values[firsts]), rel=1e-12)
    labels, logits = np.zeros(80, int), np.zeros((80, 2))
    logits[:, 1] = values - 0.5
    source = colored_arrays(labels, range(2))
    alone = scored(TableClassifier(logits), source)
    source.groups = groups
    result = scored(TableClassifier(logits), source)
    right = (values <= 0.5).astype(float)
    assert result.intervals["top1"] == pytest.approx(scipys(right[firsts]))
    assert alone.intervals["top1"] == pytest.approx(scipys(right))
    assert result.bootstrap["method"].endswith("over groups")
    assert alone.bootstrap["method"].endswith("over images")


def test_a_figure_that_no_draw_has_has_no_interval():
    figures = bootstrap.ratios(none=(np.zeros(5), np.zeros(5)))
    assert bootstrap.intervals(5, figures) == {"none": None}


@pytest.mark.parametrize("thresholds", [0.5, np.array([0.2, 0.5, 0.9])])
def test_draws_of_many_labels_are_scikit_learns(thresholds):
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 2, (40, 3))
    scores = generator.random((40, 3)).round(1)  # with equal ones
    counts = np.random.default_rng(1).integers(0, 4, (5, 40)).astype("float64")
    found = label_draws.figures(labels, scores, thresholds)(counts)
    for number, count in enumerate(counts.astype(int)):
        rows = np.repeat(np.arange(40), count)
        expected = label_metrics.measured(
            labels[rows], scores[rows], thresholds
        )
        assert {name: x[number] for name, x in found.items()} == pytest.approx(
            expected, rel=1e-12
        )


@pytest.mark.parametrize("classes", [4, 12])
def test_draws_of_classes_are_scikit_learns(classes):
    """Also where classes have no image, or outputs are no class of the data."""
    generator = np.random.default_rng(0)
    labels, answers = generator.integers(0, 8, (2, 40))
    labels %= classes
    predicted = np.where(answers < classes, answers, -1)
    counts = np.random.default_rng(1).integers(0, 3, (5, 40)).astype("float64")
    found = class_draws.figures(labels, predicted, predicted == labels)(counts)
    for number, count in enumerate(counts.astype(int)):
        rows = np.repeat(np.arange(40), count)
        true, answered = labels[rows], answers[rows]
        recalls = metrics.recall_score(
            true, answered, average=None, labels=np.unique(true)
        )
        assert found["balanced_accuracy"][number] == pytest.approx(
            recalls.mean(), rel=1e-12
        )
        known = np.union1d(true, predicted[rows][predicted[rows] >= 0])
        expected = metrics.f1_score(
            true, answered, average="macro", labels=known
        )
        assert found["f1_macro"][number] == pytest.approx(expected, rel=1e-12)


def test_a_class_left_out_of_a_draw_is_left_out_of_its_means():
    labels = np.array([[1, 1, 0], [1, 0, 0], [0, 0, 0]])
    scores = np.array([[0.9, 0.9, 0.1], [0.8, 0.6, 0.2], [0.7, 0.1, 0.3]])
    found = label_draws.figures(labels, scores, 0.5)
    whole = found(np.ones((1, 3)))
    # The third never has any, and counts as 0.
    assert whole["map_macro"] == pytest.approx(2 / 3)
    part = found(np.array([[0.0, 1.0, 2.0]]))
    assert part["map_macro"] == pytest.approx(1 / 2)
    assert part["recall_macro"] == pytest.approx(1 / 2)


# Evaluations


def test_an_evaluation_has_the_intervals_of_its_figures(capsys):
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 8, 150)
    logits = generator.normal(size=(150, 8)) + 1.5 * np.eye(8)[labels]
    artifact = TableClassifier(logits, named(*"abcdefgh"))
    result = scored(artifact, colored_arrays(labels, "abcdefgh"))
    scores = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    right = scores[np.arange(150), labels]
    in_top = (scores > right[:, None]).sum(1) < 5
    per_image = {
        "top1": (scores.argmax(1) == labels).astype(float),
        "top5": in_top.astype(float),
        "cross_entropy": -np.log(right),
        "brier": np.square(scores - np.eye(8)[labels]).sum(1),
    }
    by_class = {"balanced_accuracy", "f1_macro"}
    assert set(result.intervals) == {*per_image, *by_class}
    for name in by_class:
        low, high = result.intervals[name]
        assert low < result.measured[name] < high
    for name, values in per_image.items():
        assert result.measured[name] == pytest.approx(values.mean(), rel=1e-12)
        expected = scipys(values)
        assert result.intervals[name] == pytest.approx(expected, rel=1e-9)
    assert result.bootstrap["draws"] == 1000 and result.bootstrap["seed"] == 0
    result.print()
    low, high = (f"{100 * x:.1f}" for x in result.intervals["top1"])
    printed = capsys.readouterr().out
    assert f"{result.top1:.2%} ({low}–{high})" in printed
    low, high = (f"{x:.4f}" for x in result.intervals["cross_entropy"])
    assert f"{result.cross_entropy:.4f} ({low}–{high})" in printed


def test_an_image_and_its_corruptions_are_drawn_together(
    c_of_two_classes,  # noqa: F811
    tmp_path,
):
    write_c(tmp_path, {})  # two of four images, the same ones in all parts
    result = scored(TWO, tmp_path, "c")
    # 300 independent images would give 0.44 to 0.56.
    assert result.intervals["top1"] == (0.0, 1.0)
    low, high = result.intervals["mce"]
    assert (low, high) == pytest.approx((0, 2 * result.mce))
    errors = {
        (name, severity): number / 100
        for number, (name, severity) in enumerate(
            (name, severity)
            for name in corruptions.ALEXNET_ERRORS
            for severity in corruptions.SEVERITIES
        )
    }
    both = corruptions.mce(np.array([[*errors.values()], [0.0] * 75]))
    assert both == pytest.approx([corruptions.summary(errors)[1], 0])


# Calibration


def test_brier_score_and_bins_are_scikit_learns():
    from sklearn.calibration import calibration_curve

    generator = np.random.default_rng(0)
    labels = generator.integers(0, 4, 300)
    logits = 2 * generator.normal(size=(300, 4)) + np.eye(4)[labels]
    result = scored(TableClassifier(logits), colored_arrays(labels, range(4)))
    scores = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    expected = metrics.brier_score_loss(labels, scores, scale_by_half=False)
    assert result.brier == pytest.approx(expected, rel=1e-12)
    accuracy, confidence = calibration_curve(
        scores.argmax(1) == labels, scores.max(1), n_bins=15
    )
    full = [x for x in result.reliability if x["count"]]
    assert [x["accuracy"] for x in full] == pytest.approx(accuracy)
    assert [x["confidence"] for x in full] == pytest.approx(confidence)
    assert sum(x["count"] for x in full) == 300
    weights = [x["count"] / 300 for x in full]
    expected = np.abs(accuracy - confidence) @ weights
    assert result.ece == pytest.approx(expected, rel=1e-12)
    assert result.measured["ece"] == result.ece


def test_calibration_error_by_hand():
    # At 0.6 three of four are right, at 0.9 one of two: |0.75 - 0.6| and
    # |0.5 - 0.9|. An edge belongs to the bin below it, and 0 to the first.
    confidences = np.array([0.6, 0.6, 0.6, 0.6, 0.9, 0.9, 0.0])
    hits = np.array([1, 1, 1, 0, 1, 0, 0], bool)
    bins = calibration.reliability(confidences, hits)
    counts = {x["to"]: x["count"] for x in bins if x["count"]}
    assert counts == pytest.approx({1 / 15: 1, 0.6: 4, 14 / 15: 2})
    expected = (4 * 0.15 + 2 * 0.4) / 7
    assert calibration.expected_error(bins) == pytest.approx(expected)


@pytest.mark.parametrize(
    "known", [{"outputs": ["scores"]}, {"activation": "sigmoid"}]
)
def test_scores_that_do_not_add_up_have_no_calibration(known):
    artifact = TableClassifier(one_hot([1, 1], 2), **known)
    result = scored(artifact, colored_arrays([0, 1]))
    assert (result.ece, result.brier, result.reliability) == (None,) * 3
    names = {"top1", "balanced_accuracy", "f1_macro"}
    assert set(result.intervals) == names
