"""The main job, as `make demo` runs it."""

import keras
import numpy as np
import pytest
from conftest import LONG_WHERE_COMPILED
from PIL import Image
from typer.testing import CliRunner

from keras_convnext.cli import app
from keras_convnext.cli.digits_demo import build_model
from keras_convnext.cli.digits_demo import make_repeatable
from keras_convnext.cli.digits_demo import run_demo
from keras_convnext.cli.digits_demo import train_digits
from keras_convnext.data import load_digits
from keras_convnext.training.optimizers import averaged_weights

pytestmark = LONG_WHERE_COMPILED


@pytest.mark.long
def test_half_a_demo_reads_96_percent_and_leaves_its_files(tmp_path):
    """What all of it reads, over seeds, is in benchmarks/DIGITS.md."""
    result = CliRunner().invoke(
        app, ["demo", "--epochs", "25", "--output", str(tmp_path)]
    )
    assert result.exit_code == 0, result.output
    printed = " ".join(result.output.split())
    assert sorted(x.name for x in tmp_path.iterdir()) == [
        "digits.keras",
        "digits.png",
    ]
    for path in tmp_path.iterdir():
        assert str(path) in printed

    _, (images, labels) = load_digits()
    model = keras.saving.load_model(tmp_path / "digits.keras")
    predictions = model.predict(images, verbose=0).argmax(-1)
    accuracy = np.mean(predictions == labels)
    assert accuracy >= 0.96
    assert f"held-out accuracy: {accuracy:.2%}" in result.output
    assert model.class_names == [str(digit) for digit in range(10)]
    with Image.open(tmp_path / "digits.png") as picture:
        assert picture.size[0] > 1000
        assert len(np.unique(np.asarray(picture.convert("L")))) > 50


def test_the_model_has_the_averaged_weights():
    (images, labels), _ = load_digits()
    few = images[:64], labels[:64]
    model, _ = train_digits(few, few, epochs=1, seed=0)
    weights = model.get_weights()
    with averaged_weights(model):
        averages = model.get_weights()
    assert all(np.array_equal(a, b) for a, b in zip(weights, averages))


@pytest.mark.long
def test_the_same_seed_gives_the_same_model(tmp_path):
    first, second = (
        keras.saving.load_model(
            run_demo(tmp_path / str(run), epochs=1, seed=3)["model"]
        ).get_weights()
        for run in range(2)
    )
    assert all(np.array_equal(a, b) for a, b in zip(first, second))
    make_repeatable(4)
    (images, _), _ = load_digits()
    other = build_model(images).get_weights()
    make_repeatable(3)
    same = build_model(images).get_weights()
    assert not np.array_equal(other[0], same[0])
