"""The roadmap's networks cost what the paper says, and end at ConvNeXt."""

import json
import sys

import keras
import numpy as np
import pytest
from conftest import LONG_WHERE_COMPILED
from conftest import predict
from conftest import random_images
from typer.testing import CliRunner

import keras_convnext
from keras_convnext import profile
from keras_convnext import roadmap
from keras_convnext.cli import app
from keras_convnext.data import Arrays
from keras_convnext.models.profiling import without_numbers

pytestmark = LONG_WHERE_COMPILED

MISPRINTS = {("tiny", "layer_norm"): 4.15}


def test_the_steps_are_the_papers_in_order():
    assert list(roadmap.STEPS) == [
        "resnet",
        "recipe",
        "stage_ratio",
        "patchify_stem",
        "depthwise_conv",
        "increase_width",
        "inverted_bottleneck",
        "move_depthwise_up",
        "kernel_5",
        "kernel_7",
        "kernel_9",
        "kernel_11",
        "gelu",
        "fewer_activations",
        "fewer_norms",
        "layer_norm",
        "separate_downsampling",
    ]
    kept = [x.name for x in roadmap.STEPS.values() if not x.kept]
    assert kept == ["kernel_9", "kernel_11"]
    steps = roadmap.STEPS
    assert steps["fewer_activations"].accuracy == {"tiny": 81.27, "base": 82.71}
    assert steps["kernel_11"].gflops == {"tiny": 4.29, "base": 15.13}


def test_accuracies_are_those_of_the_papers_tables():
    """Tables 10 and 11, typed once more."""
    expected = {
        "tiny": "76.13 78.82 79.36 79.51 78.28 80.50 80.64 79.92 80.35 80.57 "
        "80.57 80.47 80.62 81.27 81.41 81.47 81.97",
        "base": "78.20 81.14 81.33 81.59 80.54 81.85 82.64 82.04 82.32 82.30 "
        "82.27 82.18 82.19 82.71 83.17 83.35 83.60",
    }
    for regime, numbers in expected.items():
        found = [x.accuracy[regime] for x in roadmap.STEPS.values()]
        assert found == [float(number) for number in numbers.split()]


# Such as change the count; all 34 in `make test-long`.
QUICK = {
    ("tiny", "resnet"),
    ("tiny", "inverted_bottleneck"),
    ("tiny", "kernel_9"),
    ("tiny", "layer_norm"),
}


@pytest.mark.parametrize(
    "regime, step",
    [
        pytest.param(
            regime,
            step,
            marks=() if (regime, step) in QUICK else pytest.mark.long,
        )
        for regime in ("tiny", "base")
        for step in roadmap.STEPS
    ],
)
def test_steps_cost_what_the_paper_says(regime, step):
    with without_numbers():
        found = profile(roadmap.build(step, regime)).macs / 1e9
    printed = roadmap.STEPS[step].gflops[regime]
    expected = MISPRINTS.get((regime, step), printed)
    assert found == pytest.approx(expected, rel=0.01)


def test_the_way_begins_at_resnet_50():
    with without_numbers():
        model = roadmap.build("resnet")
    trainable = sum(
        int(np.prod(weight.shape)) for weight in model.trainable_weights
    )
    assert trainable == 25_557_032  # torchvision's resnet50
    assert profile(model).macs == 4_089_184_256


# The first steps with another kind of layer than those before.
CHANGES = (
    *("resnet", "patchify_stem", "depthwise_conv", "gelu"),
    *("fewer_activations", "fewer_norms", "layer_norm"),
)


@pytest.mark.parametrize(
    "regime, name",
    [
        ("tiny", "convnext_tiny"),
        pytest.param("base", "convnext_base", marks=pytest.mark.long),
    ],
)
def test_the_way_ends_at_convnext(regime, name):
    with without_numbers():
        last = roadmap.build("separate_downsampling", regime)
        own = keras_convnext.create_model(name, weights=None)
    assert last.variant == own.variant
    config, expected = (model.get_config() for model in (last, own))
    assert config["layers"] == expected["layers"]
    assert [x.path for x in last.weights] == [x.path for x in own.weights]


@pytest.mark.every_backend
def test_weights_go_from_the_last_step_to_convnext_and_back(tmp_path):
    last = roadmap.build("separate_downsampling", "small", classes=3)
    images = random_images((2, 32, 32, 3))
    own = keras_convnext.ConvNeXt(
        (1, 1, 2, 1),
        (24, 48, 96, 192),
        input_shape=(32, 32, 3),
        classes=3,
    )
    assert np.abs(predict(last, images) - predict(own, images)).max() > 1e-6
    last.save_weights(tmp_path / "last.weights.h5")
    own.load_weights(tmp_path / "last.weights.h5")
    np.testing.assert_array_equal(predict(last, images), predict(own, images))


@pytest.mark.parametrize(
    "step",
    [
        pytest.param(x, marks=[] if x in CHANGES else pytest.mark.long)
        for x in roadmap.STEPS
    ],
)
def test_every_step_changes_what_it_says(step):
    model = roadmap.build(step, "small", classes=3, drop_path_rate=0.1)
    kinds = [type(layer).__name__ for layer in model.layers]
    number = list(roadmap.STEPS).index(step)
    order = {name: i for i, name in enumerate(roadmap.STEPS)}
    has_batch_norm = "BatchNormalization" in kinds
    assert has_batch_norm == (number < order["layer_norm"])
    assert ("MaxPooling2D" in kinds) == (number < order["patchify_stem"])
    assert ("DepthwiseConv2D" in kinds) == (number >= order["depthwise_conv"])
    activations = {
        layer.activation.__name__
        for layer in model.layers
        if isinstance(layer, keras.layers.Activation)
        and layer.name != "head_activation"
    }
    assert activations == {"gelu" if number >= order["gelu"] else "relu"}
    inside = [
        layer.name
        for layer in model.layers
        if layer.name.startswith("stage_1_block_0")
    ]
    assert len([x for x in inside if x.endswith("activation")]) == (
        1 if number >= order["fewer_activations"] else 3
    )
    norms = [x for x in inside if x.endswith("norm")]
    assert len(norms) == (1 if number >= order["fewer_norms"] else 4)
    assert predict(model, random_images((1, 32, 32, 3))).shape == (1, 3)


@pytest.mark.parametrize("step", ["gelu", "separate_downsampling"])
def test_classes_may_have_names(step):
    model = roadmap.build(step, "small", classes=["cat", "dog"])
    assert model.class_names == ["cat", "dog"]
    assert model.output_shape == (None, 2)


def test_unknown_steps_and_regimes_are_told():
    with pytest.raises(ValueError, match="`step` must be one of"):
        roadmap.build("kernel_13")
    with pytest.raises(ValueError, match="`regime` must be one of"):
        roadmap.build("gelu", "huge")


def test_the_table_prints():
    result = CliRunner().invoke(app, ["roadmap", "--step", "kernel_9"])
    assert result.exit_code == 0, result.output
    row = result.output.splitlines()[-1]
    assert row.startswith("| (kernel size 9) | 26.14 M | 4.21 | 80.57 | 4.21")


def test_bad_studies_are_refused_at_once(tmp_path):
    data = Arrays(np.zeros((4, 8, 8, 3), "uint8"), [0, 1, 0, 1])
    for call in (
        lambda **options: roadmap.study(data, data, tmp_path / "s", **options),
        roadmap.table,
    ):
        with pytest.raises(ValueError, match="Did you mean kernel_11"):
            call(steps=["resnet", "kernel_13"])
        with pytest.raises(ValueError, match="`regime` must be one of"):
            call(regime="huge")
    assert not (tmp_path / "s").exists()


@pytest.fixture
def no_training(monkeypatch):
    """What the study builds and trains costs nothing, and reaches 50 %."""
    result = {"metrics": {"val_accuracy": 0.5}}
    study = sys.modules["keras_convnext.tasks.roadmap.study"]
    monkeypatch.setattr(study.training, "train", lambda *_, **__: result)
    monkeypatch.setattr(keras_convnext.data, "open_splits", both_parts)


def both_parts(_):
    return 2 * (Arrays(np.zeros((2, 8, 8, 3), "uint8"), [0, 1]),)


def study_command(output):
    options = ("--seeds", "2", "--step", "separate_downsampling")
    return ("roadmap", "--train", "digits", *options, "--output", output)


def test_a_study_prints_json_alone(run_command, no_training, tmp_path):
    command = study_command(tmp_path)
    status, printed, said = run_command(*command, "--json")
    assert status == 0, said
    assert json.loads(printed)[0]["measured"] == [0.5, 0.5]
    assert "separate_downsampling, seed 1" in said


def test_a_study_of_any_length_warms_up_for_the_same_part(
    no_training, tmp_path
):
    data = Arrays(np.zeros((4, 8, 8, 3), "uint8"), [0, 1, 0, 1])
    options = {"steps": ["separate_downsampling"], "epochs": 5, "seeds": 1}
    roadmap.study(data, data, tmp_path, **options)
    page = " ".join((tmp_path / "roadmap.md").read_text().split())
    assert "epochs 5 warmup epochs 0.5 batch size" in page
    assert "| 50.00 |" in page  # one seed has no deviation
    again = tmp_path / "two"
    again.mkdir()
    roadmap.study(data, data, again, **{**options, "seeds": 2})
    assert "| 50.00 ± 0.00 |" in (again / "roadmap.md").read_text()


def test_a_study_goes_on_without_matplotlib(
    run_command, no_training, tmp_path, monkeypatch
):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    status, printed, said = run_command(*study_command(tmp_path))
    assert status == 0, said
    assert 'No roadmap.png without matplotlib: pip install "keras-' in said
    written = sorted(path.name for path in tmp_path.iterdir())
    assert written == ["roadmap.json", "roadmap.md"]
    assert "roadmap.png" not in printed


@pytest.mark.long
def test_a_study_trains_draws_and_goes_on(tmp_path, monkeypatch):
    generator = np.random.default_rng(0)
    labels = np.arange(48) % 2
    # Dark and bright noise: anything that learns tells them apart.
    images = (
        generator.integers(0, 128, (48, 32, 32, 3))
        + 120 * labels[:, None, None, None]
    )
    data = Arrays(images.astype("uint8"), labels)
    steps = ["recipe", "separate_downsampling"]
    options = {"steps": steps, "epochs": 2, "seeds": 2}
    rows = roadmap.study(data, data, tmp_path, **options)
    # The recipe's step changes no layer.
    assert [row["step"] for row in rows] == ["separate_downsampling"]
    assert all(len(row["measured"]) == 2 for row in rows)
    assert all(0 <= x <= 1 for row in rows for x in row["measured"])
    saved = json.loads((tmp_path / "roadmap.json").read_text())
    assert saved["rows"] == rows
    assert (tmp_path / "roadmap.png").stat().st_size > 5000
    page = (tmp_path / "roadmap.md").read_text()
    assert f"| {rows[0]['title']} | " in page

    def no_training(*_, **__):
        raise AssertionError("trained again")

    monkeypatch.setattr(keras.Model, "fit", no_training)
    again = roadmap.study(data, data, tmp_path, **options)
    assert [row["measured"] for row in again] == [
        row["measured"] for row in rows
    ]
