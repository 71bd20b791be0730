"""Models of regression on data sets, beside scikit-learn's figures."""

import json

import keras
import numpy as np
import pytest
from conftest import LONG_WHERE_COMPILED
from conftest import predict
from scipy import stats
from sklearn import metrics

import keras_convnext
from keras_convnext import ConvNeXt
from keras_convnext import recipes
from keras_convnext import visualize
from keras_convnext.artifacts import metadata
from keras_convnext.artifacts import verification
from keras_convnext.data import Arrays
from keras_convnext.data import TargetArrays
from keras_convnext.evaluation import RegressionEvaluation
from keras_convnext.evaluation import bootstrap
from keras_convnext.evaluation import number_draws
from keras_convnext.training import target_metrics

NAMES = ("year", "dose")
OF_TRAINING = np.array([[1990, 0.1], [2000, 0.4], [2013, 0.2]])


def pictures(count=9, seed=0):
    generator = np.random.default_rng(seed)
    images = generator.integers(0, 256, (count, 8, 8, 3), dtype="uint8")
    targets = generator.normal(OF_TRAINING[0], [5, 0.1], (count, 2))
    return TargetArrays(images, targets, NAMES)


def classifier(classes, **options):
    keras.utils.set_random_seed(3)
    return ConvNeXt(
        (1,),
        (8,),
        patch_size=2,
        input_shape=(8, 8, 3),
        classes=classes,
        head_init_scale=20.0,
        **options,
    )


@pytest.fixture(scope="module")
def model():
    linear = classifier([*NAMES], classifier_activation=None)
    return recipes.with_units(linear, OF_TRAINING)


def test_figures_are_scikit_learns_and_scipys(model):
    source = pictures()
    found = keras_convnext.evaluate(model, source, batch_size=4, verbose=False)
    assert isinstance(found, RegressionEvaluation)
    predicted = predict(model, source.images).astype("float64")
    np.testing.assert_allclose(found.predicted, predicted, rtol=1e-6, atol=1e-7)
    pair = source.labels, found.predicted
    np.testing.assert_array_equal(found.true, source.labels)
    for name, theirs in (
        ("mae", metrics.mean_absolute_error),
        ("rmse", metrics.root_mean_squared_error),
        ("r2", metrics.r2_score),
    ):
        assert found.figures[name] == pytest.approx(theirs(*pair), rel=1e-12)
        of_each = theirs(*pair, multioutput="raw_values")
        rows = [row[name] for row in found.targets]
        assert rows == pytest.approx(of_each, rel=1e-12)
    ranks = [stats.spearmanr(*x).statistic for x in zip(*(y.T for y in pair))]
    rows = [row["spearman"] for row in found.targets]
    assert rows == pytest.approx(ranks, rel=1e-12)
    assert [row["target"] for row in found.targets] == [*NAMES]
    assert found.matched_by == "names" and found.images == 9
    told = found.as_dict()
    assert json.loads(json.dumps(told)) == told and "true" not in told
    for name, (low, high) in found.intervals.items():
        assert low <= found.figures[name] <= high


def test_targets_are_found_by_name_in_any_order(model):
    source = pictures()
    turned = TargetArrays(source.images, source.labels[:, ::-1], NAMES[::-1])
    one = keras_convnext.evaluate(model, source, verbose=False)
    other = keras_convnext.evaluate(model, turned, verbose=False)
    assert other.targets == one.targets[::-1]
    part = TargetArrays(source.images, source.labels[:, 1], NAMES[1:])
    part = keras_convnext.evaluate(model, part, verbose=False)
    assert part.targets == one.targets[1:]
    assert part.figures == {name: one.targets[1][name] for name in part.figures}


def test_one_image_and_views_are_measured(model, capsys):
    found = keras_convnext.evaluate(model, pictures(1), verbose=False)
    assert found.figures["r2"] == found.figures["spearman"] == 0
    assert found.intervals["r2"] is None
    found.print()
    out = capsys.readouterr().out
    assert "RMSE" in out and "dose" in out and "1 images of 2 targets" in out
    source = pictures(3)
    both = keras_convnext.evaluate(model, source, verbose=False, tta="flip")
    flipped = TargetArrays(source.images[:, :, ::-1], source.labels, NAMES)
    views = [
        keras_convnext.evaluate(model, x, verbose=False).predicted
        for x in (source, flipped)
    ]
    expected = np.mean(views, axis=0)
    np.testing.assert_allclose(both.predicted, expected, rtol=1e-6, atol=1e-7)


def test_what_does_not_apply_says_so(model):
    numbers, labels = pictures(), np.arange(9) % 2
    classes = Arrays(numbers.images, labels, NAMES)
    with pytest.raises(ValueError, match="tells classes.*recipes.regression"):
        keras_convnext.evaluate(classifier(2), numbers, verbose=False)
    for source in (classes, Arrays(classes.images, np.eye(2)[labels])):
        with pytest.raises(ValueError, match="predicts numbers takes images"):
            keras_convnext.evaluate(model, source, verbose=False)
    with pytest.raises(ValueError, match="ImageNet.*rule='imagenet'.*numbers"):
        keras_convnext.evaluate(model, classes, "imagenet", verbose=False)
    others = TargetArrays(numbers.images, numbers.labels, ["year", "mass"])
    with pytest.raises(ValueError, match="'mass'"):
        keras_convnext.evaluate(model, others, verbose=False)


@pytest.mark.once
@pytest.mark.parametrize("kind", ["random", "ties"])
def test_intervals_are_those_of_single_draws(kind, monkeypatch):
    monkeypatch.setattr(bootstrap, "DRAWS", 100)
    source = pictures(30)
    true = source.labels
    predicted = true + np.random.default_rng(1).normal(0, [4, 0.1], true.shape)
    if kind == "ties":
        true, predicted = np.round(true, 1), np.round(predicted, 1)
    found = bootstrap.intervals(30, number_draws.figures(true, predicted))
    expected = bootstrap.intervals(
        30, bootstrap.of_each_draw(target_metrics.measured, true, predicted)
    )
    assert found.keys() == expected.keys()
    for name, ends in expected.items():
        assert found[name] == pytest.approx(ends, rel=1e-9, abs=0), name


@pytest.mark.once
def test_points_are_drawn_where_they_are(tmp_path):
    true, predicted = pictures().labels, pictures(seed=1).labels
    figure = visualize.predicted_against_true(true, predicted, NAMES)
    for axis, name, x, y in zip(figure.axes, NAMES, true.T, predicted.T):
        (points,) = axis.collections
        drawn = points.get_offsets()
        np.testing.assert_array_equal(drawn, np.stack([x, y], axis=1))
        assert axis.get_title() == name and axis.get_xlabel() == "true"
    path = visualize.written_figure(figure, tmp_path / "points.png")
    assert path.stat().st_size > 1000
    for other, names in (([1.0], None), ([], None), ([1.0, 2.0], NAMES)):
        with pytest.raises(ValueError, match="Received"):
            visualize.predicted_against_true([1.0, 2.0], other, names)


@pytest.mark.parametrize(
    "file",
    [
        pytest.param("numbers.onnx", marks=LONG_WHERE_COMPILED),
        pytest.param("numbers.tflite", marks=pytest.mark.long),
        pytest.param("saved_model", marks=pytest.mark.long),
        pytest.param("numbers.xml", marks=pytest.mark.long),
        pytest.param("numbers.pt2", marks=pytest.mark.long),
    ],
)
def test_exported_files_predict_in_units(file, model, tmp_path):
    kind = None if "." in file else file
    report = keras_convnext.export(model, tmp_path / file, kind)
    assert 0 <= report.difference <= report.bound
    artifact = keras_convnext.open_artifact(tmp_path / file)
    units = artifact.metadata["units"]
    assert units["mean"] == pytest.approx(OF_TRAINING.mean(axis=0), rel=1e-12)
    assert units["std"] == pytest.approx(OF_TRAINING.std(axis=0), rel=1e-12)
    assert [name for _, name in artifact.metadata["classes"]] == [*NAMES]
    assert artifact.metadata["outputs"] == ["values"]
    source = pictures()
    expected = predict(model, source.images)
    found = artifact.predict(source.images)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    one = keras_convnext.evaluate(model, source, verbose=False)
    other = keras_convnext.evaluate(artifact, source, verbose=False)
    assert other.figures == pytest.approx(one.figures, rel=1e-3)


@pytest.mark.long
@pytest.mark.parametrize("file", ["small.tflite", "small.onnx"])
def test_int8_is_measured_in_deviations(file, tmp_path):
    linear = classifier(["age"], classifier_activation=None)
    model = recipes.with_units(linear, [20, 40, 60])
    images = pictures(40).images
    options = {
        "quantization": "int8",
        "representative_data": images,
        "verification_data": images,
    }
    report = keras_convnext.export(model, tmp_path / file, **options)
    assert 0.95 < report.similarity < 1 and report.agreement is None
    if file == "small.tflite":
        # 256 levels from 0 on are 8 years each.
        model = recipes.with_units(linear, [1990, 2000, 2013])
        with pytest.raises(ValueError, match="outputs are alike"):
            keras_convnext.export(model, tmp_path / "years.tflite", **options)


REPORT = verification.Report("path", "onnx", None, 0)


@pytest.mark.once
@pytest.mark.parametrize(
    ("units", "error", "is_right"),
    [
        ({"mean": [0.0], "std": [1e-6]}, 1e-8, False),
        ({"mean": [0.0], "std": [1e-6]}, 1e-11, True),
        ({"mean": [2000.0], "std": [5.0]}, 0.1, False),
        ({"mean": [2e5], "std": [5.0]}, 1 / 64, True),
    ],
)
def test_differences_are_allowed_by_the_deviation(units, error, is_right):
    expected = np.array(units["mean"]) + np.array([[-1], [1]]) * units["std"]
    outputs = [{"values": expected + error}]
    report = verification.compared(
        REPORT, [{"values": expected}], outputs, units
    )
    assert (report.problem == "") == is_right, report


@pytest.mark.once
@pytest.mark.parametrize(
    "units",
    [
        {"mean": [1.0]},
        {"mean": [1.0], "std": [0.0]},
        {"mean": [float("nan")], "std": [1.0]},
        {"mean": [1.0, 2.0], "std": [1.0]},
        {"mean": 1.0, "std": 1.0},
        [],
    ],
)
def test_damaged_units_are_refused(units):
    assert not metadata.LATER["units"](units)
    assert metadata.LATER["units"]({"mean": [1.0], "std": [2.0]})
