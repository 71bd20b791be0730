"""`train`, `evaluate` and `predict` for numbers, as a user types them."""

import json

import devices
import keras
import numpy as np
import pytest
import runs
from conftest import long_where_compiled
from PIL import Image
from runs import SIZE

from keras_convnext import ConvNeXt
from keras_convnext import evaluate
from keras_convnext.data import TargetList

FIELDS = {
    "epochs": 3,
    "warmup_epochs": 1,
    "batch_size": 8,
    "image_size": SIZE,
    "learning_rate": 0.01,
}


@pytest.fixture(scope="module")
def ages(tmp_path_factory):
    """A list of pictures that are the brighter, the older."""
    folder = tmp_path_factory.mktemp("ages")
    generator = np.random.default_rng(0)
    lines = ["file;age;height;subset"]
    for number in range(40):
        level = generator.uniform()
        pixels = generator.integers(0, 64, (SIZE, SIZE, 3)) + 180 * level
        Image.fromarray(pixels.astype("uint8")).save(folder / f"{number}.png")
        part = "val" if number % 4 == 0 else "train"
        lines.append(f"{number}.png;{80 * level:.3f};{2 * level};{part}")
    path = folder / "ages.csv"
    path.write_text("\n".join(lines))
    return path


@pytest.fixture
def model(tmp_path):
    return write_model(tmp_path / "small.keras", 1)


def write_model(path, classes, **options):
    keras.utils.set_random_seed(0)
    options = {"classifier_activation": None, **options}
    ConvNeXt(
        (1, 1),
        (8, 16),
        input_shape=(SIZE, SIZE, 3),
        classes=classes,
        **options,
    ).save(path)
    return path


def train(data, model, output, *more):
    fields = [f"--{k.replace('_', '-')}={x}" for k, x in FIELDS.items()]
    return [
        *("train", "--task", "regression", "--data", data, "--model", model),
        *("--output", output, "--loader", "python", *fields, *more),
    ]


def invoke(*arguments):
    result = runs.invoke(*map(str, arguments))
    assert result.exit_code == 0, (result.output, result.exception)
    return result.stdout


@long_where_compiled
def test_from_a_list_to_numbers(ages, model, tmp_path):
    output, best = tmp_path / "run", tmp_path / "run" / "best.keras"
    more = ("--target", "age")
    printed = invoke(*train(ages, model, output, *more))
    summary = json.loads((output / "run.json").read_text())
    value = summary["best"]["val_r2"]
    assert f"best val_r2: {value:.4g}\n" in printed
    assert summary["settings"]["data"]["images"] == 30
    # The model knows which column it predicts.
    command = ("evaluate", "--data", ages, "--model", best)
    plot = tmp_path / "ages.png"
    found = json.loads(invoke(*command, "--json", "--plot", plot))
    assert found["figures"]["r2"] == pytest.approx(value, abs=1e-5)
    assert found["images"] == 10 and found["targets"][0]["target"] == "age"
    assert Image.open(plot).width > 100
    same = evaluate(keras.saving.load_model(best), str(ages), verbose=False)
    assert same.figures == pytest.approx(found["figures"], rel=1e-6)
    with pytest.raises(AssertionError, match="pass --force"):
        invoke(*command, "--plot", plot)
    image = ages.parent / "0.png"
    (result,) = json.loads(invoke("predict", image, "--model", best, "--json"))
    (prediction,) = result["predictions"]
    value = same.predicted[0, 0]
    assert prediction["target"] == "age"
    assert prediction["value"] == pytest.approx(value, rel=1e-5)
    shown = invoke("predict", image, "--model", best)
    assert shown == f"{image}\nage: {prediction['value']:g}\n"


@long_where_compiled
def test_several_targets_are_told_before_training(ages, tmp_path):
    model = write_model(tmp_path / "two.keras", 2)
    printed = invoke(
        *train(ages, model, tmp_path / "run", "--target", "age,height"),
        *("--dry-run", "--loss", "squared"),
    )
    values = TargetList(ages, "age", split_column="subset").split("train")
    mean, std = values.labels.mean(), values.labels.std()
    assert f"mean {mean:.4g}, standard deviation {std:.4g}\n" in printed
    assert "height: 0." in printed and "squared" in printed


@long_where_compiled
def test_wrong_uses_are_told(ages, model, tmp_path, run_command):
    def refused(*command):
        status, _, errors = run_command(*command)
        assert status == 2, errors
        return errors

    output = tmp_path / "run"
    errors = refused(*train(ages, model, output))
    assert "Name it: `--target`" in " ".join(errors.split())
    errors = refused(*train("digits", model, output))
    assert "--task single-label" in errors
    more = ("--target", "age", "--label-column", "subset")
    assert "--label-column" in refused(*train(ages, model, output, *more))
    more = ("--target", "age", "--label-smoothing", "0.1")
    assert "no classes to spread" in refused(*train(ages, model, output, *more))
    assert not output.exists()
    softmax = tmp_path / "softmax.keras"
    write_model(softmax, 3, classifier_activation="softmax")
    more = ("--data", ages, "--target", "age", "--model", softmax)
    assert "`--target` is for numbers" in refused("evaluate", *more)
    more = ("--data", "digits", "--plot", tmp_path / "a.png", "--model", model)
    assert "`--plot` is for models that" in refused("evaluate", *more)
    more = ("--plot", tmp_path / "a.txt", "--model", model)
    assert "`--plot` must be" in refused("evaluate", "--data", ages, *more)


@pytest.mark.long
def test_two_devices_train_as_one(ages, model, tmp_path):
    """Of two processes on JAX one alone would have to measure all images."""
    if keras.backend.backend() == "jax":
        pytest.skip("one process of several devices: test_distribution.py")
    command = train(ages, model, tmp_path / "two", "--target", "age")
    more = ["--deterministic", "--mixup-alpha", "0.2", "--mixup-group", "4"]
    words = [*map(str, command), *more]
    words[words.index("python")] = devices.LOADER
    devices.finish(*devices.two_devices(words))
    words[words.index(str(tmp_path / "two"))] = str(tmp_path / "one")
    devices.finish(devices.start(words))
    found, expected = (
        json.loads((tmp_path / name / "run.json").read_text())["metrics"]
        for name in ("two", "one")
    )
    del found["images_per_second"], expected["images_per_second"]
    assert found == pytest.approx(expected, rel=1e-3)
    ends = [
        keras.saving.load_model(tmp_path / name / "last.keras").get_weights()
        for name in ("two", "one")
    ]
    for one, other in zip(*ends, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)
