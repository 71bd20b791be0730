"""Pictures of several digits: models learn to name all that are in them."""

import keras
import numpy as np
import pytest
from conftest import BACKEND
from conftest import short_on

from keras_convnext import ConvNeXt
from keras_convnext import evaluate
from keras_convnext import recipes
from keras_convnext import training
from keras_convnext.data import Arrays
from keras_convnext.data import load_digits

# On one backend all of them, which have the same values and gradients there.
LOSSES = ["binary", *(["asymmetric", "focal"] * (BACKEND == "tensorflow"))]
SIZE = 16
RECIPE = recipes.digits.replace(
    warmup_epochs=1,
    image_size=SIZE,
    drop_path_rate=0.0,
    label_smoothing=0.0,
    ema_decay=None,
)


def composed(scans, count, seed):
    """Noise with up to three scans of digits, each in a quarter of its own."""
    images, digits = scans
    generator = np.random.default_rng(seed)
    pictures = generator.integers(0, 64, (count, SIZE, SIZE, 1), dtype="uint8")
    labels = np.zeros((count, 10), "uint8")
    for picture, row in zip(pictures, labels):
        for quarter in generator.permutation(4)[: generator.integers(0, 4)]:
            number = generator.integers(len(digits))
            top, left = 8 * (quarter // 2), 8 * (quarter % 2)
            place = picture[top : top + 8, left : left + 8]
            np.maximum(place, images[number], out=place)
            row[digits[number]] = 1
    return Arrays(pictures, labels)


def learned(folder, count, epochs, loss, seed=0):
    """The best mAP on pictures of scans that are in none of the others."""
    of_train, of_test = load_digits()
    test = composed(of_test, 400, seed=1)
    keras.utils.set_random_seed(seed)
    model = ConvNeXt(
        (2, 2),
        (24, 48),
        patch_size=2,
        kernel_size=3,
        input_shape=(SIZE, SIZE, 1),
        classes=10,
        classifier_activation=None,
        layer_scale_init_value=0.1,
        mean=0.3,
        std=0.35,
    )
    recipe = RECIPE.replace(epochs=epochs, loss=loss)
    summary = training.train(
        model, recipe, composed(of_train, count, seed=0), folder, test, seed
    )
    best = keras.saving.load_model(folder / "best.keras")
    found = evaluate(best, test, batch_size=400, verbose=False)
    assert found.figures["map_macro"] == pytest.approx(
        summary["best"]["val_map_macro"], rel=0, abs=1e-3
    )
    return found


# Where that takes seconds; all backends learn as much in the long proof.
@short_on("tensorflow")
def test_some_digits_are_named_soon(tmp_path):
    """A guess by how frequent each is has an mAP of 0.14."""
    found = learned(tmp_path, 2000, 4, "binary")
    assert found.figures["map_macro"] > 0.5


@pytest.mark.long
@pytest.mark.parametrize("loss", LOSSES)
def test_digits_are_named(loss, tmp_path, record_property):
    found = learned(tmp_path, 4000, 6, loss)
    record_property("mAP (macro)", found.figures["map_macro"])
    record_property("F1 (macro)", found.figures["f1_macro"])
    assert found.figures["map_macro"] >= 0.97
    # By its own thresholds, which were chosen on these pictures.
    own = found.at_thresholds["f1_macro"]
    assert own >= max(found.figures["f1_macro"], 0.9)
