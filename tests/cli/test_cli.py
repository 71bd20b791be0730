"""The command line, apart from the work that it starts."""

import dataclasses
import json
import runpy
import sys

import numpy as np
import pytest
from conftest import long_where_compiled
from runs import invoke

import keras_convnext
from keras_convnext import VARIANTS
from keras_convnext.cli.training_tasks import TASKS

pytestmark = pytest.mark.once


def test_help_shows_commands_and_examples():
    assert "demo" in invoke("--help").output
    assert "keras-convnext demo --output" in invoke("demo", "--help").output
    assert "'convnextv2_*'" in invoke("models", "--help").output


def test_models_lists_by_pattern_and_as_json():
    assert "convnextv2_huge" in invoke("models", "convnextv2_*").output
    rows = json.loads(invoke("models", "--json").output)
    assert [row["name"] for row in rows] == list(VARIANTS)


def test_models_without_a_match_fails():
    result = invoke("models", "resnet*")
    assert result.exit_code == 1
    assert "no model matches 'resnet*'" in result.output


@pytest.fixture
def dry_run(run_command, tmp_path):
    """What `train --dry-run` prints, with one space between words."""
    images, labels = np.zeros((16, 32, 32, 3), "uint8"), np.arange(16) % 2
    data = tmp_path / "data.npz"
    np.savez(data, images=images, labels=labels)

    def run(recipe, *options, model="convnext_atto"):
        status, printed, said = run_command(
            *("train", "--data", data, "--output", tmp_path / "run"),
            *("--model", model, "--weights", "none", "--recipe", recipe),
            *("--image-size", 32, "--batch-size", 8, *options, "--dry-run"),
        )
        return status, " ".join(printed.split()), " ".join(said.split())

    return run


@long_where_compiled
def test_a_model_by_name_trains_in_the_precision_asked_for(
    dry_run, tmp_path, monkeypatch
):
    built = []
    build = keras_convnext.recipes.Recipe.build

    def noted(*args, **options):
        built.append(build(*args, **options))
        return built[-1]

    monkeypatch.setattr(keras_convnext.recipes.Recipe, "build", noted)
    precision = ("--dtype", "mixed_bfloat16")
    status, *_, said = dry_run("small_data", *precision, model="test_convnext")
    assert status == 0, said
    (model,) = built
    assert "bfloat16" in {layer.compute_dtype for layer in model.layers}
    assert model.output.dtype == "float32"
    model.save(tmp_path / "model.keras")
    path = tmp_path / "model.keras"
    status, _, said = dry_run("small_data", *precision, model=path)
    assert status == 2 and "`.keras` file has its own" in said


@long_where_compiled
def test_options_reach_the_training(run_command, tmp_path, monkeypatch):
    given = {}

    def train(model, recipe, data, output, validation, **options):
        given.update(options)
        return {"best": {}}

    classify = dataclasses.replace(TASKS["single-label"], train=train)
    monkeypatch.setitem(TASKS, "single-label", classify)
    images, labels = np.zeros((16, 32, 32, 3), "uint8"), np.arange(16) % 2
    data, output = tmp_path / "data.npz", tmp_path / "run"
    np.savez(data, images=images, labels=labels)
    options = {
        "seed": 5,
        "resume": "never",
        "checkpoint_minutes": 1.5,
        "checkpoint_steps": 7,
        "keep": 2,
        "on_error": "raise",
        "loader": "python",
        "mixup_group": 4,
    }
    words = [
        word
        for name, value in options.items()
        for word in (f"--{name.replace('_', '-')}", value)
    ]
    status, _, said = run_command(
        *("train", "--data", data, "--output", output),
        *("--model", "test_convnext", "--weights", "none"),
        *("--image-size", 32, "--batch-size", 8, "--rematerialize", *words),
    )
    assert status == 0, said
    assert given == {**options, "rematerialize": True, "log_to": ()}


@long_where_compiled
def test_given_fields_need_no_figure_of_the_table(dry_run, tmp_path):
    status, _, said = dry_run("imagenet1k")
    assert status == 2 and "has a `--drop-path-rate` for the sizes" in said
    options = ("--drop-path-rate", "0.15")
    status, printed, said = dry_run("imagenet1k", *options)
    assert status == 0, said
    assert "drop path rate 0.15" in printed
    # Files of models have theirs.
    model = keras_convnext.create_model(
        "convnext_atto",
        weights=None,
        classes=2,
        classifier_activation=None,
        input_shape=(32, 32, 3),
        drop_path_rate=0.15,
    )
    model.save(tmp_path / "model.keras")
    again = dry_run("imagenet1k", model=tmp_path / "model.keras")
    assert again == (0, printed, "")


@pytest.mark.parametrize(
    "option, text, expected",
    [
        ("batch-size", "1,024", "a whole number, such as 32"),
        ("batch-size", "8.0", "a whole number, such as 32"),
        ("epochs", "none", "a whole number, such as 32"),
        ("learning-rate", "1,5", "a number, such as 0.1"),
        ("weight-decay", "none", "a number, such as 0.1"),
        ("crop-scale", "0.35", "two numbers, such as 0.35,1"),
        ("crop-ratio", "1,2,3", "two numbers, such as 0.35,1"),
        ("crop-ratio", "none", "two numbers, such as 0.35,1"),
    ],
)
@pytest.mark.parametrize("recipe", ["digits", "small_data", "v2_finetune"])
def test_values_of_the_wrong_kind_are_told(
    option, text, expected, recipe, dry_run
):
    status, _, said = dry_run(recipe, f"--{option}", text)
    assert status == 2
    assert f"`--{option}` expects {expected}. Received: '{text}'" in said


@long_where_compiled
@pytest.mark.parametrize(
    "recipe, options, shown",
    [
        ("digits", ("--crop-scale", "0.35,1"), "crop scale 0.35 to 1"),
        ("small_data", ("--crop-scale", "none"), "crop scale None"),
        ("small_data", ("--ema-decay", "0.9"), "ema decay 0.9"),
        ("digits", ("--ema-decay", "none"), "ema decay None"),
        ("digits", ("--rand-augment", "rand-m5-inc1"), "augment rand-m5-inc1"),
        ("small_data", ("--rand-augment", "None"), "rand augment None"),
        ("small_data", ("--warmup-epochs", "1"), "warmup epochs 1"),
        ("small_data", ("--warmup", "exclusive"), "warmup exclusive"),
    ],
)
def test_values_are_of_the_kind_of_their_field(recipe, options, shown, dry_run):
    status, printed, said = dry_run(recipe, *options)
    assert status == 0, said
    assert f"{shown} " in printed


@long_where_compiled
def test_the_rate_of_each_size_scales_with_the_batch(dry_run):
    status, printed, said = dry_run("v2_finetune")
    assert status == 0, said
    assert "learning rate 6.25e-06" in printed  # 8e-4 for 1024 images
    _, printed, _ = dry_run("v2_finetune", "--learning-rate", "0.003")
    assert "learning rate 0.003" in printed


@pytest.mark.parametrize("epochs", ["0", "many"])
def test_bad_options_end_with_status_2(epochs):
    assert invoke("demo", "--epochs", epochs).exit_code == 2


def test_errors_are_one_line_without_a_traceback(tmp_path, monkeypatch, capsys):
    blocked = tmp_path / "file"
    blocked.touch()
    words = ["keras_convnext", "demo", "--output", str(blocked)]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as exit:  # as `python -m` runs it
        runpy.run_module("keras_convnext", run_name="__main__")
    assert exit.value.code == 2
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert str(blocked) in said


@pytest.mark.parametrize(
    "command, missing",
    [
        (("plan", "--devices", "8"), ("--model",)),
        (("train",), ("--data", "--output")),
        (("records",), ("data", "--output")),
    ],
)
def test_all_that_is_missing_is_named_at_once(command, missing, run_command):
    status, _, error = run_command(*command)
    assert status == 2
    assert f"{' and '.join(map(repr, missing))}." in " ".join(
        error.replace("\u2502", " ").split()
    )
