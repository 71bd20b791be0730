"""Pictures of several digits: models learn the sum of all that are in them."""

import keras
import numpy as np
import pytest
from conftest import BACKEND
from conftest import short_on
from several_digits import RECIPE
from several_digits import composed
from several_digits import new_model

from keras_convnext import evaluate
from keras_convnext import training
from keras_convnext.data import TargetArrays
from keras_convnext.data import load_digits

# On one backend both, which have the same values and gradients there.
LOSSES = ["huber", *(["squared"] * (BACKEND == "torch"))]


def pictures(scans, count, seed):
    images, counts = composed(scans, count, seed)
    return TargetArrays(images, counts @ np.arange(10), ["sum"])


def learned(folder, count, epochs, loss, seed=0):
    """The best epoch on pictures of scans that are in none of the others."""
    of_train, of_test = load_digits()
    test = pictures(of_test, 400, seed=1)
    model = new_model(["sum"], seed)
    recipe = RECIPE.replace(epochs=epochs, loss=loss)
    summary = training.train(
        model, recipe, pictures(of_train, count, seed=0), folder, test, seed
    )
    best = keras.saving.load_model(folder / "best.keras")
    found = evaluate(best, test, batch_size=400, verbose=False)
    assert found.figures["r2"] == pytest.approx(
        summary["best"]["val_r2"], rel=0, abs=1e-3
    )
    return found


# Where that takes seconds; all backends learn as much in the long proof.
@short_on("tensorflow")
def test_some_of_the_sum_is_learned_soon(tmp_path):
    """The mean of all sums has an R² of 0."""
    assert learned(tmp_path, 1000, 2, "huber").figures["r2"] > 0.3


@pytest.mark.long
@pytest.mark.parametrize("loss", LOSSES)
def test_digits_are_added_up(loss, tmp_path, record_property):
    found = learned(tmp_path, 4000, 4, loss)
    record_property("R²", found.figures["r2"])
    record_property("MAE", found.figures["mae"])
    assert found.figures["r2"] >= 0.9
    # A digit is 4.5 in the mean.
    assert found.figures["mae"] < 1.5
    assert found.figures["spearman"] > 0.9
