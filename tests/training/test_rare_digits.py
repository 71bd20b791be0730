"""Digits of which some are fifty times as frequent: rare ones are learned."""

import keras
import numpy as np
import pytest
from conftest import short_on
from runs import digits_model

from keras_convnext import evaluate
from keras_convnext import recipes
from keras_convnext import training
from keras_convnext.data import Arrays
from keras_convnext.data import load_digits

RECIPE = recipes.digits.replace(
    warmup_epochs=1, batch_size=16, drop_path_rate=0.0, ema_decay=None
)
# Odd digits are rare.
FREQUENT, RARE = 150, 3


def imbalanced(digits):
    """What is trained on, and all held-out scans of so many digits."""
    (images, labels), (test_images, test_labels) = load_digits()
    kept = [
        np.flatnonzero(labels == digit)[: RARE if digit % 2 else FREQUENT]
        for digit in range(digits)
    ]
    kept, test = np.concatenate(kept), test_labels < digits
    names = [str(digit) for digit in range(digits)]
    return (
        Arrays(images[kept], labels[kept], names),
        Arrays(test_images[test], test_labels[test], names),
    )


def f1_of(folder, digits, epochs, seed=0, **changes):
    """The macro F1 of the last epoch, of every class alike."""
    train, test = imbalanced(digits)
    model = digits_model(16, digits, seed)
    recipe = RECIPE.replace(epochs=epochs, **changes)
    summary = training.train(model, recipe, train, folder, test, seed)
    last = keras.saving.load_model(folder / "last.keras")
    found = evaluate(last, test, batch_size=500, verbose=False)
    measured = summary["metrics"]["val_f1_macro"]
    assert found.f1_macro == pytest.approx(measured, rel=0, abs=0.01)
    return measured


# Where that takes seconds; all backends learn as much in the long proof.
@short_on("torch")
def test_balanced_draws_soon_teach_rare_digits(tmp_path):
    plain = f1_of(tmp_path / "plain", 5, 5)
    drawn = f1_of(tmp_path / "drawn", 5, 5, class_sampling_exponent=1.0)
    assert drawn > plain + 0.05


@pytest.mark.long
@pytest.mark.parametrize("seed", range(3))
def test_draws_and_weights_teach_rare_digits(seed, tmp_path, record_property):
    kinds = {
        "plain": {},
        "draws": {"class_sampling_exponent": 1.0},
        "weights": {"class_weight_exponent": 1.0},
    }
    found = {
        kind: f1_of(tmp_path / kind, 10, 20, seed, **changes)
        for kind, changes in kinds.items()
    }
    for kind, value in found.items():
        record_property(f"F1 (macro), {kind}", round(value, 3))
    assert found["draws"] > found["plain"] + 0.05
    # Large weights make steps uneven: they gain less.
    assert found["weights"] > found["plain"]
