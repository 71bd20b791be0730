"""Runs on images with numbers: what is saved, measured and gone on with."""

import csv

import keras
import numpy as np
import pytest
from conftest import long_where_compiled
from conftest import predict
from runs import SIZE
from sklearn import metrics

from keras_convnext import ConvNeXt
from keras_convnext import recipes
from keras_convnext import training
from keras_convnext.data import Arrays
from keras_convnext.data import TargetArrays
from keras_convnext.training import callbacks

NAMES = ("year", "dose")
RECIPE = recipes.regression.replace(
    epochs=2,
    warmup_epochs=1,
    batch_size=8,
    image_size=SIZE,
    learning_rate=5e-3,
    ema_decay=0.5,
    mixup_alpha=0.2,
)


def tones(count, seed=0):
    """Noise whose level is a year, and whose red is a dose."""
    generator = np.random.default_rng(seed)
    levels = generator.uniform(0, 1, (count, 2))
    images = generator.integers(0, 64, (count, SIZE, SIZE, 3)).astype("float64")
    images += 120 * levels[:, :1, None, None]
    images[..., 0] += 60 * levels[:, 1, None, None]
    targets = levels * [40, 0.01] + [1980, 0]
    return TargetArrays(images.astype("uint8"), targets, NAMES)


def new_model(classes=2, **options):
    keras.utils.set_random_seed(0)
    return ConvNeXt(
        depths=(1, 1),
        dims=(8, 16),
        input_shape=(SIZE, SIZE, 3),
        classes=classes,
        classifier_activation=None,
        drop_path_rate=RECIPE.drop_path_rate,
        name="small",
        **options,
    )


def run(output, model=None, recipe=RECIPE, data=None, **options):
    model = model or new_model()
    options = {"loader": "python", "validation": tones(12, 1), **options}
    data = tones(24) if data is None else data
    return training.train(model, recipe, data, output, **options)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    output = tmp_path_factory.mktemp("numbers")
    return output, run(output)


def test_a_run_measures_as_scikit_learn_does(whole):
    output, summary = whole
    with open(output / "history.csv", newline="") as file:
        rows = [*csv.DictReader(file)]
    best = keras.saving.load_model(output / "best.keras")
    held_out = tones(12, 1)
    predicted = predict(best, held_out.images).astype("float64")
    row = max(rows, key=lambda x: float(x["val_r2"]))
    assert summary["best"]["val_r2"] == float(row["val_r2"])
    for name, theirs in (
        ("mae", metrics.mean_absolute_error),
        ("rmse", metrics.root_mean_squared_error),
        ("r2", metrics.r2_score),
    ):
        expected = theirs(held_out.labels, predicted)
        assert float(row[f"val_{name}"]) == pytest.approx(expected, abs=1e-4)
    assert {"mae", "rmse", "val_spearman", "val_raw_r2"} <= row.keys()
    standardized = held_out.labels / tones(24).labels.std(axis=0)
    errors = predicted / tones(24).labels.std(axis=0) - standardized
    huber = np.where(
        np.abs(errors) < 1, errors**2 / 2, np.abs(errors) - 1 / 2
    ).mean()
    assert float(row["val_loss"]) == pytest.approx(huber, rel=1e-3)


def test_what_is_saved_predicts_in_units_and_knows_their_names(whole):
    last = keras.saving.load_model(whole[0] / "last.keras")
    targets = tones(24).labels
    units = last.layers[-1]
    assert units.name == "head_units" and units.dtype == "float32"
    assert units.mean == pytest.approx(targets.mean(axis=0), rel=1e-12)
    assert units.std == pytest.approx(targets.std(axis=0), rel=1e-12)
    assert last.class_names == list(NAMES)
    year, dose = predict(last, tones(6).images).T
    assert (np.abs(year - 2000) < 60).all() and (np.abs(dose) < 0.03).all()
    files = {path.name for path in whole[0].iterdir()}
    assert {"best.keras", "best_raw.keras", "curves.png"} <= files


@long_where_compiled
def test_a_killed_run_ends_where_a_whole_one_does(whole, tmp_path, monkeypatch):
    class Stop(Exception):
        pass

    count = callbacks.Checkpointing.on_train_batch_end

    def stopping(self, *args, **logs):
        count(self, *args, **logs)
        if self.run.step == 5:
            raise Stop

    options = {"checkpoint_steps": 2}
    with monkeypatch.context() as patch:
        patch.setattr(callbacks.Checkpointing, "on_train_batch_end", stopping)
        with pytest.raises(Stop):
            run(tmp_path, **options)
    summary = run(tmp_path, **options)
    found, expected = (
        keras.saving.load_model(x / "last.keras").get_weights()
        for x in (tmp_path, whole[0])
    )
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)
    for name, value in whole[1]["metrics"].items():
        if name != "images_per_second":
            assert summary["metrics"][name] == value, name


def test_weights_alone_tell_what_they_lack(whole):
    """As what is converted for other packages has no units."""
    last = keras.saving.load_model(whole[0] / "last.keras")
    units = last.layers[-1]
    message = f"multiply them by .{units.std[0]}.*, and add .{units.mean[0]}"
    with pytest.warns(UserWarning, match=message):
        model = new_model(weights=whole[0] / "last.keras")
    images = tones(4).images
    standardized = predict(model, images)
    np.testing.assert_allclose(
        standardized * units.std + units.mean,
        predict(last, images),
        rtol=1e-5,
        atol=1e-6,
    )


@pytest.mark.long
@pytest.mark.parametrize("loss", ["huber", "squared"])
def test_a_saved_model_is_trained_on(loss, whole, tmp_path):
    saved = keras.saving.load_model(whole[0] / "last.keras")
    recipe = RECIPE.replace(epochs=1, warmup_epochs=0, loss=loss)
    run(tmp_path, saved, recipe)
    again = keras.saving.load_model(tmp_path / "last.keras")
    assert len(again.layers) == len(saved.layers)
    assert again.layers[-1].mean == saved.layers[-1].mean


@pytest.mark.long
@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "mixed_float16"])
def test_half_precision_keeps_years(dtype, tmp_path):
    run(tmp_path, new_model(dtype=dtype), validation=None)
    last = keras.saving.load_model(tmp_path / "last.keras")
    years = predict(last, tones(6).images)[:, 0]
    assert years.dtype == "float32" and (np.abs(years - 2000) < 60).all()
    assert (years % 1 != 0).all()


def test_numbers_and_loss_must_be_of_one_kind(tmp_path):
    output = tmp_path / "run"
    one_each = Arrays(tones(24).images, np.arange(24) % 2, NAMES)
    many = Arrays(one_each.images, np.eye(2)[one_each.labels], NAMES)
    for data, message in (
        (one_each, "loss='huber'.*one label"),
        (many, "loss='huber'.*several or none"),
    ):
        with pytest.raises(ValueError, match=message):
            run(output, data=data)
    with pytest.raises(ValueError, match="softmax.*numbers.*regression"):
        run(output, recipe=recipes.small_data)
    with pytest.raises(ValueError, match="2 classes.*3 outputs"):
        run(output, new_model(classes=3))
    assert not output.exists()
