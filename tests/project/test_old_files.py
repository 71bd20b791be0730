"""Files that an earlier state of the package wrote can still be read."""

import csv
import json
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
from conftest import long_where_compiled
from runs import RECIPE
from runs import new_model
from runs import splits
from runs import write_photographs

import keras_convnext
from keras_convnext.artifacts.metadata import from_json
from keras_convnext.artifacts.metadata import of_model
from keras_convnext.artifacts.metadata import to_json
from keras_convnext.data import Records
from keras_convnext.facts.info import ModelInfo
from keras_convnext.training.run import Run

FOLDER = Path(__file__).parents[1] / "written_by_0_1_0"
MODELS = sorted(path.stem for path in FOLDER.glob("*.keras"))


@pytest.fixture(scope="module")
def answers():
    return dict(np.load(FOLDER / "answers.npz"))


def check_equal(name, model, answers):
    outputs = model(answers["images"].astype("float32"), training=False)
    if not isinstance(outputs, dict):
        outputs = {"": outputs}
    # Half precision keeps three digits.
    tolerance = 2e-2 if name == "v2" else 1e-4
    for key, output in outputs.items():
        output = keras.ops.convert_to_numpy(output)
        expected = answers[f"{name}.{key}".rstrip(".")]
        scale = max(1.0, np.abs(expected).max())
        np.testing.assert_allclose(
            output, expected, rtol=0, atol=tolerance * scale
        )


@pytest.mark.parametrize("name", MODELS)
def test_models_load_and_compute_the_same(name, answers):
    model = keras.saving.load_model(FOLDER / f"{name}.keras")
    check_equal(name, model, answers)


def test_models_know_what_they_knew():
    model = keras.saving.load_model(FOLDER / "v1.keras")
    assert model.class_names == ["ant", "bee", "cat"]
    assert model.variant.depths == (1, 1)
    assert model.preprocessing.image_size == (32, 32)


@pytest.mark.parametrize("ending", ["weights.h5", "safetensors", "keras"])
def test_weights_load(ending, answers):
    model = keras_convnext.ConvNeXt(
        depths=(1, 1),
        dims=(8, 12),
        input_shape=(32, 32, 3),
        classes=3,
        classifier_activation=None,
        weights=FOLDER / f"v1.{ending}",
    )
    check_equal("v1", model, answers)


@long_where_compiled
def test_a_killed_run_goes_on(tmp_path):
    output = tmp_path / "run"
    shutil.copytree(FOLDER / "run", output)
    photographs = tmp_path / "photographs"
    write_photographs(photographs, ((18, 18), (4, 4)))
    data, validation = splits(photographs)
    model = new_model()
    recipe = RECIPE.replace(class_sampling_exponent=0.0)
    keras_convnext.train(model, recipe, data, output, validation)
    summary = json.loads((output / "run.json").read_text())
    assert summary["status"] == "complete"
    assert summary["epochs"] == RECIPE.epochs
    # The first epoch was not trained again, and averages have new names.
    before, after = (
        next(csv.DictReader((folder / "history.csv").open(newline="")))
        for folder in (FOLDER / "run", output)
    )
    assert after["val_accuracy"] == before["val_ema_accuracy"]
    assert after["val_raw_loss"] == before["val_loss"]
    assert after["loss"] == before["loss"]
    assert after.keys() & before.keys() == before.keys() - {
        "val_ema_accuracy",
        "val_ema_loss",
    }
    assert set(summary["best"]) == {"val_accuracy", "val_raw_accuracy"}


@pytest.mark.parametrize("is_killed_between", [False, True])
def test_old_models_of_a_run_are_renamed_once(is_killed_between, tmp_path):
    """A run that dies before its next checkpoint begins there again."""
    shutil.copytree(FOLDER / "run", tmp_path, dirs_exist_ok=True)
    record = tmp_path / "checkpoints" / "step_0000000009.json"
    old = json.loads(record.read_text())["record"]
    raw = "best_raw" if is_killed_between else "best"
    (tmp_path / f"{raw}.keras").write_text("raw")
    (tmp_path / "best_ema.keras").write_text("average")
    for _ in range(2):
        run = Run(tmp_path, {})
        run.history, run.best = old["history"], old["best"]
        run._take_over_old_names()
        assert (tmp_path / "best.keras").read_text() == "average"
        assert (tmp_path / "best_raw.keras").read_text() == "raw"
        assert not (tmp_path / "best_ema.keras").exists()


def test_records_are_read():
    records = Records(FOLDER / "records")
    assert records.classes == ("ant", "bee")
    assert len(records) == 6


def test_the_license_survives_its_new_spelling():
    values = {"weights": "fb_in1k", "licence": "mit", "unknown": 1}
    info = ModelInfo.from_config(values)
    assert (info.weights, info.license) == ("fb_in1k", "mit")
    model = keras_convnext.ConvNeXt((1,), (8,), input_shape=(32, 32, 3))
    saved = to_json({**of_model(model), "license": "mit"})
    old = saved.replace("license", "licence").replace("normaliz", "normalis")
    assert old != saved and from_json(old) == from_json(saved)
    assert from_json(old)["license"] == "mit"
