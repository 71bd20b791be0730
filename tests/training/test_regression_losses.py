"""Losses of numbers, against PyTorch's, and what rules them out."""

import keras
import numpy as np
import pytest
import torch
from gradients import assert_same
from gradients import of_torch
from gradients import value_and_gradient

from keras_convnext import recipes
from keras_convnext.data import TargetArrays
from keras_convnext.data import TrainLoader
from keras_convnext.training.recipes.losses import OBJECTIVES

LOSSES = {"huber": torch.nn.HuberLoss(), "squared": torch.nn.MSELoss()}
STD = np.array([0.01, 13.0, 1.0], "float32")


@pytest.mark.parametrize("name", LOSSES)
def test_losses_are_pytorchs_of_standardized_errors(name):
    generator = np.random.default_rng(1)
    true = generator.normal(0, 1, (6, 3)).astype("float32")
    predicted = generator.normal(0, 2, (6, 3)).astype("float32")
    predicted[0] = true[0]
    predicted[1] = true[1] + 1
    loss = OBJECTIVES[name].loss(std=[1.0] * 3)
    expected = of_torch(LOSSES[name], true, predicted)
    assert_same(value_and_gradient(loss, true, predicted), expected)
    value, gradient = expected
    loss = OBJECTIVES[name].loss(std=STD.tolist())
    found = value_and_gradient(loss, true * STD, predicted * STD)
    assert_same((found[0], found[1] * STD), (value, gradient))
    again = keras.losses.deserialize(keras.losses.serialize(loss))
    assert again.get_config() == loss.get_config()


def test_deltas_are_in_deviations():
    true, predicted = np.zeros((1, 1)), np.array([[30.0]])
    loss = recipes.StandardizedLoss([10.0], delta=2.0)
    of_delta = torch.nn.HuberLoss(delta=2.0)
    expected = of_delta(torch.tensor([3.0]), torch.tensor([0.0]))
    assert float(loss(true, predicted)) == pytest.approx(expected.item())
    assert float(loss(true[:, 0], predicted)) == float(loss(true, predicted))
    for options in ({"std": [0.0]}, {"std": [1.0], "delta": 0.0}):
        with pytest.raises(ValueError, match="positive number"):
            recipes.StandardizedLoss(**options)


@pytest.mark.once
@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"label_smoothing": 0.1}, "`label_smoothing` must be 0.*no classes"),
        ({"cutmix_alpha": 1.0}, "`cutmix_alpha` must be 0.*same part"),
        ({"cutmix_alpha": {"tiny": 0.0, "base": 1.0}}, "`cutmix_alpha`"),
    ],
)
def test_numbers_are_neither_smoothed_nor_cut(fields, message):
    with pytest.raises(ValueError, match=message):
        recipes.regression.replace(**fields)
    with pytest.raises(ValueError, match="label_smoothing=0.0"):
        recipes.small_data.replace(loss="squared")


@pytest.mark.once
@pytest.mark.parametrize("count", [1, 2])
def test_mixup_mixes_numbers_as_images(count):
    recipe = recipes.regression.replace(
        batch_size=4, image_size=32, mixup_alpha=1.0
    )
    pipeline = recipe.train_pipeline(count, seed=1)
    rows = np.array([[1.5, 90], [0, 7], [-20, 8], [4, 0.5]])[:, :count]
    images = np.zeros((4, 32, 32, 3), "uint8")
    images[:] = np.array([0, 60, 120, 240])[:, None, None, None]
    mixed, labels = pipeline.batch((images, rows), (0, 1))
    weight = 1 - mixed[0].mean() / 240
    expected = rows * weight + rows[::-1] * (1 - weight)
    np.testing.assert_allclose(labels, expected, rtol=1e-5, atol=1e-4)
    assert 0 < weight < 1


@pytest.mark.every_backend
def test_batches_of_numbers_come_from_every_loader():
    rows = np.array([[1.5, 90], [0, 7], [-20, 8], [4, 0.5]])
    source = TargetArrays(np.zeros((4, 32, 32, 3), "uint8"), rows)
    recipe = recipes.regression.replace(batch_size=4, image_size=32)
    pipeline = recipe.train_pipeline(2)
    _, labels = next(iter(TrainLoader(source, pipeline, 1).batches()))
    assert sorted(np.asarray(labels).tolist()) == sorted(rows.tolist())


def linear(outputs, targets=None):
    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.layers.Dense(outputs)(inputs))
    return model if targets is None else recipes.with_units(model, targets)


RECIPE = recipes.regression.replace(drop_path_rate=0.0, layer_decay=1.0)


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (np.zeros((8, 2)), r"shape \(8, 2\)"),
        (np.array([1, np.nan] * 4), "NaN or infinity"),
        (np.array([["1"]] * 8), "targets with"),
    ],
)
def test_fit_refuses_targets_that_are_no_numbers(targets, message):
    model = linear(1, [1.0, 2.0])
    RECIPE.compile(model, steps_per_epoch=1)
    with pytest.raises(ValueError, match=message):
        model.fit(np.zeros((8, 4)), targets, verbose=0)


def test_fit_learns_in_units():
    keras.utils.set_random_seed(0)
    generator = np.random.default_rng(0)
    inputs = generator.normal(size=(256, 4)).astype("float32")
    targets = 2000 + inputs @ [30, -20, 10, 5]
    model = linear(1, targets)
    recipe = RECIPE.replace(learning_rate=0.1, epochs=16, warmup_epochs=1)
    recipe.compile(model, steps_per_epoch=8)
    history = model.fit(inputs, targets, epochs=16, batch_size=32, verbose=0)
    assert history.history["mae"][0] > 10 > 3 > history.history["mae"][-1]
    assert {"loss", "mae", "rmse"} == set(history.history)


def test_models_and_recipes_must_be_of_one_kind():
    with pytest.raises(ValueError, match="no units.*with_units"):
        RECIPE.compile(linear(1), steps_per_epoch=1)
    softmax = RECIPE.replace(loss="softmax")
    with pytest.raises(ValueError, match="loss='softmax'.*recipes.regression"):
        softmax.compile(linear(2, [[1, 2], [3, 4]]), steps_per_epoch=1)


def test_units_are_those_of_the_targets():
    targets = np.array([[0.1, 5, 2000], [0.1, 9, 2010], [0.1, 1, 1990]])
    model = linear(3, targets)
    units = model.layers[-1]
    np.testing.assert_allclose(units.mean, targets.mean(0), rtol=1e-12, atol=0)
    expected = [1.0, *targets.std(0)[1:]]
    np.testing.assert_allclose(units.std, expected, rtol=1e-12, atol=0)
    assert recipes.with_units(model, targets * 7) is model
    for wrong, message in (
        (targets[:, :2], r"3. Received: targets of shape \(3, 2\)"),
        (np.full((2, 3), np.nan), "finite"),
        (np.zeros((0, 3)), r"shape \(0, 3\)"),
        (targets + [0, 0, 1e9], "column 2. Subtract a constant"),
    ):
        with pytest.raises(ValueError, match=message):
            linear(3, wrong)
