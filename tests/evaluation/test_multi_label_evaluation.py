"""Models of many labels on data sets, beside scikit-learn's figures."""

import json

import keras
import numpy as np
import pytest
from conftest import LONG_WHERE_COMPILED
from conftest import long_where_compiled
from conftest import predict
from sklearn import metrics
from sklearn.calibration import calibration_curve

import keras_convnext
from keras_convnext import ConvNeXt
from keras_convnext import recipes
from keras_convnext.data import Arrays
from keras_convnext.evaluation import MultiLabelEvaluation

NAMES = ("cat", "dog", "bird")


def pictures(count=9, seed=0, names=NAMES):
    generator = np.random.default_rng(seed)
    return Arrays(
        generator.integers(0, 256, (count, 8, 8, 3), dtype="uint8"),
        generator.integers(0, 2, (count, len(names)), dtype="uint8"),
        names,
    )


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(3)
    model = ConvNeXt(
        (1,),
        (8,),
        patch_size=2,
        input_shape=(8, 8, 3),
        classes=list(NAMES),
        classifier_activation="sigmoid",
        head_init_scale=20.0,
    )
    return recipes.with_sigmoid(model, [0.3, 0.5, 0.8])


def scores_of(model, source):
    return predict(model, source.images).astype("float64")


def test_figures_are_scikit_learns(model):
    source = pictures()
    found = keras_convnext.evaluate(model, source, batch_size=4, verbose=False)
    assert isinstance(found, MultiLabelEvaluation)
    scores = scores_of(model, source)
    expected = {
        f"map_{x}": metrics.average_precision_score(
            source.labels, scores, average=x
        )
        for x in ("macro", "micro")
    }
    for x in ("macro", "micro"):
        expected[f"f1_{x}"] = metrics.f1_score(
            source.labels, scores >= 0.5, average=x, zero_division=0
        )
    part = {name: found.figures[name] for name in expected}
    assert part == pytest.approx(expected, rel=0, abs=1e-9)
    own = scores >= np.array([0.3, 0.5, 0.8])
    value = metrics.accuracy_score(source.labels, own)
    assert found.at_thresholds["subset_accuracy"] == pytest.approx(value)
    assert [x["class"] for x in found.classes] == list(NAMES)
    assert [x["threshold"] for x in found.classes] == [0.3, 0.5, 0.8]
    recall = metrics.recall_score(
        source.labels, own, average=None, zero_division=0
    )
    assert [x["recall"] for x in found.classes] == pytest.approx(recall)
    assert found.images == 9 and found.matched_by == "names"
    brier = metrics.brier_score_loss(source.labels.ravel(), scores.ravel())
    assert found.brier == pytest.approx(brier, rel=0, abs=1e-6)
    part, score = calibration_curve(
        source.labels.ravel(), scores.ravel(), n_bins=15
    )
    full = [x for x in found.reliability if x["count"]]
    assert [x["accuracy"] for x in full] == pytest.approx(part)
    ece = sum(x["count"] * abs(a - b) for x, a, b in zip(full, part, score))
    assert found.ece == pytest.approx(ece / 27, rel=0, abs=1e-6)
    assert set(found.intervals) == {*found.figures, "brier"}
    assert set(found.intervals_at_thresholds) == set(found.at_thresholds)
    low, high = found.intervals["map_micro"]
    assert low < found.figures["map_micro"] < high
    assert json.loads(json.dumps(found.as_dict())) == found.as_dict()


@long_where_compiled
def test_views_are_scored_by_the_mean_of_sigmoids(model):
    source = pictures()
    turned = Arrays(source.images[:, :, ::-1], source.labels, NAMES)
    scores = (scores_of(model, source) + scores_of(model, turned)) / 2
    brier = metrics.brier_score_loss(source.labels.ravel(), scores.ravel())
    for logits in (False, True):
        scored = model
        if logits:
            scored = keras_convnext.models.sigmoid.without_sigmoid(model)
        found = keras_convnext.evaluate(
            scored, source, verbose=False, tta="flip"
        )
        assert found.brier == pytest.approx(brier, rel=0, abs=1e-6)
        assert found.tta == "flip"


def test_classes_are_found_by_name_in_any_order(model):
    source = pictures()
    turned = Arrays(source.images, source.labels[:, ::-1], NAMES[::-1])
    one = keras_convnext.evaluate(model, source, verbose=False)
    other = keras_convnext.evaluate(model, turned, verbose=False)
    assert other.figures == pytest.approx(one.figures, rel=0, abs=1e-12)
    assert other.at_thresholds == pytest.approx(one.at_thresholds, abs=1e-12)
    assert other.classes == one.classes[::-1]


def test_logits_are_scored_by_the_sigmoid(model):
    logits = keras_convnext.models.sigmoid.without_sigmoid(model)
    source = pictures()
    one = keras_convnext.evaluate(model, source, verbose=False)
    source.groups = np.arange(9) // 3
    other = keras_convnext.evaluate(logits, source, verbose=False)
    assert other.bootstrap["method"].endswith("over groups")
    assert other.intervals != one.intervals
    assert other.figures == pytest.approx(one.figures, rel=0, abs=1e-12)
    assert other.at_thresholds is None


@pytest.mark.parametrize("kind", ["one image", "class without images"])
def test_little_data_is_told(kind, model, capsys):
    source = pictures(1 if kind == "one image" else 9)
    source.labels[:, 2] = 0
    found = keras_convnext.evaluate(model, source, verbose=False)
    assert found.classes[2]["average_precision"] is None
    found.print()
    out = capsys.readouterr().out
    assert "classes have no images here" in out and "mAP (macro)" in out


def test_what_does_not_apply_says_so(model):
    source = pictures()
    one_each = ConvNeXt(
        (1,), (8,), patch_size=2, input_shape=(8, 8, 3), classes=list(NAMES)
    )
    with pytest.raises(ValueError, match="compete by a softmax"):
        keras_convnext.evaluate(one_each, source, verbose=False)
    with pytest.raises(ValueError, match="one class for each image.*several"):
        keras_convnext.evaluate(model, source, "imagenet", verbose=False)


@pytest.mark.parametrize(
    "file",
    [
        pytest.param("tags.onnx", marks=LONG_WHERE_COMPILED),
        pytest.param("tags.tflite", marks=pytest.mark.long),
        pytest.param("saved_model", marks=pytest.mark.long),
        pytest.param("tags.xml", marks=pytest.mark.long),
        pytest.param("tags.pt2", marks=pytest.mark.long),
    ],
)
def test_exported_files_score_by_the_sigmoid(file, model, tmp_path):
    kind = None if "." in file else file
    keras_convnext.export(model, tmp_path / file, kind)
    artifact = keras_convnext.open_artifact(tmp_path / file)
    metadata = artifact.metadata
    assert metadata["activation"] == "sigmoid"
    assert metadata["thresholds"] == [0.3, 0.5, 0.8]
    assert [name for _, name in metadata["classes"]] == list(NAMES)
    assert {"scores", "logits"} <= set(metadata["outputs"])
    source = pictures()
    np.testing.assert_allclose(
        artifact.predict(source.images),
        predict(model, source.images),
        rtol=1e-4,
        atol=1e-5,
    )
    one = keras_convnext.evaluate(model, source, verbose=False)
    other = keras_convnext.evaluate(artifact, source, verbose=False)
    assert other.figures == pytest.approx(one.figures, rel=0, abs=1e-9)
    assert other.at_thresholds == one.at_thresholds
