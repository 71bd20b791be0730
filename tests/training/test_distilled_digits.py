"""Digits with few labels: half a model learns more beside a whole one."""

import numpy as np
import pytest
from runs import digits_model
from scipy import stats

from keras_convnext import recipes
from keras_convnext import training
from keras_convnext.data import Arrays
from keras_convnext.data import load_digits

RECIPE = recipes.digits.replace(
    warmup_epochs=1,
    batch_size=32,
    drop_path_rate=0.0,
    ema_decay=None,
    distillation_weight=0.9,
)
NAMES = [str(digit) for digit in range(10)]
FEW, SEEDS = 400, 3


def accuracy_of(model, epochs, data, held_out, folder, seed, **options):
    recipe = RECIPE.replace(epochs=epochs)
    summary = training.train(
        model, recipe, data, folder, held_out, seed, **options
    )
    return summary["metrics"]["val_accuracy"]


@pytest.mark.long
def test_a_student_of_half_the_width_gains(tmp_path, record_property):
    """With and without a teacher that knew all labels, by the same seeds."""
    (images, labels), test = load_digits()
    held_out = Arrays(*test, NAMES)
    teacher = digits_model(32, NAMES, 0)
    known = Arrays(images, labels, NAMES)
    accuracy = accuracy_of(teacher, 20, known, held_out, tmp_path / "t", 0)
    record_property("teacher", f"{accuracy:.2%}")
    kinds, gains = {"alone": {}, "taught": {"teacher": teacher}}, []
    for seed in range(SEEDS):
        order = np.random.default_rng(seed).permutation(len(images))
        few = np.sort(order[:FEW])
        data = Arrays(images[few], labels[few], NAMES)
        alone, taught = (
            accuracy_of(
                digits_model(16, NAMES, seed),
                40,
                data,
                held_out,
                tmp_path / f"{seed}_{name}",
                seed,
                **options,
            )
            for name, options in kinds.items()
        )
        record_property(f"alone, taught, seed {seed}", (alone, taught))
        gains.append(taught - alone)
    mean, error = np.mean(gains), stats.sem(gains)
    half = error * stats.t.ppf(0.975, SEEDS - 1)
    record_property("gain, 95 %", f"{mean:.2%} ± {half:.2%}")
    assert mean > 0
