"""Losses for many labels in each image, against timm's and torchvision's."""

import keras
import numpy as np
import pytest
import torch
from gradients import assert_same
from gradients import of_torch
from gradients import value_and_gradient
from peers import import_timm
from torch.nn import functional as F

from keras_convnext import recipes
from keras_convnext.data import Arrays
from keras_convnext.data import TrainLoader
from keras_convnext.training.recipes.losses import OBJECTIVES


def sample(kind):
    generator = np.random.default_rng(3)
    labels = (generator.random((5, 7)) < 0.3).astype("float32")
    logits = generator.normal(0, 3, (5, 7)).astype("float32")
    if kind == "none":
        labels[:] = 0
    if kind == "mixed":
        labels = 0.7 * labels + 0.3 * labels[::-1]
    if kind == "sure":  # where probabilities are 0 and 1 to the last digit
        logits *= 15
    return labels, logits


@pytest.mark.parametrize("kind", ["labels", "none", "mixed", "sure"])
@pytest.mark.parametrize("figures", [(4, 1, 0.05), (2, 0, 0.0)])
def test_the_asymmetric_loss_is_timms(kind, figures):
    import_timm()
    from timm.loss import AsymmetricLossMultiLabel

    labels, logits = sample(kind)
    # By default it adds up the classes.
    theirs = AsymmetricLossMultiLabel(*figures, smoothing=0.1, reduction="mean")
    expected = of_torch(theirs, labels, logits)
    loss = recipes.AsymmetricLoss(*figures, label_smoothing=0.1)
    assert_same(value_and_gradient(loss, labels, logits), expected)


@pytest.mark.parametrize("kind", ["labels", "mixed", "sure"])
def test_binary_cross_entropy_is_timms(kind):
    import_timm()
    from timm.loss import BinaryCrossEntropy

    labels, logits = sample(kind)
    expected = of_torch(BinaryCrossEntropy(smoothing=0.0), labels, logits)
    loss = OBJECTIVES["binary"].loss(label_smoothing=0.0)
    assert_same(value_and_gradient(loss, labels, logits), expected)
    # timm leaves smoothing to who makes the rows.
    smooth = 0.8 * labels + np.float32(0.1)
    expected = of_torch(BinaryCrossEntropy(smoothing=0.0), smooth, logits)
    loss = OBJECTIVES["binary"].loss(label_smoothing=0.2)
    assert_same(value_and_gradient(loss, labels, logits), expected)


def focal(logits, labels):
    """Equation 5 of arXiv:1708.02002, with its gamma and alpha."""
    p = torch.sigmoid(logits)
    right = p * labels + (1 - p) * (1 - labels)
    alpha = 0.25 * labels + 0.75 * (1 - labels)
    cross = F.binary_cross_entropy_with_logits(logits, labels, reduction="none")
    return (alpha * (1 - right) ** 2 * cross).mean()


def test_the_focal_loss_is_the_papers():
    labels, logits = sample("labels")
    loss = OBJECTIVES["focal"].loss(label_smoothing=0.0)
    found = value_and_gradient(loss, labels, logits)
    expected = of_torch(focal, labels, logits)
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-4, atol=1e-6)


def test_the_asymmetric_loss_comes_back_from_its_config():
    loss = recipes.AsymmetricLoss(3, 2, 0.1, label_smoothing=0.2)
    again = keras.losses.deserialize(keras.losses.serialize(loss))
    labels, logits = sample("labels")
    assert float(again(labels, logits)) == float(loss(labels, logits))
    assert again.get_config() == loss.get_config()


@pytest.mark.once
def test_an_unknown_loss_is_refused():
    with pytest.raises(ValueError, match="softmax.*asymmetric.*hinge"):
        recipes.small_data.replace(loss="hinge")


@pytest.mark.once
@pytest.mark.parametrize("field", ["mixup_alpha", "cutmix_alpha"])
def test_mixing_mixes_rows_of_labels_and_leaves_them_unsmoothed(field):
    recipe = recipes.multi_label.replace(
        batch_size=4, image_size=32, label_smoothing=0.1, **{field: 1.0}
    )
    pipeline = recipe.train_pipeline(3, seed=1)
    rows = np.array([[1, 1, 0], [0, 0, 0], [0, 1, 1], [1, 0, 0]], "uint8")
    images = np.zeros((4, 32, 32, 3), "uint8")
    images[:] = np.array([0, 60, 120, 240])[:, None, None, None]
    mixed, labels = pipeline.batch((images, rows), (0, 1))
    # The part of the first image that is still its own tells the weight.
    weight = 1 - mixed[0].mean() / 240
    expected = rows * weight + rows[::-1] * (1 - weight)
    np.testing.assert_allclose(labels, expected, rtol=0, atol=1e-5)
    assert 0 < weight < 1


@pytest.mark.every_backend
def test_batches_of_many_labels_come_from_every_loader():
    rows = np.array([[1, 1, 0], [0, 0, 0], [0, 1, 1], [1, 0, 0]], "uint8")
    source = Arrays(np.zeros((4, 32, 32, 3), "uint8"), rows)
    recipe = recipes.multi_label.replace(batch_size=4, image_size=32)
    pipeline = recipe.train_pipeline(3)
    images, labels = next(iter(TrainLoader(source, pipeline, 1).batches()))
    found = np.asarray(labels).tolist()
    assert sorted(found) == sorted(rows.tolist())
    assert images.shape == (4, 32, 32, 3)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.array([0, 2] * 4), r"shape \(8,\).*to_categorical"),
        (np.full((8, 3), 2.0), "numbers of 2.0 to 2.0.*Write 1 where"),
    ],
)
def test_fit_refuses_labels_that_are_no_rows(labels, message):
    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.layers.Dense(3)(inputs))
    recipe = recipes.multi_label.replace(drop_path_rate=0.0, layer_decay=1.0)
    recipe.compile(model, steps_per_epoch=1)
    with pytest.raises(ValueError, match=message):
        model.fit(np.zeros((8, 4)), labels, verbose=0)
