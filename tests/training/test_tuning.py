"""The script of the page on tuning searches a recipe's fields, and goes on."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from conftest import long_where_compiled
from conftest import random_images
from runs import shortened

from keras_convnext import recipes
from keras_convnext.data import Arrays

ROOT = Path(__file__).parents[2]


def script():
    path = ROOT / "docs" / "how_to" / "tune.py"
    spec = importlib.util.spec_from_file_location("tune", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@long_where_compiled
def test_trials_are_runs_and_a_search_goes_on(tmp_path):
    pytest.importorskip("optuna", reason="only the page on tuning takes it")
    images = random_images((8, 32, 32, 3)).astype("uint8")
    data = Arrays(images, np.arange(8) % 2, ("cat", "dog"))
    recipe = shortened(recipes.small_data, batch_size=4)
    chosen = (data, data, recipe, "test_convnext", None, tmp_path / "search")
    search = script().search
    assert len(search(*chosen, 1).trials) == 1
    study = search(*chosen, 2)
    assert [x.number for x in study.trials] == [0, 1]
    assert len(search(*chosen, 2).trials) == 2
    rates = set()
    for trial in study.trials:
        folder = tmp_path / "search" / f"trial_{trial.number}"
        run = json.loads((folder / "run.json").read_text())
        assert run["best"]["val_accuracy"] == trial.value
        for name, value in trial.params.items():
            assert run["settings"]["recipe"][name] == value
        rates.add(trial.params["learning_rate"])
    assert len(rates) == 2
