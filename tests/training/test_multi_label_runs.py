"""Runs on images of many labels: what is saved, measured and gone on with."""

import csv
import json

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
from keras_convnext.training import callbacks

NAMES = ("red", "green", "blue")
RECIPE = recipes.multi_label.replace(
    epochs=2,
    warmup_epochs=1,
    batch_size=8,
    image_size=SIZE,
    learning_rate=5e-3,
    ema_decay=0.5,
    mixup_alpha=0.2,
    rand_augment=None,
    random_erasing=0.0,
    loss="asymmetric",
)


def colors(count, seed=0):
    """Noise in which some channels are bright: their names are the labels."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 2, (count, 3), dtype="uint8")
    levels = generator.integers(0, 64, (count, SIZE, SIZE, 3))
    return Arrays(
        (levels + 160 * labels[:, None, None]).astype("uint8"), labels, NAMES
    )


def new_model(**options):
    keras.utils.set_random_seed(0)
    options = {"classifier_activation": None, **options}
    return ConvNeXt(
        depths=(1, 1),
        dims=(8, 16),
        input_shape=(SIZE, SIZE, 3),
        classes=len(NAMES),
        drop_path_rate=RECIPE.drop_path_rate,
        name="small",
        **options,
    )


def run(output, model=None, recipe=RECIPE, validation="held out", **options):
    model = model or new_model()
    if validation == "held out":
        validation = colors(12, 1)
    options = {"loader": "python", **options}
    data = colors(24)
    return model, training.train(
        model, recipe, data, output, validation, **options
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    output = tmp_path_factory.mktemp("many")
    model = new_model()
    model.update_info(temperature=2.0)
    model, summary = run(output, model)
    return output, model, summary


def test_a_run_measures_as_scikit_learn_does(whole):
    output, _, summary = whole
    with open(output / "history.csv", newline="") as file:
        rows = [*csv.DictReader(file)]
    assert len(rows) == 2
    best = keras.saving.load_model(output / "best.keras")
    held_out = colors(12, 1)
    scores = predict(best, held_out.images)
    found = max(float(row["val_map_macro"]) for row in rows)
    expected = metrics.average_precision_score(held_out.labels, scores)
    assert found == pytest.approx(expected, rel=0, abs=1e-6)
    assert summary["best"]["val_map_macro"] == found
    row = next(x for x in rows if float(x["val_map_macro"]) == found)
    f1 = metrics.f1_score(
        held_out.labels, scores >= 0.5, average="micro", zero_division=0
    )
    assert float(row["val_f1_micro"]) == pytest.approx(f1, rel=0, abs=1e-9)
    # The thresholds saved with it are those of its own best F1.
    best_f1 = metrics.f1_score(
        held_out.labels,
        scores >= np.array(best.info.thresholds),
        average="macro",
        zero_division=0,
    )
    assert float(row["val_best_f1_macro"]) == pytest.approx(best_f1, abs=1e-9)
    assert best_f1 >= float(row["val_f1_macro"])
    loss = recipes.AsymmetricLoss()(
        held_out.labels,
        predict(logits_of(best), held_out.images),
    )
    assert float(row["val_loss"]) == pytest.approx(float(loss), rel=1e-4)
    assert {"val_raw_map_macro", "val_subset_accuracy"} <= row.keys()


def logits_of(model):
    return keras.Model(model.inputs[0], model.layers[-1].input)


def test_what_is_saved_ends_in_the_sigmoid_and_knows_its_labels(whole):
    output, model, _ = whole
    last = keras.saving.load_model(output / "last.keras")
    assert last.layers[-1].activation is keras.activations.sigmoid
    assert last.class_names == list(NAMES)
    assert len(last.info.thresholds) == len(NAMES)
    assert last.info.temperature is None  # of what it was before
    images = colors(3).images
    expected = 1 / (1 + np.exp(-predict(model, images)))
    np.testing.assert_allclose(
        predict(last, images), expected, rtol=1e-5, atol=1e-6
    )
    files = {path.name for path in output.iterdir()}
    assert {"best.keras", "best_raw.keras", "curves.png"} <= files


@long_where_compiled
def test_a_killed_run_ends_where_a_whole_one_does(whole, tmp_path, monkeypatch):
    class Stop(Exception):
        pass

    def stopping(self, *args, count=callbacks.History.on_epoch_end):
        count(self, *args)
        if len(self.run.history) == 2:
            raise Stop

    with monkeypatch.context() as patch:
        patch.setattr(callbacks.History, "on_epoch_end", stopping)
        with pytest.raises(Stop):
            run(tmp_path)
    model, summary = run(tmp_path)
    _, expected, of_whole = whole
    for found, value in zip(model.get_weights(), expected.get_weights()):
        np.testing.assert_array_equal(found, value)
    for name, value in of_whole["metrics"].items():
        if name != "images_per_second":
            assert summary["metrics"][name] == value
    assert json.loads((tmp_path / "run.json").read_text())["status"] == (
        "complete"
    )


@pytest.mark.long
def test_a_saved_model_is_trained_on(whole, tmp_path):
    saved = keras.saving.load_model(whole[0] / "last.keras")
    run(tmp_path, saved, RECIPE.replace(epochs=1, warmup_epochs=0))
    again = keras.saving.load_model(tmp_path / "last.keras")
    assert again.layers[-1].activation is keras.activations.sigmoid
    assert len(again.layers) == len(saved.layers)


def test_labels_and_loss_must_be_of_one_kind(tmp_path):
    output = tmp_path / "run"
    with pytest.raises(ValueError, match="loss='softmax'.*several or none"):
        run(output, recipe=RECIPE.replace(loss="softmax"))
    one_each = Arrays(colors(24).images, np.arange(24) % 3, NAMES)
    with pytest.raises(ValueError, match="loss='asymmetric'.*one label"):
        training.train(new_model(), RECIPE, one_each, output)
    with pytest.raises(ValueError, match="logits.*small.*head_activation"):
        run(output, new_model(classifier_activation="softmax"))
    assert not output.exists()


@pytest.mark.parametrize(
    ("thresholds", "message"),
    [([0.5, 0.5], "2 thresholds"), ([0.5, 2.0, 0.1], "thresholds")],
)
def test_wrong_thresholds_are_refused(thresholds, message):
    with pytest.raises(ValueError, match=message):
        recipes.with_sigmoid(new_model(), thresholds)
