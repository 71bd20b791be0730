"""Scores that are means over views, beside means of a model's answers."""

import keras
import numpy as np
import pytest
from conftest import predict
from sklearn import metrics
from table_classifier import SIDE
from table_classifier import TableClassifier
from table_classifier import named
from test_evaluation import colored_arrays
from test_evaluation import linked
from test_evaluation import one_hot
from test_evaluation import published
from test_evaluation import scored
from test_evaluation import timm_info
from test_evaluation import validation  # noqa: F401

import keras_convnext
from keras_convnext.data import Arrays
from keras_convnext.evaluation.views import mean_logits
from keras_convnext.facts import labels as label_functions
from keras_convnext.images import views

pytestmark = pytest.mark.once


@pytest.mark.parametrize("name", ["softmax", "sigmoid"])
def test_scores_are_means_of_probabilities(name):
    logits = 3 * np.random.default_rng(0).normal(size=(5, 20, 4))
    to_scores = getattr(label_functions, name)
    found = to_scores(mean_logits(logits, name))
    expected = to_scores(logits).mean(axis=0)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=0)
    large = np.array([[[2000.0, -2000.0]], [[1000.0, -2000.0]]])
    assert np.isfinite(mean_logits(large, name)).all()


def sided(table, **metadata):
    """A model that answers by the color at the left."""
    return TableClassifier(table, named("ant", "bee"), **metadata)


def halves():
    """Two images, left of color 0 and 1, right of 2 and 3."""
    images = np.zeros((2, SIDE, SIDE, 3), "uint8")
    images[:, :, : SIDE // 2, 0] = np.array([0, 1])[:, None, None]
    images[:, :, SIDE // 2 :, 0] = np.array([2, 3])[:, None, None]
    return Arrays(images, [0, 1], ("ant", "bee"))


@pytest.mark.parametrize("kind", ["logits", "scores"])
def test_flips_by_hand(kind):
    scores = np.array([[0.8, 0.2], [0.7, 0.3], [0.4, 0.6], [0.1, 0.9]])
    table = np.log(scores) if kind == "logits" else scores
    artifact = sided(table, outputs=[kind])
    plain = scored(artifact, halves())
    assert (plain.top1, plain.tta) == (0.5, None)
    result = scored(artifact, halves(), tta="flip")
    # (0.8 + 0.4) / 2 and (0.3 + 0.9) / 2 of the right classes.
    assert (result.top1, result.tta) == (1, "flip")
    if kind == "logits":
        assert result.cross_entropy == pytest.approx(-np.log(0.6), rel=1e-12)


def test_what_is_no_probability_has_no_mean():
    artifact = sided(np.eye(2), activation="relu")
    with pytest.raises(ValueError, match="mean over views.*made by a relu"):
        scored(artifact, halves(), tta="flip")


def test_corners_are_taken_of_images_that_are_resized():
    artifact = TableClassifier(one_hot([0, 1], 2), named("a", "b"))
    with pytest.raises(ValueError, match="that are resized.*'image 0'"):
        scored(artifact, colored_arrays([0, 1], "ab"), tta="five-crop")
    images = np.zeros((2, 2 * SIDE, 3 * SIDE, 3), "uint8")
    images[1, ..., 0] = 1
    result = scored(artifact, Arrays(images, [0, 1], "ab"), tta="five-crop")
    assert result.top1 == 1
    assert len(np.concatenate(artifact.seen[-5:])) == 5 * 32


def test_rules_of_one_look_refuse_views(validation, tmp_path, capsys):  # noqa: F811
    wnids = timm_info("imagenet_a_synsets.txt")
    folder = linked(tmp_path / "a", {x: x for x in wnids[:3]}, validation)
    artifact = TableClassifier(np.eye(1000), None)
    for rule in ("a", "r", "c"):
        with pytest.raises(ValueError, match="single look.*Leave `tta` out"):
            scored(artifact, folder, rule, tta="flip")
    # Published figures are of one view.
    assert published(validation, "imagenet", tta=None) is not None
    assert published(validation, "imagenet", tta="flip") is None


def test_views_are_told(capsys):
    artifact = sided(one_hot([0, 1, 0, 1], 2))
    scored(artifact, halves(), tta="flip").print()
    assert "means over 2 views (flip)" in capsys.readouterr().out


@pytest.mark.every_backend
def test_a_model_is_scored_by_the_mean_over_views():
    keras.utils.set_random_seed(0)
    model = keras_convnext.ConvNeXt(
        *((1,), (8,)),
        patch_size=4,
        input_shape=(16, 16, 3),
        classes=3,
        head_init_scale=100,
    )
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (12, 20, 24, 3), dtype="uint8")
    source = Arrays(images, np.arange(12) % 3, "abc")
    model.class_names = "abc"
    for tta, count in views.COUNTS.items():
        batch = np.array(
            [views.of_image(tta, model.preprocessing, x) for x in images]
        )
        flat = predict(model, batch.reshape(-1, 16, 16, 3))
        scores = flat.reshape(12, count, 3).astype("float64").mean(axis=1)
        scores /= scores.sum(axis=1, keepdims=True)
        result = scored(model, source, batch_size=5, tta=tta)
        assert result.cross_entropy == pytest.approx(
            metrics.log_loss(source.labels, scores), rel=1e-5
        )
        assert result.top1 == metrics.accuracy_score(
            source.labels, scores.argmax(1)
        )
    with pytest.raises(ValueError, match="Five crops"):
        scored(model, source, tta="five-crop", image_size=384)
