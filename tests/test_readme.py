"""The README's training code runs, on models and data made small."""

import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from runs import new_model
from runs import shortened
from runs import write_photographs
from typer.testing import CliRunner

from keras_convnext import create_model
from keras_convnext import recipes
from keras_convnext.cli import app

README = (Path(__file__).parent.parent / "README.md").read_text()
TRAIN = README.split("## Train\n")[1].split("\n## ")[0]
FOLDER = README.split("## Train a folder of images\n")[1].split("\n## ")[0]
SNIPPETS = re.findall(r"```python\n(.*?)```", TRAIN, re.DOTALL)


def arrays(count):
    images = np.random.default_rng(0).integers(0, 256, (count, 40, 40, 3))
    return images.astype("uint8"), np.arange(count) % 5


@pytest.mark.parametrize("snippet", SNIPPETS, ids=["paper", "fine_tune"])
def test_the_training_code_runs(snippet, tmp_path):
    assert len(snippet.strip().splitlines()) < 10
    weights = tmp_path / "weights.keras"
    create_model("test_convnext", weights=None, classes=3).save(weights)
    for text, small in (
        ("from keras_convnext import recipes", ""),
        ("1024", "8"),
        ("1000", "5"),
        ("convnext_tiny", "test_convnext"),
        ('weights="imagenet"', "weights=weights"),
        ("epochs=30", "epochs=1"),
    ):
        snippet = snippet.replace(text, small)
    names = {
        "recipes": SimpleNamespace(
            imagenet1k=shortened(recipes.imagenet1k),
            small_data=shortened(recipes.small_data, batch_size=8),
        ),
        "train_images": arrays(16),
        "test_images": arrays(8),
        "images": arrays(16)[0],
        "labels": arrays(16)[1],
        "weights": weights,
    }
    exec(snippet, names)
    history = names["model"].history.history
    assert np.isfinite(history["loss"]).all()
    assert names["model"].output_shape == (None, 5)


def test_a_folder_is_trained_and_evaluated(tmp_path, monkeypatch):
    """The README's two commands, word by word, on a small model."""
    monkeypatch.chdir(tmp_path)
    photographs = write_photographs(tmp_path)
    photographs.joinpath("train").rename("photos")
    photographs.joinpath("val").rename("other_photos")
    new_model().save("small.keras")
    train, evaluate = (
        line.split()[1:]
        for line in FOLDER.splitlines()
        if line.startswith("keras-convnext") and "photos" in line
    )
    train += ["--model", "small.keras", "--epochs", "1", "--batch-size", "8"]
    train += ["--image-size", "16", "--warmup-epochs", "0"]
    for arguments in (train, evaluate):
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, result.output
    assert "top-1" in result.output


def test_every_recipe_is_named():
    for name in recipes.RECIPES:
        assert f"`{name}`" in TRAIN
