"""`train`, `evaluate` and `predict` for many labels, as a user types them."""

import json

import keras
import numpy as np
import object_files
import pytest
import runs
from conftest import long_where_compiled
from PIL import Image
from runs import SIZE

from keras_convnext import ConvNeXt
from keras_convnext import data
from keras_convnext import evaluate

NAMES = ("red", "green", "blue")
FIELDS = {
    "epochs": 3,
    "warmup_epochs": 1,
    "batch_size": 8,
    "image_size": SIZE,
    "learning_rate": 0.01,
    "rand_augment": "none",
    "random_erasing": 0,
}


@pytest.fixture
def colors(tmp_path):
    """An .npz file of noise in which some channels are bright."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 2, (40, 3), dtype="uint8")
    levels = generator.integers(0, 64, (40, SIZE, SIZE, 3))
    images = (levels + 160 * labels[:, None, None]).astype("uint8")
    path = tmp_path / "colors.npz"
    np.savez(path, images=images, labels=labels, classes=NAMES)
    return path


@pytest.fixture
def model(tmp_path):
    keras.utils.set_random_seed(0)
    path = tmp_path / "small.keras"
    ConvNeXt(
        (1, 1),
        (8, 16),
        input_shape=(SIZE, SIZE, 3),
        classes=3,
        classifier_activation=None,
    ).save(path)
    return path


def train(data, model, output, *more, task="multi-label"):
    fields = [f"--{k.replace('_', '-')}={x}" for k, x in FIELDS.items()]
    return [
        *("train", "--task", task, "--data", data, "--model", model),
        *("--output", output, *fields, *more),
    ]


def invoke(*arguments):
    result = runs.invoke(*map(str, arguments))
    assert result.exit_code == 0, (result.output, result.exception)
    return result.stdout


@long_where_compiled
def test_from_a_file_of_arrays_to_names(colors, model, tmp_path):
    output = tmp_path / "run"
    summary = json.loads(
        invoke(*train(colors, model, output, "--loss", "asymmetric", "--json"))
    )
    assert summary["settings"]["recipe"]["loss"] == "asymmetric"
    best = output / "best.keras"
    found = json.loads(
        invoke("evaluate", "--data", colors, "--model", best, "--json")
    )
    expected = evaluate(
        keras.saving.load_model(best), str(colors), verbose=False
    )
    for name in ("figures", "at_thresholds", "classes"):
        assert found[name] == getattr(expected, name)
    assert found["images"] == 40
    shown = invoke("evaluate", "--data", colors, "--model", best)
    assert "mAP (macro)" in shown and "at the model's thresholds" in shown
    picture = np.zeros((SIZE, SIZE, 3), "uint8")
    picture[..., 0] = 200
    path = tmp_path / "red.png"
    Image.fromarray(picture).save(path)
    command = ("predict", path, "--model", best, "--threshold", "0", "--json")
    (result,) = json.loads(invoke(*command))
    assert result["predictions"][0]["class"] == "red"
    assert len(result["predictions"]) == 3


@long_where_compiled
def test_objects_are_named_as_labels(tmp_path):
    folder = tmp_path / "coco"
    object_files.write_coco(folder)
    source, held_out = data.open_many_labels(folder, validation_split=0)
    assert held_out is None and source.classes == object_files.NAMES
    by_name = dict(zip(map(source.filename, range(3)), source.labels.tolist()))
    assert by_name == {
        "a.png": [1, 1],
        "deep/b.png": [0, 1],
        "c.png": [0, 0],
    }
    assert source[0][0].shape == source.source[0][0].shape
    printed = invoke(
        *train(folder, "convnext_atto", tmp_path / "run", "--dry-run"),
        *("--validation-split=0", "--batch-size=2", "--image-size=32"),
    )
    assert "│ dog        │      2 │\n│ cat        │      1 │\n" in printed
    assert "│ (no label) │      1 │" in printed
    assert "loss" in printed and not (tmp_path / "run").exists()


@long_where_compiled
def test_the_other_task_is_named(colors, model, tmp_path, run_command):
    output = tmp_path / "run"
    for task, other, path in (
        ("single-label", "--task multi-label", colors),
        ("multi-label", "--task single-label", "digits"),
    ):
        command = train(path, model, output, "--loader=python", task=task)
        status, _, errors = run_command(*command)
        assert status == 2 and other in errors, errors
    assert not output.exists()


@long_where_compiled
def test_a_list_is_trained_on_and_measured(colors, model, tmp_path):
    """A file of names and labels in place of arrays."""
    arrays = np.load(colors)
    lines = ["file;tags;subset"]
    rows = [["file", *NAMES, "subset"]]
    for number, (image, row) in enumerate(
        zip(arrays["images"], arrays["labels"])
    ):
        Image.fromarray(image).save(tmp_path / f"{number}.png")
        tags = "/".join(x for x, has in zip(NAMES, row) if has)
        part = "val" if number % 4 == 0 else "train"
        lines.append(f'{number}.png;"{tags}";{part}')
        rows.append([f"{number}.png", *map(str, row), part])
    path = tmp_path / "colors.csv"
    path.write_text("\n".join(lines))
    output = tmp_path / "run"
    more = ("--label-column", "tags", "--label-separator", "/", "--json")
    summary = json.loads(invoke(*train(path, model, output, *more)))
    assert summary["settings"]["data"]["images"] == 30
    command = ("evaluate", "--data", path, "--model", output / "best.keras")
    found = json.loads(invoke(*command, *more))
    assert found["images"] == 10
    expected = summary["best"]["val_map_macro"]
    assert found["figures"]["map_macro"] == pytest.approx(expected, abs=1e-6)
    # The same with a column for each label.
    path.write_text("\n".join(",".join(row) for row in rows))
    for more in ((), ("--label-columns", ",".join(NAMES))):
        again = json.loads(invoke(*command, *more, "--json"))
        assert again["classes"] == found["classes"]


@long_where_compiled
def test_objects_are_measured_as_labels(tmp_path, run_command):
    path = object_files.write_coco(tmp_path / "coco")
    keras.utils.set_random_seed(1)
    model = ConvNeXt(
        (1,),
        (8,),
        input_shape=(SIZE, SIZE, 3),
        classes=object_files.NAMES,
        classifier_activation="sigmoid",
    )
    model.save(tmp_path / "tagger.keras")
    command = ("evaluate", "--data", path, "--model", tmp_path / "tagger.keras")
    found = json.loads(invoke(*command, "--json"))
    source = data.Tags(data.read_coco(path))
    expected = evaluate(model, source, verbose=False)
    assert found["images"] == len(source) == 3
    assert found["figures"] == pytest.approx(expected.figures, abs=1e-12)
    assert found["classes"] == expected.as_dict()["classes"]
    status, _, error = run_command(*command, "--label-separator", "/")
    assert status == 2 and "`--label-separator` is for lists" in error
