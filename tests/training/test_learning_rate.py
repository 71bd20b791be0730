"""The range test suggests rates that train, and leaves the model alone."""

import dataclasses
import json
import math

import keras
import numpy as np
import pytest
from conftest import long_where_compiled
from conftest import random_images
from runs import RECIPE
from runs import SIZE
from runs import new_model

from keras_convnext import ConvNeXt
from keras_convnext import training
from keras_convnext.cli.training_tasks import TASKS
from keras_convnext.data import Arrays
from keras_convnext.data import TargetArrays
from keras_convnext.training import learning_rate
from keras_convnext.training.learning_rate import suggested

STEPS = 100
RATES = np.geomspace(1e-7, 1, STEPS)


def until_it_explodes(losses):
    """What the range test makes of the losses of its steps."""
    pairs = zip(RATES.tolist(), losses)
    return learning_rate._until_it_explodes(pairs, STEPS, lambda: None)


def descent(curvatures, rates):
    """Losses of gradient descent on a quadratic, rate after rate.

    It converges below 2/L of the greatest curvature L, best near 1/L.
    """
    curvatures = np.array(curvatures)
    place = np.ones(len(curvatures))
    for rate in rates:
        yield float(0.5 * (curvatures * place**2).sum())
        with np.errstate(over="ignore"):
            place = place - rate * curvatures * place


@pytest.mark.once
@pytest.mark.parametrize("steepest", [10.0, 100.0, 1000.0])
def test_a_quadratic_gets_a_rate_of_its_decade(steepest):
    rates, _, smoothed = until_it_explodes(
        descent([steepest, steepest / 3], RATES)
    )
    found = suggested(rates, smoothed, STEPS)
    assert 0.2 / steepest < found < 2 / steepest


@pytest.mark.once
def test_the_test_ends_when_the_loss_explodes():
    losses = list(descent([100.0], RATES))
    rates, _, smoothed = until_it_explodes(losses)
    assert 60 < len(rates) < STEPS
    assert smoothed[-1] > 4 * min(smoothed)
    assert all(x <= 4 * min(smoothed) for x in smoothed[:-1])
    # The first as it is, and later ones as fastai's `AvgSmoothLoss`.
    assert smoothed[0] == pytest.approx(losses[0], rel=1e-12, abs=0)
    weights = 0.98 ** np.arange(9, -1, -1)
    expected = np.average(losses[:10], weights=weights)
    assert smoothed[9] == pytest.approx(expected, rel=1e-12, abs=0)


@pytest.mark.once
@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_a_loss_that_is_no_number_ends_the_test(broken):
    rates, losses, _ = until_it_explodes([3.0, 2.0, broken, 1.0])
    assert (len(rates), losses) == (2, [3.0, 2.0])


@pytest.mark.once
def test_the_first_and_the_last_steps_suggest_nothing():
    losses = np.full(STEPS, 5.0)
    losses[[3, 9, 95, 99]] = 0.0
    losses[60], losses[70] = 3.0, 4.0
    found = suggested(RATES.tolist(), losses.tolist(), STEPS)
    assert found == pytest.approx(RATES[60] / 10, rel=1e-12, abs=0)


@pytest.mark.once
@pytest.mark.parametrize("losses", [np.arange(1.0, 101.0), np.ones(12)])
def test_losses_that_never_fall_suggest_nothing(losses):
    with pytest.raises(ValueError, match="that lower the loss. Received"):
        suggested(RATES[: len(losses)].tolist(), losses.tolist(), STEPS)


def two_classes(count=8):
    """Small images of two classes, brighter and darker."""
    images = random_images((count, SIZE, SIZE, 3)) // 2
    images[1::2] += 100
    return Arrays(images.astype("uint8"), np.arange(count) % 2, ("a", "b"))


def state_of(model):
    """All that a step could change, with random states."""
    variables = (*model.trainable_variables, *model.non_trainable_variables)
    return [np.array(keras.ops.convert_to_numpy(x)) for x in variables]


@pytest.fixture(scope="module")
def found():
    """A range test of few steps and all that has a state, with its model."""
    keras.utils.set_random_seed(0)
    model = new_model()
    before = state_of(model)
    recipe = RECIPE.replace(layer_decay=0.8, head_epochs=0)
    # Two micro-batches of 4 in a step: eight images are few.
    result = training.find_learning_rate(
        model, recipe, two_classes(), steps=30, lowest=1e-5, verbose=False
    )
    return model, before, result


def test_the_model_stays_as_it_is(found):
    model, before, _ = found
    for now, then in zip(state_of(model), before, strict=True):
        np.testing.assert_array_equal(now, then)
    assert getattr(model, "optimizer", None) is None
    assert model.class_names is None
    assert all(x.trainable for x in model.trainable_variables)


def test_rates_grow_to_the_highest_in_steps_of_the_optimizer(found):
    _, _, result = found
    expected = np.geomspace(1e-5, 1, 30)[: len(result.losses)]
    np.testing.assert_allclose(
        result.learning_rates, expected, rtol=1e-4, atol=0
    )
    assert len(result.losses) > 20
    assert result.batch_size == RECIPE.batch_size
    assert 1e-5 < result.suggestion < 1
    # The first loss is that of a model that knows nothing of two classes.
    assert result.losses[0] == pytest.approx(math.log(2), rel=0.1, abs=0)
    # All images of the epoch are in a step: with a rate the loss changes.
    assert np.ptp(result.losses) > 0.01


@long_where_compiled
def test_the_loss_is_that_of_its_step_alone(monkeypatch):
    """Which `train_on_batch` tells of a model whose metrics are new."""
    measured = []
    train_on_batch = keras.Model.train_on_batch

    def spied(self, images, labels, **options):
        logits = keras.ops.convert_to_numpy(self(images, training=False))
        measured.append(float(np.mean(_cross_entropy(logits, labels))))
        return train_on_batch(self, images, labels, **options)

    monkeypatch.setattr(keras.Model, "train_on_batch", spied)
    recipe = RECIPE.replace(
        **{"mixup_alpha": 0.0, "label_smoothing": 0.0, "head_epochs": 0},
        **{"gradient_accumulation_steps": 1, "drop_path_rate": 0.0},
    )
    model = ConvNeXt(
        (1,),
        (8,),
        input_shape=(SIZE, SIZE, 3),
        classes=2,
        classifier_activation=None,
    )
    result = training.find_learning_rate(
        model, recipe, two_classes(), steps=20, lowest=1e-3, verbose=False
    )
    measured = measured[: len(result.losses)]
    np.testing.assert_allclose(result.losses, measured, rtol=1e-4, atol=1e-6)


def _cross_entropy(logits, labels):
    logits, labels = logits.astype("float64"), np.asarray(labels, "int64")
    picked = logits[np.arange(len(labels)), labels.ravel()]
    return np.log(np.exp(logits).sum(-1)) - picked


@long_where_compiled
def test_the_seed_makes_the_result(found):
    model, _, result = found
    recipe = RECIPE.replace(layer_decay=0.8, head_epochs=0)
    again = training.find_learning_rate(
        model, recipe, two_classes(), steps=30, lowest=1e-5, verbose=False
    )
    assert again == result


@long_where_compiled
def test_frozen_parts_can_be_trained_after():
    model = new_model()
    before = state_of(model)
    recipe = RECIPE.replace(freeze="stage_0", head_epochs=1)
    training.find_learning_rate(
        model, recipe, two_classes(), steps=20, lowest=1e-4, verbose=False
    )
    for now, then in zip(state_of(model), before, strict=True):
        np.testing.assert_array_equal(now, then)
    assert len(model.trainable_variables) == len(model.weights)


@long_where_compiled
@pytest.mark.parametrize("loss", ["binary", "huber"])
def test_other_tasks_have_learning_rates_too(loss):
    images = two_classes().images
    fields = {"loss": loss, "cutmix_alpha": 0.0, "label_smoothing": 0.0}
    if loss == "binary":
        data = Arrays(images, np.eye(2, dtype="int64")[np.arange(8) % 2])
    else:
        data = TargetArrays(images, np.arange(16.0).reshape(8, 2) + 1900)
        fields["class_sampling_exponent"] = 0.0
    model = new_model()
    before = state_of(model)
    result = training.find_learning_rate(
        *(model, RECIPE.replace(**fields), data),
        **{"steps": 20, "lowest": 1e-4, "verbose": False},
    )
    assert np.isfinite(result.losses).all()
    for now, then in zip(state_of(model), before, strict=True):
        np.testing.assert_array_equal(now, then)


def test_what_cannot_be_tested_is_refused(monkeypatch):
    model, data = new_model(), two_classes()
    find = training.find_learning_rate
    with pytest.raises(ValueError, match="at least 20.*steps=19"):
        find(model, RECIPE, data, steps=19)
    with pytest.raises(ValueError, match="least and the greatest"):
        find(model, RECIPE, data, lowest=0.1, highest=0.01)
    with pytest.raises(ValueError, match="one label for each image"):
        find(model, RECIPE.replace(loss="binary", mixup_alpha=0.0), data)
    cluster = training.distribution.current()
    monkeypatch.setattr(type(cluster), "device_count", 2)
    with pytest.raises(ValueError, match="takes one device. Received: 2"):
        find(model, RECIPE, data)


@pytest.fixture
def command(run_command, tmp_path, monkeypatch):
    """The command, with a stand-in for the test, and what that was given."""
    given = {}
    result = training.RangeTest(
        1.23e-3, (1e-4, 1e-3, 1e-2), (2.0, 1.0, 9.0), (2.0, 1.5, 3.0), 16
    )

    def find(model, recipe, data, **options):
        given.update(options, images=len(data), batch_size=recipe.batch_size)
        return result

    task = dataclasses.replace(TASKS["single-label"], find_learning_rate=find)
    monkeypatch.setitem(TASKS, "single-label", task)

    def run(*more):
        arguments = ("train", "--data", "digits", "--recipe", "digits")
        arguments += ("--weights", "none", "--model", "test_convnext")
        arguments += ("--image-size", "32", "--crop-scale", "1,1")
        arguments += ("--output", tmp_path / "run", "--find-learning-rate")
        return run_command(*arguments, *more)

    return run, given, result


@long_where_compiled
def test_the_command_writes_a_picture_and_a_table(command, tmp_path):
    run, given, result = command
    status, printed, error = run("--batch-size", "16", "--seed", "3")
    assert status == 0, error
    assert "for batches of 16: --learning-rate 1.2e-03\n" in printed
    assert given == {
        **{"images": 1438, "batch_size": 16, "seed": 3, "on_error": "skip"},
        "loader": None,
    }
    names = sorted(x.name for x in (tmp_path / "run").iterdir())
    assert names == ["learning_rate.json", "learning_rate.png"]
    table = json.loads((tmp_path / "run" / "learning_rate.json").read_text())
    assert table["suggestion"] == result.suggestion
    assert table["smoothed"] == [2.0, 1.5, 3.0]


@long_where_compiled
def test_as_json_the_command_writes_nothing(command, tmp_path):
    run, _, result = command
    status, printed, error = run("--json")
    assert status == 0, error
    assert json.loads(printed)["learning_rates"] == [1e-4, 1e-3, 1e-2]
    assert not (tmp_path / "run").exists()


@pytest.mark.once
@pytest.mark.parametrize(
    "more, message",
    [
        (("--log-to", "tensorboard"), "`--log-to` is for runs, and `--find-"),
        (("--devices", "2"), "`--devices` is for runs"),
        (("--dry-run",), "`--dry-run` is for runs"),
        (
            ("--task", "detect", "--recipe", "coco_mask_rcnn"),
            "`--find-learning-rate` is for `--task` single-label",
        ),
    ],
)
def test_options_of_other_purposes_are_refused(
    more, message, tmp_path, run_command
):
    status, _, error = run_command(
        *("train", "--data", "digits", "--output", tmp_path / "run"),
        *("--find-learning-rate", *more),
    )
    assert status == 2 and message in error
    assert not (tmp_path / "run").exists()
